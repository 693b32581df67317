"""Which ready tasks may start now; the others wait in a line of their partition (`lane_lines`).

A task may be blocked by: a cancel (it ends here), a second redrive (it is skipped), a pause of all kinds or of its
kind, and the limits of its kind: how many start a second, run at once, and run at once with one key (`kind_limits`).

A task waits in the line of its kind, or in that of its key. Nobody overtakes: while tasks wait in a line, later ones
wait behind them. A task that takes its turn by key keeps that while it waits for its kind. So tasks of one key start in
the order in which they were asked for.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from agents.engine.kind_limits import share_of_lane
from agents.engine.kind_rates import KindRates
from app.rules.waiting_rows import kind_and_key, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agents.engine.attempt import Attempt, Ready
    from agents.engine.attempt_outcomes import AttemptOutcomes
    from agents.engine.kind_limits import KindLimits
    from agents.engine.lane import Lane
    from agents.engine.lane_lines import Place
    from agents.engine.redriven_tasks import RedrivenTasks
    from agents.engine.strays import Strays
    from app.rules.control import ControlState
    from ebs.function import StartLimits

_RELEASED_AT_ONCE = 64
"""Tasks of one line that are released before other lines have their turn."""
_LOOKED_AT = 1_000
"""Lines that the watchdog looks at."""


class Admission:
    """Lets tasks start, or lets them wait. `released` has tasks that may go on, each with the line that it waited in.

    `moved` are lines in which tasks may be able to go on: they are looked at when nothing is released. `opening` are
    lanes whose lines may not go on yet (`Lane.has_read_lines`). The engine's inner loop holds all three.
    """

    def __init__(
        self,
        control: ControlState,
        limits: KindLimits,
        outcomes: AttemptOutcomes,
        redriven: RedrivenTasks,
        strays: Strays,
        *,
        partition_count: int,
        on_release: Callable[[], None],
    ) -> None:
        """`on_release` hears when something may go on that waited."""
        self.released: deque[tuple[Ready, bytes]] = deque()
        self.moved: deque[tuple[Lane, bytes]] = deque()
        self.opening: list[Lane] = []
        self._control = control
        self._limits = limits
        self._outcomes = outcomes
        self._redriven = redriven
        self._strays = strays
        self._partition_count = partition_count
        self._on_release = on_release
        self._rates = KindRates(limits, partition_count=partition_count, on_token=self._has_token)
        self._own: deque[Lane] = deque()

    def admits(self, ready: Ready) -> bool:
        """Return whether a task may start now; if not, all that there is to do about it is done."""
        lane, _, task, _ = ready
        if lane.lost or self._is_over(ready):
            return False
        if task.redrive is not msgspec.UNSET and self._redriven.is_repeated(ready):
            self._outcomes.pass_over(ready)
            self._end_turns(ready)
            return False
        if not (self._control.has_pauses or self._limits.has_any) and lane.lines.is_empty:
            return True
        return self._may_go_on(ready)

    def goes_on(self, ready: Ready, line: bytes) -> bool:
        """Return whether a task may start that was released from a line; if not, all that there is to do is done."""
        lane, _, task, place = ready
        if lane.lost or self._is_over(ready):
            return False
        if self._control.is_paused(task.kind):
            # Just now, by the breaker: nobody has said so.
            self.released.appendleft((ready, line))
            self._put_back_paused()
            return False
        if kind_and_key(line)[1]:
            return self._may_go_on(ready)
        if self._has_turn_by_key(ready):
            return True
        # What it took of its kind's limits is for another one.
        self._rates.give_back(task.kind)
        lane.lines.end_turn(line, place)
        self._move(lane, line)
        return False

    def cancel(self, ready: Ready) -> None:
        """End a cancelled task; the next one of its lines has its turn."""
        self._outcomes.cancel(ready)
        self._end_turns(ready)

    def end(self, attempt: Attempt) -> None:
        """Note that a task no longer runs. It keeps its turn by key if others wait for its next attempt."""
        lane = attempt.lane
        if not lane.lines.turns:
            return
        if attempt.next_turn is not None:
            line, place = attempt.next_turn
            if lane.lines.end_turn(line, attempt.place):
                lane.lines.give_turn(line, place)
        self._end_turns(attempt)

    def lane_ready(self, lane: Lane) -> None:
        """Go on with what waits in a lane."""
        self._own.append(lane)
        if lane.window is not None:
            for line, key in lane.window.holders.items():
                lane.lines.give_turn(line, key)
        self.opening.append(lane)
        self._rates.share(len(self._own))
        self._on_release()

    def lane_lost(self, lane: Lane) -> None:
        """Forget a lane: its next owner has what waits there."""
        self._own.remove(lane)
        self.opening[:] = [one for one in self.opening if one is not lane]
        self._keep_released([one for one in self.released if one[0].lane is not lane])
        self._rates.share(len(self._own))

    def control_changed(self) -> None:
        """Look at all lines again, under the commands in force now; end cancelled tasks."""
        self._limits.refresh()
        self._put_back_paused()
        if self._control.has_cancels:
            self._end_cancelled()
        self.moved.clear()
        for lane in self._own:
            self._move_all(lane)
        self._rates.share(len(self._own))

    def refill(self) -> None:
        """Release what may go on of the lines that moved, until there is something."""
        for lane in [one for one in self.opening if one.has_read_lines()]:
            self.opening.remove(lane)
            self._move_all(lane)
        while self.moved and not self.released:
            lane, line = self.moved.popleft()
            if not lane.lost:
                self._advance(lane, line)

    def spill(self, lane: Lane) -> None:
        """Let nothing wait in memory: what waits there fills the notes of the lane's progress."""
        for line, ready, place in lane.lines.spill():
            self._now_at(line, ready, place)

    def waiting(self) -> Iterator[tuple[str, int]]:
        """Return of each line why its tasks wait ("paused", "rate", "concurrency" or "key"), and how many do."""
        for lane in self._own:
            for line in lane.lines.names():
                yield self._why(lane, line), lane.lines.count(line)

    def forgotten(self) -> str:
        """Return a line in which tasks wait although nothing blocks them; "" if there is none.

        For the watchdog: there should be none, because everything that unblocks tasks also moves their line.
        """
        lines = ((lane, line) for lane in self._own if lane not in self.opening for line in lane.lines.names())
        for lane, line in islice(lines, _LOOKED_AT):
            kind, key = kind_and_key(line)
            limits = self._limits.of(kind)
            limit = limits.per_key if key else self._share(limits.concurrency, lane)
            if key and not lane.lines.lets_keys_go_on(kind, line_of(kind)):
                continue
            is_full = limit and not lane.lines.has_room(line, limit)
            if not is_full and (key or not (self._control.is_paused(kind) or self._rates.is_awaited(kind))):
                return f"kind {kind}, key {key}" if key else f"kind {kind}"
        return ""

    def _is_over(self, ready: Ready) -> bool:
        """End a task here that is cancelled, or belongs into another queue; returns whether it was one."""
        if self._strays.can_be and self._strays.move(ready):
            self._end_turns(ready)
            return True
        if self._control.has_cancels and self._control.is_cancelled(ready.task) is not None:
            self.cancel(ready)
            return True
        return False

    def _may_go_on(self, ready: Ready) -> bool:
        """Return whether neither a pause nor a limit blocks a task; otherwise it waits."""
        kind = ready.task.kind
        line = line_of(kind)
        if self._control.is_paused(kind) or ready.lane.lines.waits(line):
            self._wait(line, ready)
            return False
        return not self._limits.has_any or (self._has_turn_by_key(ready) and self._has_turn_by_kind(ready, line))

    def _has_turn_by_kind(self, ready: Ready, line: bytes) -> bool:
        """Return whether the limits of its kind let a task start; otherwise it waits."""
        lane, _, task, place = ready
        limits = self._limits.of(task.kind)
        share = self._share(limits.concurrency, lane)
        if limits.concurrency is not None and not share:
            self._forward(ready, limits.concurrency)
            return False
        is_full = share and not lane.lines.has_room(line, share)
        if is_full or (limits.rate_per_s is not None and not self._rates.take(task.kind, limits.rate_per_s)):
            self._wait(line, ready)
            return False
        if share:
            lane.lines.give_turn(line, place)
        return True

    def _has_turn_by_key(self, ready: Ready) -> bool:
        """Return whether a task has its turn by key, or takes it; otherwise it waits for that."""
        line = self._limits.line_of_key(ready.task)
        lines = ready.lane.lines
        if not line or lines.holds_turn(line, ready.place):
            return True
        if lines.waits(line) or not lines.has_room(line, self._limits.of(ready.task.kind).per_key or 1):
            self._wait(line, ready)
            return False
        lines.give_turn(line, ready.place)
        return True

    def _wait(self, line: bytes, ready: Ready) -> None:
        """Let a task wait behind those of a line."""
        place = ready.lane.lines.add(line, ready)
        if place != ready.place:
            self._now_at(line, ready, place)

    def _now_at(self, line: bytes, ready: Ready, place: Place | None) -> None:
        """Let a task that waits in the table keep its turn by key; it has another place now, None: it is buried."""
        lines = ready.lane.lines
        by_key = self._limits.line_of_key(ready.task) if lines.turns else b""
        if not by_key or by_key == line or not lines.end_turn(by_key, ready.place):
            return
        if place is None:
            self._move(ready.lane, by_key)
        else:
            lines.give_turn(by_key, place)

    def _advance(self, lane: Lane, line: bytes) -> None:
        """Release the next tasks of a line, as many as may go on."""
        kind, key = kind_and_key(line)
        if lane in self.opening or (key and not lane.lines.lets_keys_go_on(kind, line_of(kind))):
            return
        limits = self._limits.of(kind)
        limit = limits.per_key if key else limits.concurrency
        for _ in range(_RELEASED_AT_ONCE):
            if not lane.lines.waits(line) or not self._may_leave(lane, line, limits):
                return
            ready = lane.lines.take(line)
            if not key:
                self._let_keys_go_on(lane, kind, line, ready)
            if ready is None:
                continue
            if limit is not None and not key and not self._share(limit, lane):
                self._forward(ready, limit)
                continue
            if limit is not None:
                lane.lines.give_turn(line, ready.place)
            self.released.append((ready, line))
        if lane.lines.waits(line):
            self.moved.append((lane, line))

    def _let_keys_go_on(self, lane: Lane, kind: str, line: bytes, taken: Ready | None) -> None:
        """Look at the lines of a kind's keys if they have waited for its own line until now."""
        rows = lane.lines.rows
        if rows is not None and kind in rows.keys_behind and lane.lines.lets_keys_go_on(kind, line, taken):
            self._move_all(lane)

    def _may_leave(self, lane: Lane, line: bytes, limits: StartLimits) -> bool:
        """Return whether the next task of a line may leave it, and take what that needs of a rate."""
        kind, key = kind_and_key(line)
        if key:
            return limits.per_key is None or lane.lines.has_room(line, limits.per_key)
        if self._control.is_paused(kind):
            return False
        if limits.concurrency is not None:
            share = self._share(limits.concurrency, lane)
            if not share or not lane.lines.has_room(line, share):
                return not share
        return limits.rate_per_s is None or self._rates.take(kind, limits.rate_per_s)

    def _share(self, limit: int | None, lane: Lane) -> int:
        """Return how many tasks of a kind may run at once in a lane, 0: none, or there is no limit."""
        return 0 if limit is None else share_of_lane(limit, lane.partition.number, self._partition_count)

    def _forward(self, ready: Ready, limit: int) -> None:
        """Pass a request on to a partition that has a share of its kind's limit: there are fewer than partitions."""
        lane = ready.lane
        self._strays.send_on(ready, lane.topic, lane.partition.number % limit)
        self._end_turns(ready)

    def _has_token(self, kind: str) -> None:
        """Look at the lines of a kind again: there is a token. Lanes take turns."""
        self._own.rotate(-1)
        line = line_of(kind)
        for lane in self._own:
            if lane.lines.waits(line):
                self._move(lane, line)

    def _move_all(self, lane: Lane) -> None:
        """Look at all lines of a lane. Those of kinds first: one of their tasks may have had its turn by key."""
        for line in sorted(lane.lines.names(), key=lambda line: kind_and_key(line)[1] != ""):
            self._move(lane, line)

    def _move(self, lane: Lane, line: bytes) -> None:
        self.moved.append((lane, line))
        self._on_release()

    def _end_turns(self, ended: Ready | Attempt) -> None:
        """Take back the turns of a task: the next ones of its lines have them."""
        lines = ended.lane.lines
        if not lines.turns:
            return
        task = ended.task
        key = task.object_id if task.key is msgspec.UNSET else task.key
        for line in (line_of(task.kind), line_of(task.kind, key)):
            if lines.end_turn(line, ended.place) and lines.waits(line):
                self._move(ended.lane, line)

    def _put_back_paused(self) -> None:
        """Let what was released wait again if its kind is paused now: in the same order, before all others."""
        if not self._control.has_pauses:
            return
        kept = []
        for ready, from_line in reversed(self.released):
            if ready.lane.lost or not self._control.is_paused(ready.task.kind):
                kept.append((ready, from_line))
                continue
            line = line_of(ready.task.kind)
            ready.lane.lines.end_turn(line, ready.place)
            ready.lane.lines.put_back(line, ready)
        self._keep_released(kept[::-1])

    def _keep_released(self, kept: list[tuple[Ready, bytes]]) -> None:
        """Keep these of the released ones; the queue stays the same object, as the engine's inner loop holds it."""
        self.released.clear()
        self.released.extend(kept)

    def _end_cancelled(self) -> None:
        """End the cancelled tasks now that are in memory: the pool may be busy for a long time."""

        def is_cancelled(ready: Ready) -> bool:
            return self._control.is_cancelled(ready.task) is not None

        cancelled = [ready for ready, _ in self.released if is_cancelled(ready) and not ready.lane.lost]
        self._keep_released([one for one in self.released if not is_cancelled(one[0])])
        for lane in self._own:
            cancelled += lane.lines.take_where(is_cancelled)
        for ready in cancelled:
            self.cancel(ready)

    def _why(self, lane: Lane, line: bytes) -> str:
        kind, key = kind_and_key(line)
        if key:
            return "key"
        if self._control.is_paused(kind):
            return "paused"
        share = self._share(self._limits.of(kind).concurrency, lane)
        return "concurrency" if share and not lane.lines.has_room(line, share) else "rate"
