"""Which tasks leave the line that they wait in (`lane_lines`), and when.

Everything that may unblock tasks moves their line: the end of a task, a token of a rate, a changed control, a lane that
opens. A line that has moved is looked at when nothing is released; as many of its next tasks are released as may go on.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from agents.engine.kind_rates import KindRates
from app.rules.waiting_rows import kind_and_key, line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agents.engine.attempt import Attempt
    from agents.engine.kind_limits import KindLimits
    from agents.engine.lane import Lane, Ready
    from agents.engine.strays import Strays
    from app.rules.control import ControlState

_RELEASED_AT_ONCE = 64
"""Tasks of one line that are released before other lines have their turn."""
_LOOKED_AT = 1_000
"""Lines that the watchdog looks at."""


class LineReleases:
    """Lets tasks go on that wait in lines. `released` has those that may, each with the line that it waited in.

    `moved` are lines in which tasks may be able to go on. `opening` are lanes whose lines may not go on yet
    (`Lane.has_read_lines`). The engine's inner loop holds all three. `lanes` are all of the worker, `rates`
    those of all kinds.
    """

    def __init__(
        self,
        control: ControlState,
        limits: KindLimits,
        strays: Strays,
        *,
        has_turn_by_key: Callable[[Ready], bool],
        on_release: Callable[[], None],
    ) -> None:
        """`has_turn_by_key` lets a task take its turn by key, or wait; `on_release` hears when one may go on."""
        self.released: deque[tuple[Ready, bytes]] = deque()
        self.moved: deque[tuple[Lane, bytes]] = deque()
        self.opening: list[Lane] = []
        self.lanes: deque[Lane] = deque()
        self.rates = KindRates(limits, on_token=self._has_token)
        self._control = control
        self._limits = limits
        self._strays = strays
        self._has_turn_by_key = has_turn_by_key
        self._on_release = on_release

    def lane_ready(self, lane: Lane) -> None:
        """Go on with what waits in a lane."""
        self.lanes.append(lane)
        if lane.window is not None:
            for line, key in lane.window.holders.items():
                lane.lines.give_turn(line, key)
        self.opening.append(lane)
        self.rates.share(len(self.lanes))
        self._on_release()

    def lane_lost(self, lane: Lane) -> None:
        """Forget a lane: its next owner has what waits there."""
        self.lanes.remove(lane)
        self.opening[:] = [one for one in self.opening if one is not lane]
        self._keep_released([one for one in self.released if one[0].lane is not lane])
        self.rates.share(len(self.lanes))

    def control_changed(self) -> None:
        """Look at all lines again, under the commands in force now."""
        self.moved.clear()
        for lane in self.lanes:
            self._move_all(lane)
        self.rates.share(len(self.lanes))

    def refill(self) -> None:
        """Release what may go on of the lines that moved, until there is something."""
        for lane in [one for one in self.opening if one.has_read_lines()]:
            self.opening.remove(lane)
            self._move_all(lane)
        while self.moved and not self.released:
            lane, line = self.moved.popleft()
            if not lane.lost:
                self._advance(lane, line)

    def move(self, lane: Lane, line: bytes) -> None:
        """Look at a line again soon."""
        self.moved.append((lane, line))
        self._on_release()

    def end_turns(self, ended: Ready | Attempt) -> None:
        """Take back the turns of a task: the next ones of its lines have them."""
        lines = ended.lane.lines
        if not lines.turns:
            return
        task = ended.task
        key = task.object_id if task.key is msgspec.UNSET else task.key
        for line in (line_of(task.kind), line_of(task.kind, key)):
            if lines.end_turn(line, ended.place) and lines.waits(line):
                self.move(ended.lane, line)

    def cancelled(self, ready: Ready) -> None:
        """Take back the turns of a task that is cancelled; it may have been the last one in the line of its kind."""
        self.end_turns(ready)
        if ready.lane not in self.opening:
            self._let_keys_go_on(ready.lane, ready.task.kind, None)

    def forward(self, ready: Ready) -> None:
        """Pass a request on to a partition that has a share of its kind's limit: there are fewer than partitions."""
        limit = self._limits.of(ready.task.kind).concurrency
        assert limit is not None
        self._strays.send_on(ready, ready.lane.topic, ready.lane.partition.number % limit)
        self.end_turns(ready)

    def put_back_first(self, ready: Ready, line: bytes) -> None:
        """Let a task wait again that has just been released; a pause has come meanwhile."""
        self.released.appendleft((ready, line))
        self.put_back_paused()

    def put_back_paused(self) -> None:
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

    def take_where(self, is_wanted: Callable[[Ready], bool]) -> list[Ready]:
        """Take tasks out that wait in memory."""
        taken = [ready for ready, _ in self.released if not ready.lane.lost and is_wanted(ready)]
        self._keep_released([one for one in self.released if not (one[0].lane.lost or is_wanted(one[0]))])
        for lane in self.lanes:
            taken += lane.lines.take_where(is_wanted)
        return taken

    def waiting(self) -> Iterator[tuple[str, int]]:
        """Return of each line why its tasks wait ("paused", "rate", "concurrency" or "key"), and how many do."""
        for lane in self.lanes:
            for line in lane.lines.names():
                yield self._why(lane, line), lane.lines.count(line)

    def forgotten(self) -> str:
        """Return a line in which tasks wait although nothing blocks them; "" if there is none.

        For the watchdog: there should be none, because everything that unblocks tasks also moves their line.
        """
        lines = ((lane, line) for lane in self.lanes if lane not in self.opening for line in lane.lines.names())
        for lane, line in islice(lines, _LOOKED_AT):
            kind, key = kind_and_key(line)
            if key and lane.lines.holds_keys_back(kind):
                continue
            limit = self._limits.of(kind).per_key if key else self._limits.share(kind, lane.partition.number)
            is_full = limit and not lane.lines.has_room(line, limit)
            if not is_full and (key or not (self._control.is_paused(kind) or self.rates.is_awaited(kind))):
                return f"kind {kind}, key {key}" if key else f"kind {kind}"
        return ""

    def _advance(self, lane: Lane, line: bytes) -> None:
        """Release the next tasks of a line, as many as may go on."""
        kind, key = kind_and_key(line)
        if lane in self.opening or (key and lane.lines.holds_keys_back(kind)):
            return
        limit = self._limits.of(kind).per_key if key else self._limits.share(kind, lane.partition.number)
        for _ in range(_RELEASED_AT_ONCE):
            if not lane.lines.waits(line) or not self._may_leave(lane, line, limit):
                return
            ready = lane.lines.take(line)
            if not key:
                self._let_keys_go_on(lane, kind, ready)
            if ready is None:
                continue
            if limit == 0:
                self.forward(ready)
                continue
            # Not only when it starts: until then the log may have a later task of its key, which must not overtake it.
            if not key and not self._has_turn_by_key(ready):
                self.rates.give_back(kind)
                continue
            if limit is not None:
                lane.lines.give_turn(line, ready.place)
            self.released.append((ready, line))
        if lane.lines.waits(line):
            self.moved.append((lane, line))

    def _may_leave(self, lane: Lane, line: bytes, limit: int | None) -> bool:
        """Return whether the next task of a line may leave it, and take what that needs of a rate.

        `limit`: so many of the line may run at once; 0: they run in other partitions.
        """
        kind, key = kind_and_key(line)
        if not key and self._control.is_paused(kind):
            return False
        if limit and not lane.lines.has_room(line, limit):
            return False
        return bool(key) or limit == 0 or self.rates.take(kind)

    def _let_keys_go_on(self, lane: Lane, kind: str, taken: Ready | None) -> None:
        """Hold the keys of a kind back no longer if they wait for nothing that is still in the line of the kind."""
        if lane.lines.has_passed_keys(kind, taken):
            lane.lines.let_keys_go_on(kind)
            self._move_all(lane)

    def _has_token(self, kind: str) -> None:
        """Look at the lines of a kind again: there is a token. Lanes take turns."""
        self.lanes.rotate(-1)
        line = line_of(kind)
        for lane in self.lanes:
            if lane.lines.waits(line):
                self.move(lane, line)

    def _move_all(self, lane: Lane) -> None:
        """Look at all lines of a lane. Those of kinds first: one of their tasks may have had its turn by key."""
        for line in sorted(lane.lines.names(), key=lambda line: kind_and_key(line)[1] != ""):
            self.move(lane, line)

    def _keep_released(self, kept: list[tuple[Ready, bytes]]) -> None:
        """Keep these of the released ones; the queue stays the same object, as the engine's inner loop holds it."""
        self.released.clear()
        self.released.extend(kept)

    def _why(self, lane: Lane, line: bytes) -> str:
        kind, key = kind_and_key(line)
        if key:
            return "key"
        if self._control.is_paused(kind):
            return "paused"
        share = self._limits.share(kind, lane.partition.number)
        return "concurrency" if share and not lane.lines.has_room(line, share) else "rate"
