"""Which ready tasks may start now; the others wait in a line of their partition (`lane_lines`).

A task may be blocked by: a cancel (it ends here), a second redrive (it is skipped), a pause of all kinds or of its
kind, and the limits of its kind: how many start a second, run at once, and run at once with one key (`kind_limits`).

A task waits in the line of its kind, or in that of its key, until `line_releases` lets it go on. Nobody overtakes:
while tasks wait in a line, later ones wait behind them. A task that takes its turn by key keeps that while it waits for
its kind. So tasks of one key start in the order in which they were asked for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from agents.engine.line_releases import LineReleases
from app.rules.waiting_rows import kind_and_key, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agents.engine.attempt import Attempt
    from agents.engine.attempt_outcomes import AttemptOutcomes
    from agents.engine.kind_limits import KindLimits
    from agents.engine.lane import Lane, Ready
    from agents.engine.lane_lines import Place
    from agents.engine.redriven_tasks import RedrivenTasks
    from agents.engine.strays import Strays
    from app.rules.control import ControlState


_LISTED_AFTER_S = 5.0
"""What waits in memory is a row of the table after this time, or twice this time."""


class Admission:
    """Lets tasks start, or lets them wait; `releases` lets those go on."""

    def __init__(
        self,
        control: ControlState,
        limits: KindLimits,
        outcomes: AttemptOutcomes,
        redriven: RedrivenTasks,
        strays: Strays,
        *,
        on_release: Callable[[], None],
        on_fault: Callable[[BaseException], object],
    ) -> None:
        """`on_release` hears when something may go on that waited, `on_fault` of an error that must end the worker."""
        self.releases = LineReleases(
            control, limits, strays, has_turn_by_key=self._has_turn_by_key, on_release=on_release
        )
        self._control = control
        self._limits = limits
        self._outcomes = outcomes
        self._redriven = redriven
        self._strays = strays
        self._on_fault = on_fault
        self._timer: asyncio.TimerHandle | None = None

    def admits(self, ready: Ready) -> bool:
        """Return whether a task may start now; if not, all that there is to do about it is done."""
        lane, _, task, _ = ready
        if lane.lost or self._is_over(ready):
            return False
        if task.redrive is not msgspec.UNSET and self._redriven.is_repeated(ready):
            self._outcomes.pass_over(ready)
            self.releases.end_turns(ready)
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
            self.releases.put_back_first(ready, line)
            return False
        if kind_and_key(line)[1]:
            return self._may_go_on(ready)
        if self._has_turn_by_key(ready):
            return True
        # A limit by key is new since it was released. What it took of its kind's limits is for another one.
        self.releases.rates.give_back(task.kind)
        lane.lines.end_turn(line, place)
        self.releases.move(lane, line)
        return False

    def cancel(self, ready: Ready) -> None:
        """End a cancelled task; the next one of its lines has its turn."""
        self._outcomes.cancel(ready)
        self.releases.cancelled(ready)

    def cancel_where(self, is_meant: Callable[[Ready], bool]) -> None:
        """End tasks that wait in memory."""
        for ready in self.releases.take_where(is_meant):
            self.cancel(ready)

    def end(self, attempt: Attempt) -> None:
        """Note that a task no longer runs. It keeps its turn by key if others wait for its next attempt."""
        lane = attempt.lane
        if not lane.lines.turns:
            return
        if attempt.next_turn is not None:
            line, place = attempt.next_turn
            if lane.lines.end_turn(line, attempt.place):
                lane.lines.give_turn(line, place)
        self.releases.end_turns(attempt)

    def control_changed(self) -> None:
        """Look at all lines again, under the commands in force now; end cancelled tasks."""
        self._limits.refresh()
        self.releases.put_back_paused()
        if self._control.has_cancels:
            # Now, as the pool may be busy for a long time.
            self.cancel_where(lambda ready: self._control.is_cancelled(ready.task) is not None)
        self.releases.control_changed()

    def spill(self, lane: Lane, lines: Iterable[bytes] | None = None) -> None:
        """Let nothing wait in memory, of all lines of a lane or of some: it would fill the notes of its progress."""
        for line, ready, place in lane.lines.spill(lines):
            self._now_at(line, ready, place)

    def _is_over(self, ready: Ready) -> bool:
        """End a task here that is cancelled, or belongs into another queue; returns whether it was one."""
        if self._strays.can_be and self._strays.move(ready):
            self.releases.end_turns(ready)
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
        """Return whether the limits of its kind let a task start; otherwise it waits, or goes to another partition."""
        lane, _, task, place = ready
        share = self._limits.share(task.kind, lane.partition.number)
        if share == 0:
            self.releases.forward(ready)
            return False
        if (share and not lane.lines.has_room(line, share)) or not self.releases.rates.take(task.kind):
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
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LISTED_AFTER_S, self._timer_rings)

    def _timer_rings(self) -> None:
        """Let what has waited in memory for a while wait in the table, where `ebs waiting` lists it."""
        self._timer = None
        try:
            for lane in self.releases.lanes:
                self.spill(lane, lane.lines.long_parked())
        except Exception as error:  # noqa: BLE001  # the event loop would only log it, and tasks be gone
            self._on_fault(error)
        if any(lane.lines.parked_count for lane in self.releases.lanes):
            self._timer = asyncio.get_running_loop().call_later(_LISTED_AFTER_S, self._timer_rings)

    def _now_at(self, line: bytes, ready: Ready, place: Place | None) -> None:
        """Let a task that waits in the table keep its turn by key; it has another place now, None: it is buried."""
        lines = ready.lane.lines
        by_key = self._limits.line_of_key(ready.task) if lines.turns else b""
        if not by_key or by_key == line or not lines.end_turn(by_key, ready.place):
            return
        if place is None:
            self.releases.move(ready.lane, by_key)
        else:
            lines.give_turn(by_key, place)
