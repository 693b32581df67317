"""Which ready tasks may start now; the others are parked until nothing blocks them.

A task may be blocked by: a cancel (it ends here), a second redrive (it is skipped), a pause of all kinds or of its
kind, the rate of its kind, and with EBS_ORDER=key a running task of the same object.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec

from app.rules.rate import Throttle, share_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agents.engine.attempt import Attempt, Ready
    from agents.engine.attempt_outcomes import AttemptOutcomes
    from agents.engine.lane import Lane
    from agents.engine.redriven_tasks import RedrivenTasks
    from app.rules.control import ControlState


_CALL_EVERY_S = 0.02
"""Between two calls of tasks that wait for tokens; a bucket saves up for longer (`app.rules.rate`)."""


class Admission:
    """Lets tasks start, or parks them. `released` has the parked tasks that must be checked again."""

    def __init__(
        self,
        control: ControlState,
        outcomes: AttemptOutcomes,
        redriven: RedrivenTasks,
        *,
        by_object: bool,
        on_release: Callable[[], None],
    ) -> None:
        """Let tasks of one object start one after another if `by_object`; `on_release` hears of later releases."""
        self.released: deque[Ready] = deque()
        self._control = control
        self._outcomes = outcomes
        self._redriven = redriven
        self._by_object = by_object
        self._on_release = on_release
        self._throttle = Throttle()
        self._parked_kinds: dict[str, deque[Ready]] = {}
        self._parked_objects: dict[str, deque[Ready]] = {}
        self._busy_objects: set[str] = set()
        # Tasks of a kind that were called for a token: these take it although others wait.
        self._called: Counter[str] = Counter()
        # By kind, when its next token comes: one timer each, whatever else releases the kind meanwhile.
        self._wake_ups: dict[str, asyncio.TimerHandle] = {}

    def admits(self, ready: Ready) -> bool:
        """Return whether a task may start now; if not, all that there is to do about it is done."""
        lane, _, task, _ = ready
        control = self._control
        if lane.lost:
            return False
        if control.has_cancels and control.is_cancelled(task) is not None:
            self._outcomes.cancel(ready)
            self._pass_turn(task.object_id)
        elif task.redrive is not msgspec.UNSET and self._redriven.is_repeated(ready):
            self._outcomes.pass_over(ready)
            self._pass_turn(task.object_id)
        elif control.has_pauses and control.is_paused(task.kind):
            self._park(self._parked_kinds, task.kind, ready)
        elif self._by_object and task.object_id in self._busy_objects:
            self._park(self._parked_objects, task.object_id, ready)
        elif control.has_rates and not self._has_token(ready):
            self._park(self._parked_kinds, task.kind, ready)
        else:
            return True
        return False

    def begin(self, attempt: Attempt) -> None:
        """Note that a task of an object runs."""
        if self._by_object:
            self._busy_objects.add(attempt.task.object_id)

    def end(self, attempt: Attempt) -> None:
        """Note that a task no longer runs: the next task of the object gets its turn."""
        if self._by_object:
            self._busy_objects.discard(attempt.task.object_id)
            self._pass_turn(attempt.task.object_id)

    def control_changed(self) -> None:
        """Release all tasks that wait for a kind, under the commands in force now; end cancelled tasks."""
        self._called.clear()
        for kind in list(self._parked_kinds):
            self._release(self._parked_kinds.pop(kind))
        if self._control.has_cancels:
            self._end_cancelled()

    def lane_lost(self, lane: Lane) -> None:
        """Drop the parked tasks of a lane: its next owner reads them again. Their turns go to the next tasks."""
        self._keep_released([ready for ready in self.released if ready.lane is not lane])
        for parked in (self._parked_kinds, self._parked_objects):
            for name, waiting in list(parked.items()):
                kept = deque(ready for ready in waiting if ready.lane is not lane)
                if kept:
                    parked[name] = kept
                else:
                    del parked[name]
        for object_id in list(self._parked_objects):
            self._pass_turn(object_id)
        self._on_release()

    def share_rates(self, lane_count: int, partition_count: int) -> None:
        """Set this worker's part of each kind's rate, by its share of the partitions; check waiting tasks again."""
        shares = {kind: share_of(per_s, lane_count, partition_count) for kind, per_s in self._control.rates().items()}
        self._throttle.set_rates(shares, asyncio.get_running_loop().time())
        for kind in list(self._wake_ups):
            self._call(kind)

    def parked(self) -> Iterator[tuple[str, Ready]]:
        """Return all that is parked, and why: "paused", "rate" or "order"."""
        for kind, waiting in self._parked_kinds.items():
            why = "paused" if self._control.is_paused(kind) else "rate"
            yield from ((why, ready) for ready in waiting)
        for waiting in self._parked_objects.values():
            yield from (("order", ready) for ready in waiting)

    def forgotten(self) -> str:
        """Return the kind or object whose tasks are parked although nothing blocks them; "" if there is none.

        For the watchdog: there should be none, because everything that unblocks tasks also releases them.
        """
        for kind in self._parked_kinds:
            if not self._control.is_paused(kind) and kind not in self._wake_ups:
                return f"kind {kind}"
        for object_id in self._parked_objects:
            if object_id not in self._busy_objects and not self.released:
                return f"object {object_id}"
        return ""

    def _has_token(self, ready: Ready) -> bool:
        """Take a token of a kind's rate; if there is none, check again when there will be one."""
        kind = ready.task.kind
        if self._called[kind]:
            self._called[kind] -= 1
        elif self._parked_kinds.get(kind):
            # Other tasks of this kind wait already, and this task wakes together with them.
            return False
        loop = asyncio.get_running_loop()
        wait_s = self._throttle.take(kind, loop.time())
        if 0 < wait_s < math.inf:
            self._wake_after(kind, wait_s)
        return wait_s == 0

    def _wake_after(self, kind: str, wait_s: float) -> None:
        self._forget_wake_up(kind)
        self._wake_ups[kind] = asyncio.get_running_loop().call_later(wait_s, self._call, kind)

    def _forget_wake_up(self, kind: str) -> None:
        timer = self._wake_ups.pop(kind, None)
        if timer is not None:
            timer.cancel()

    def _park(self, parked: dict[str, deque[Ready]], name: str, ready: Ready) -> None:
        ready.lane.parked_count += 1
        parked.setdefault(name, deque()).append(ready)

    def _release(self, waiting: Iterable[Ready]) -> None:
        for ready in waiting:
            ready.lane.parked_count -= 1
            self.released.append(ready)

    def _keep_released(self, kept: Iterable[Ready]) -> None:
        """Keep these of the released ones; the queue stays the same object, as the engine's inner loop holds it."""
        self.released.clear()
        self.released.extend(kept)

    def _call(self, kind: str) -> None:
        """Release as many tasks of a kind as there are tokens, at least one: to look at all for each is a standstill.

        The others have a wake-up of their own, whatever becomes of those.
        """
        self._forget_wake_up(kind)
        waiting = self._parked_kinds.get(kind)
        if not waiting or self._control.is_paused(kind):
            return
        available = self._throttle.available(kind, asyncio.get_running_loop().time())
        count = len(waiting) if available is None else min(len(waiting), max(1, available))
        self._release([waiting.popleft() for _ in range(count)])
        if waiting:
            self._called[kind] += count
            per_s = self._control.rate_of(kind) or 1.0
            self._wake_after(kind, max(1 / per_s, _CALL_EVERY_S))
        else:
            del self._parked_kinds[kind]
        self._on_release()

    def _end_cancelled(self) -> None:
        """End the cancelled tasks now: the pool may be busy for a long time."""
        for object_id, waiting in self._parked_objects.items():
            cancelled, self._parked_objects[object_id] = self._split_cancelled(waiting)
            self._release(cancelled)
        cancelled, kept = self._split_cancelled(self.released)
        self._keep_released(kept)
        for ready in cancelled:
            if not ready.lane.lost:
                self._outcomes.cancel(ready)
        for object_id in list(self._parked_objects):
            self._pass_turn(object_id)

    def _split_cancelled(self, waiting: Iterable[Ready]) -> tuple[list[Ready], deque[Ready]]:
        """Return the cancelled tasks, and the others. In one pass: tens of thousands may wait."""
        cancelled: list[Ready] = []
        kept: deque[Ready] = deque()
        for ready in waiting:
            (kept if self._control.is_cancelled(ready.task) is None else cancelled).append(ready)
        return cancelled, kept

    def _pass_turn(self, object_id: str) -> None:
        """Release the next task of an object, if none runs; otherwise it would wait for an end that never comes."""
        waiting = self._parked_objects.get(object_id)
        if waiting is None or object_id in self._busy_objects:
            return
        if waiting:
            self._release((waiting.popleft(),))
        if not waiting:
            del self._parked_objects[object_id]
