"""The rows of a lane in the table `waiting`: all rows are in the store, a few thousand of their keys in memory."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from itertools import chain, islice
from typing import TYPE_CHECKING

from agents.engine.line_rows import LineRows
from app.names import WAITING_TABLE
from app.rules.waiting_rows import (
    IN_LINE,
    LAST_KEY,
    STARTED,
    STARTED_VALUE,
    TIMED,
    decode_key,
    due_at_ms_of,
    key_in_line,
    reason_of,
    start_key,
    timed_key,
)
from app.rules.worker_heartbeats import WaitingCount
from ebs.function import MAX_ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agents.engine.lane_rows import LaneRows

MAX_KEYS = 2_000
"""Keys that are read from the store at once; at most twice as many are in memory."""
_BATCH = 200
"""Rows of a batch: between two batches other coroutines run."""
_SUSPECTS = 1_000
"""A dead owner may have started this many rows without a commit that says so: those that were due first, and the first
ones of lines."""


class WaitingWindow:
    """The rows of one lane. All changes of them are made here, and are part of the lane's next commit.

    The keys of timed rows (`app.rules.waiting_rows`) up to `_end` are in memory. `lines` has the rows in lines.
    `suspects` are rows that may have run when the former owner died.
    """

    __slots__ = ("_counts", "_end", "_keys", "_loaded", "_max_keys", "_rows", "_started", "_unnoted", "holders",
                 "lines", "suspects")  # fmt: skip

    def __init__(
        self,
        rows: LaneRows,
        now_ms: int,
        *,
        after_death: bool,
        max_keys: int = MAX_KEYS,
        could_run: Callable[[bytes], bool] = lambda _line: True,
    ) -> None:
        """`after_death`: the former owner died. `could_run`: whether it could have started the tasks of a line."""
        self._rows = rows
        self._max_keys = max_keys
        self._started = {key[1:] for key in rows.stored_keys(WAITING_TABLE, STARTED)}
        self._counts: Counter[str] = Counter()
        self.holders: dict[bytes, bytes] = {}
        """By line, the retry for which its later tasks waited when the window was opened."""
        for key in rows.stored_keys(WAITING_TABLE, TIMED):
            self._counts[reason_of(key)] += 1
            line = decode_key(key).line
            if line:
                self.holders[line] = key
        self._keys: list[bytes] = []
        self._end = TIMED
        self._loaded: set[bytes] = set()
        self._unnoted: set[bytes] = set()
        self.lines = LineRows(rows, self._loaded)
        self._fill()
        self.suspects = set(self._started)
        if after_death:
            due = [key for key in self._keys if due_at_ms_of(key) <= now_ms]
            self.suspects.update(heapq.nsmallest(_SUSPECTS, due))
            first = (key for key in self.lines.stored_keys() if could_run(decode_key(key).line))
            self.suspects.update(islice(first, _SUSPECTS))

    @property
    def next_due_ms(self) -> int | None:
        """Due time of the next timed row that does not run; None if there is none."""
        while not self._keys and self._end != LAST_KEY:
            self._fill()
        return due_at_ms_of(self._keys[0]) if self._keys else None

    def is_due(self, now_ms: int) -> bool:
        """Return whether `take` would return a row."""
        due_at_ms = self.next_due_ms
        return due_at_ms is not None and due_at_ms <= now_ms

    def put(self, key: bytes, value: bytes, *, has_started: bool = False) -> None:
        """Add a row, unless it exists. `has_started`: TASK_STARTED of its attempt was sent."""
        if self._rows.get(WAITING_TABLE, key) is not None:
            return
        self._rows.put(WAITING_TABLE, key, value)
        if has_started:
            self._started.add(key)
            self._rows.put(WAITING_TABLE, start_key(key), STARTED_VALUE)
        if key[:1] == IN_LINE:
            self.lines.put(decode_key(key).line, key)
            return
        self._counts[reason_of(key)] += 1
        if key <= self._end:
            heapq.heappush(self._keys, key)
            if len(self._keys) > 2 * self._max_keys:
                self._keys = heapq.nsmallest(self._max_keys, self._keys)
                self._end = self._keys[-1]

    def take(self, now_ms: int) -> tuple[bytes, bytes] | None:
        """Return key and value of the next due row, None if no row is due. From now on it runs."""
        while True:
            if not self.is_due(now_ms):
                return None
            key = heapq.heappop(self._keys)
            value = self._rows.get(WAITING_TABLE, key)
            if value is not None:  # it may have been deleted since its key was read
                self._loaded.add(key)
                return key, value

    def start(self, key: bytes) -> bool:
        """Note that the attempt of a row begins; returns False if an earlier life has already sent TASK_STARTED."""
        if key in self._started:
            return False
        self._unnoted.add(key)
        return True

    def has_started(self, key: bytes) -> bool:
        """Return whether TASK_STARTED of a row's attempt was sent."""
        return key in self._started

    def collect(self) -> None:
        """Prepare a commit."""
        self.note_started()
        self.lines.collect()

    def note_started(self) -> None:
        """Add a row for each attempt that began since the last commit and still runs."""
        for key in self._unnoted:
            self._rows.put(WAITING_TABLE, start_key(key), STARTED_VALUE)
        self._started |= self._unnoted
        self._unnoted.clear()

    def committed(self) -> None:
        """Note that the commit is done."""
        self.lines.committed()

    def free_key(self, line: bytes, offset: int, attempt: int, value: bytes) -> bytes:
        """Return a key in a line that no other request has. If a topic was created again, its offsets begin again."""
        for number in itertools.count(attempt, MAX_ATTEMPTS):
            key = key_in_line(line, offset, number)
            if self._rows.get(WAITING_TABLE, key) in {None, value}:
                break
        return key

    def content_of(self, key: bytes) -> bytes:
        """Return the value of a row that exists."""
        value = self._rows.get(WAITING_TABLE, key)
        assert value is not None
        return value

    def remove(self, key: bytes) -> None:
        """Delete a row, in the commit that also has the end of its attempt."""
        self._rows.put(WAITING_TABLE, key, None)
        if key[:1] == TIMED:
            self._counts[reason_of(key)] -= 1
        elif key not in self._loaded:
            self.lines.removed(key)
        self._loaded.discard(key)
        self._unnoted.discard(key)
        self.suspects.discard(key)
        if key in self._started:
            self._started.discard(key)
            self._rows.put(WAITING_TABLE, start_key(key), None)

    def value_of(self, key: bytes) -> bytes | None:
        """Return the value of a row, None if there is no such row or if it runs."""
        return None if key in self._loaded else self._rows.get(WAITING_TABLE, key)

    def hasten(self, key: bytes, due_at_ms: int) -> bytes | None:
        """Make a row due at an instant, with the lane's next commit; returns its new key.

        Returns None and changes nothing if there is no such row, if it runs, or if it is due by then anyway.
        """
        value, (due_before_ms, offset, attempt, line) = self.value_of(key), decode_key(key)
        if value is None or due_before_ms is None or due_before_ms <= due_at_ms:
            return None
        while self._rows.get(WAITING_TABLE, hastened := timed_key(due_at_ms, offset, attempt, line)) is not None:
            due_at_ms -= 1  # earlier, not later: if the command is carried out again, it must not match this row
        has_started, is_suspect = key in self._started, key in self.suspects
        self.remove(key)
        self.put(hastened, value, has_started=has_started)
        if is_suspect:
            self.suspects.add(hastened)
        return hastened

    def counts(self) -> list[WaitingCount]:
        """Return how many timed rows there are by reason, those that run included; the first due time if in memory."""
        firsts: dict[str, int] = {}
        for key in self._keys:
            due_at_ms, reason = due_at_ms_of(key), reason_of(key)
            firsts[reason] = min(due_at_ms, firsts.get(reason, due_at_ms))
        return [WaitingCount(reason, count, firsts.get(reason)) for reason, count in self._counts.items()]

    def batches(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Iterate over the rows that do not run, a few at a time: first those in lines, then the others by due time.

        Rows may change between two batches.
        """
        for prefix in (IN_LINE, TIMED):
            key = prefix
            while found := self._keys_behind(key, _BATCH, prefix):
                key = found[-1]
                values = [(one, self._rows.get(WAITING_TABLE, one)) for one in found if one not in self._loaded]
                yield [(one, value) for one, value in values if value is not None]

    def _fill(self) -> None:
        """Take the next keys into memory, when all earlier ones have been taken out."""
        found = self._keys_behind(self._end, self._max_keys, TIMED)
        self._end = found[-1] if len(found) == self._max_keys else LAST_KEY
        self._keys = [key for key in found if key not in self._loaded]

    def _keys_behind(self, key: bytes, limit: int, prefix: bytes) -> list[bytes]:
        """Return the first keys of a prefix that are greater than `key`, uncommitted ones included."""
        uncommitted = self._rows.uncommitted(WAITING_TABLE)
        stored = self._rows.stored_keys(WAITING_TABLE, prefix, key)
        found = list(islice((one for one in stored if one != key and one not in uncommitted), limit))
        put = [one for one, value in uncommitted.items() if value is not None and one > key and one[:1] == prefix]
        return sorted(chain(found, put))[:limit] if put else found
