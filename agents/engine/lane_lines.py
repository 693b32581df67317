"""The lines of one lane: tasks that may not start now wait in the line of their kind, or of their key.

The first tasks of a line wait in memory; what exceeds that, or waits for seconds, in the table `waiting`. So a line may
be of any length, and holds up nobody else. Each line keeps the order in which its tasks were asked for.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from app.rules.waiting_rows import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from agents.engine.line_rows import LineRows
    from app.kafka.types import ConsumerRecord

Place = int | bytes
"""Where the request of an attempt is: its offset in the log, or its key in the table `waiting`."""


class Placed(Protocol):
    """What a line knows of a task."""

    @property
    def record(self) -> ConsumerRecord:
        """The request."""

    @property
    def place(self) -> Place:
        """Where that is."""


TaskT = TypeVar("TaskT", bound=Placed)

MAX_PARKED = 1_000
"""Tasks of one lane that wait in memory; further ones wait in the table."""
_LOADED_AT_ONCE = 200


class LaneLines(Generic[TaskT]):
    """Tasks that wait, by line, and who has a turn. `parked_count` counts those in memory.

    `turns`: the tasks of a line that may run or run, by their place; where a line has a limit, only so many get one.
    `keep` puts a task into the table and returns its place there, None if it could not; `read` makes a task of a row,
    None if it cannot. Without `rows` all wait in memory.
    """

    __slots__ = ("_keep", "_max_parked", "_newest", "_parked", "_read", "parked_count", "rows", "turns")

    def __init__(self, *, max_parked: int = MAX_PARKED) -> None:
        self.rows: LineRows | None = None
        self.parked_count = 0
        self.turns: dict[bytes, set[Place]] = {}
        self._keep: Callable[[bytes, TaskT], Place | None]
        self._read: Callable[[bytes, bytes], TaskT | None]
        self._max_parked = max_parked
        self._parked: dict[bytes, deque[TaskT]] = {}
        self._newest: dict[bytes, Place] = {}

    def open(
        self,
        rows: LineRows,
        *,
        keep: Callable[[bytes, TaskT], Place | None],
        read: Callable[[bytes, bytes], TaskT | None],
    ) -> None:
        """Go on with the rows of the lane."""
        self.rows = rows
        self._keep = keep
        self._read = read

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._parked and (self.rows is None or not self.rows.counts)

    def names(self) -> list[bytes]:
        """Return the lines in which tasks wait."""
        return list(self._parked if self.rows is None else {**self._parked, **self.rows.counts})

    def waits(self, line: bytes) -> bool:
        """Return whether tasks wait in a line."""
        return line in self._parked or (self.rows is not None and line in self.rows.counts)

    def count(self, line: bytes) -> int:
        """Return how many tasks wait in a line."""
        return len(self._parked.get(line, ())) + (0 if self.rows is None else self.rows.counts[line])

    def add(self, line: bytes, ready: TaskT) -> Place | None:
        """Let a task wait behind all others of a line; returns its place, None if it is buried."""
        rows = self.rows
        if rows is not None and (self.parked_count >= self._max_parked or line in rows.counts):
            kept: Place | None = self._keep(line, ready)
            return kept
        self._park(line).append(ready)
        place: Place = ready.place
        return place

    def put_back(self, line: bytes, ready: TaskT) -> None:
        """Let a task wait before all others of a line."""
        self._park(line).appendleft(ready)

    def take(self, line: bytes) -> TaskT | None:
        """Take the next task out of a line; None if there is none that can be read."""
        parked = self._parked.get(line)
        if parked is None:
            parked = deque(self._load(line))
            if not parked:
                return None
            self._parked[line] = parked
            self.parked_count += len(parked)
        ready = parked.popleft()
        self.parked_count -= 1
        if not parked:
            del self._parked[line]
        return ready

    def holds_keys_back(self, kind: str) -> bool:
        """Return whether the tasks of a kind that wait for their key have to wait for those in the line of the kind.

        What an earlier life had read into memory from the line of the kind is there again, before what it had moved
        on to the lines of keys.
        """
        return self.rows is not None and kind in self.rows.keys_behind and self.waits(line_of(kind))

    def has_passed_keys(self, kind: str, taken: TaskT | None) -> bool:
        """Return whether that has an end with what was just taken out of the line of the kind."""
        if self.rows is None or kind not in self.rows.keys_behind:
            return False
        is_behind = taken is not None and taken.record.offset >= self.rows.keys_behind[kind]
        return is_behind or not self.waits(line_of(kind))

    def let_keys_go_on(self, kind: str) -> None:
        """Hold the keys of a kind back no longer."""
        assert self.rows is not None
        del self.rows.keys_behind[kind]

    def take_where(self, is_wanted: Callable[[TaskT], bool]) -> list[TaskT]:
        """Take tasks out that wait in memory."""
        taken: list[TaskT] = []
        for line, parked in list(self._parked.items()):
            kept: deque[TaskT] = deque()
            for ready in parked:
                (taken if is_wanted(ready) else kept).append(ready)
            if kept:
                self._parked[line] = kept
            else:
                del self._parked[line]
        self.parked_count -= len(taken)
        return taken

    def long_parked(self) -> list[bytes]:
        """Return the lines in which a task waits in memory alone, and has done so since the last call."""
        before = self._newest
        self._newest = {
            line: newest
            for line, parked in self._parked.items()
            if (newest := next((one.place for one in reversed(parked) if isinstance(one.place, int)), None)) is not None
        }
        return [line for line in self._newest if self._has_parked(line, before.get(line))]

    def spill(self, lines: Iterable[bytes] | None = None) -> Iterator[tuple[bytes, TaskT, Place | None]]:
        """Move what waits in memory into the table, of all lines or of some; yield each with its line and new place."""
        if self.rows is None:
            return
        for line in list(self._parked if lines is None else lines):
            parked = self._parked.pop(line)
            self.parked_count -= len(parked)
            for ready in parked:
                yield line, ready, self._keep(line, ready)

    def holds_turn(self, line: bytes, place: Place) -> bool:
        """Return whether a task has a turn."""
        return place in self.turns.get(line, ())

    def has_room(self, line: bytes, limit: int) -> bool:
        """Return whether another task may have a turn."""
        return len(self.turns.get(line, ())) < limit

    def give_turn(self, line: bytes, place: Place) -> None:
        """Let a task have a turn until `end_turn`."""
        self.turns.setdefault(line, set()).add(place)

    def end_turn(self, line: bytes, place: Place) -> bool:
        """Take a turn away; returns whether the task had one."""
        holders = self.turns.get(line)
        if holders is None or place not in holders:
            return False
        holders.discard(place)
        if not holders:
            del self.turns[line]
        return True

    def _has_parked(self, line: bytes, place: Place | None) -> bool:
        return place is not None and any(one.place == place for one in self._parked[line])

    def _park(self, line: bytes) -> deque[TaskT]:
        self.parked_count += 1
        parked = self._parked.get(line)
        if parked is None:
            parked = self._parked[line] = deque()
        return parked

    def _load(self, line: bytes) -> Iterable[TaskT]:
        if self.rows is None or line not in self.rows.counts:
            return ()
        room = min(_LOADED_AT_ONCE, max(1, self._max_parked - self.parked_count))
        found = (self._read(key, value) for key, value in self.rows.load(line, room))
        return [ready for ready in found if ready is not None]
