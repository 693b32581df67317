"""The rows of a lane in the table `waiting`: a few thousand of their keys are in memory, all rows in the store."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from itertools import chain, islice, takewhile
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
"""Rows that are looked at before other coroutines get their turn."""
_SUSPECTS = 1_000
"""A dead owner may have started this many rows that none of its commits says so of: those that were due first, and the
first ones of lines."""


class WaitingWindow:
    """The rows of one lane. All changes go through here, and leave with the lane's next commit.

    Of the rows that wait for their time, the keys up to `_end` are in memory. `lines` has those that wait in lines.
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
        """`after_death`: the former owner died; `could_run` tells of a line whether it could have started its tasks."""
        self._rows = rows
        self._max_keys = max_keys
        self._started = {key[1:] for key in _with_prefix(rows.stored_keys(WAITING_TABLE, STARTED), STARTED)}
        self._counts: Counter[str] = Counter()
        self.holders: dict[bytes, bytes] = {}
        """By line, the retry for which its later tasks wait, as the window was opened."""
        for key in _with_prefix(rows.stored_keys(WAITING_TABLE, TIMED), TIMED):
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
        """When the next row is due that does not run; None if there is none."""
        while not self._keys and self._end != LAST_KEY:
            self._fill()
        return due_at_ms_of(self._keys[0]) if self._keys else None

    def is_due(self, now_ms: int) -> bool:
        """Return whether a row may be taken."""
        due_at_ms = self.next_due_ms
        return due_at_ms is not None and due_at_ms <= now_ms

    def put(self, key: bytes, value: bytes, *, has_started: bool = False) -> None:
        """Add a row; one that is there already stays as it is. `has_started`: its attempt has said that it began."""
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
        """Return key and value of the next row that is due, None if none is; it runs from now on."""
        while True:
            if not self.is_due(now_ms):
                return None
            key = heapq.heappop(self._keys)
            value = self._rows.get(WAITING_TABLE, key)
            if value is not None:  # it was not deleted meanwhile
                self._loaded.add(key)
                return key, value

    def start(self, key: bytes) -> bool:
        """Note that a row's attempt begins; returns False if it had begun, and said so, in an earlier life."""
        if key in self._started:
            return False
        self._unnoted.add(key)
        return True

    def has_started(self, key: bytes) -> bool:
        """Return whether a row's attempt has said that it began."""
        return key in self._started

    def collect(self) -> None:
        """Make ready for a commit."""
        self.note_started()
        self.lines.collect()

    def note_started(self) -> None:
        """Put down what began and still runs."""
        for key in self._unnoted:
            self._rows.put(WAITING_TABLE, start_key(key), STARTED_VALUE)
        self._started |= self._unnoted
        self._unnoted.clear()

    def committed(self) -> None:
        """Hear that the commit is through."""
        self.lines.committed()

    def free_key(self, line: bytes, offset: int, attempt: int, value: bytes) -> bytes:
        """Return a key in a line that no other request has: offsets begin again where a topic was made anew."""
        for number in itertools.count(attempt, MAX_ATTEMPTS):
            key = key_in_line(line, offset, number)
            if self._rows.get(WAITING_TABLE, key) in {None, value}:
                break
        return key

    def content_of(self, key: bytes) -> bytes:
        """Return a row that is in memory."""
        value = self._rows.get(WAITING_TABLE, key)
        assert value is not None
        return value

    def remove(self, key: bytes) -> None:
        """Delete a row: what became of it leaves with the same commit."""
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
        """Return the row of a key, None if there is none or if it runs."""
        return None if key in self._loaded else self._rows.get(WAITING_TABLE, key)

    def hasten(self, key: bytes, due_at_ms: int) -> bytes | None:
        """Let a row that does not run be due at an instant, with the lane's next commit; returns its new key.

        None if there is no such row, or if its attempt runs; a row that is due by then stays as it is.
        """
        value, (due_before_ms, offset, attempt, line) = self.value_of(key), decode_key(key)
        if value is None or due_before_ms is None or due_before_ms <= due_at_ms:
            return None
        while self._rows.get(WAITING_TABLE, hastened := timed_key(due_at_ms, offset, attempt, line)) is not None:
            due_at_ms -= 1  # earlier, not later: the row must not count as one that still has to be hastened
        has_started, is_suspect = key in self._started, key in self.suspects
        self.remove(key)
        self.put(hastened, value, has_started=has_started)
        if is_suspect:
            self.suspects.add(hastened)
        return hastened

    def counts(self) -> list[WaitingCount]:
        """Return how many rows wait for their time, those that run included; a due time only if it is in memory."""
        firsts: dict[str, int] = {}
        for key in self._keys:
            due_at_ms, reason = due_at_ms_of(key), reason_of(key)
            firsts[reason] = min(due_at_ms, firsts.get(reason, due_at_ms))
        return [WaitingCount(reason, count, firsts.get(reason)) for reason, count in self._counts.items()]

    def batches(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Iterate over the rows that do not run, a few at a time: those in lines, then by the time when they are due.

        Rows may change between two batches.
        """
        for prefix in (IN_LINE, TIMED):
            key = prefix
            while found := self._keys_behind(key, _BATCH, prefix):
                key = found[-1]
                values = [(one, self._rows.get(WAITING_TABLE, one)) for one in found if one not in self._loaded]
                yield [(one, value) for one, value in values if value is not None]

    def _fill(self) -> None:
        """Take the next keys into memory: those that were have all been taken out."""
        found = self._keys_behind(self._end, self._max_keys, TIMED)
        self._end = found[-1] if len(found) == self._max_keys else LAST_KEY
        self._keys = [key for key in found if key not in self._loaded]

    def _keys_behind(self, key: bytes, limit: int, prefix: bytes) -> list[bytes]:
        """Return the first keys greater than `key`, with what is not committed yet."""
        uncommitted = self._rows.uncommitted(WAITING_TABLE)
        stored = _with_prefix(self._rows.stored_keys(WAITING_TABLE, key), prefix)
        found = list(islice((one for one in stored if one != key and one not in uncommitted), limit))
        put = [one for one, value in uncommitted.items() if value is not None and one > key and one[:1] == prefix]
        return sorted(chain(found, put))[:limit] if put else found


def _with_prefix(keys: Iterator[bytes], prefix: bytes) -> Iterator[bytes]:
    return takewhile(lambda key: key[:1] == prefix, keys)
