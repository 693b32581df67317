"""What of a lane waits for its time: the next keys of the table `waiting` in memory, all rows in the store."""

from __future__ import annotations

import heapq
from collections import Counter
from typing import TYPE_CHECKING

from app.names import WAITING_TABLE
from app.rules.waiting_rows import LAST_KEY, STARTED, STARTED_VALUE, TIMED, decode_key, encode_key, reason_of, start_key
from app.rules.worker_heartbeats import WaitingCount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents.engine.lane_rows import LaneRows

MAX_KEYS = 2_000
"""Keys that are read from the store at once; at most twice as many are in memory."""
_BATCH = 200
"""Rows that are looked at before other coroutines get their turn."""
_SUSPECTS = 1_000
"""A dead owner may have started this many rows that none of its commits says so of: those that were due first."""


class WaitingWindow:
    """The rows of one lane. All changes go through here, and leave with the lane's next commit.

    Keys up to `_end` are in memory, those behind it in the store only. `suspects` are rows that may have run when the
    former owner died.
    """

    __slots__ = ("_counts", "_end", "_keys", "_loaded", "_max_keys", "_rows", "_started", "_unnoted", "suspects")

    def __init__(self, rows: LaneRows, now_ms: int, *, after_death: bool, max_keys: int = MAX_KEYS) -> None:
        """`after_death`: the former owner died."""
        self._rows = rows
        self._max_keys = max_keys
        self._started = {key[1:] for key in _with_prefix(rows.stored_keys(WAITING_TABLE, STARTED), STARTED)}
        self._counts = Counter(map(reason_of, _with_prefix(rows.stored_keys(WAITING_TABLE, TIMED), TIMED)))
        self._keys: list[bytes] = []
        self._end = TIMED
        self._loaded: set[bytes] = set()
        self._unnoted: set[bytes] = set()
        self._fill()
        self.suspects = set(self._started)
        if after_death:
            due = [key for key in self._keys if decode_key(key).due_at_ms <= now_ms]
            self.suspects.update(heapq.nsmallest(_SUSPECTS, due))

    @property
    def next_due_ms(self) -> int | None:
        """When the next row is due that does not run; None if there is none."""
        while not self._keys and self._end != LAST_KEY:
            self._fill()
        return decode_key(self._keys[0]).due_at_ms if self._keys else None

    def is_due(self, now_ms: int) -> bool:
        """Return whether a row may be taken."""
        due_at_ms = self.next_due_ms
        return due_at_ms is not None and due_at_ms <= now_ms

    def put(self, key: bytes, value: bytes, *, has_started: bool = False) -> None:
        """Add a row; one that is there already stays as it is. `has_started`: its attempt has said that it began."""
        if self._rows.get(WAITING_TABLE, key) is not None:
            return
        self._rows.put(WAITING_TABLE, key, value)
        self._counts[reason_of(key)] += 1
        if has_started:
            self._started.add(key)
            self._rows.put(WAITING_TABLE, start_key(key), STARTED_VALUE)
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

    def note_started(self) -> None:
        """Put down what began and still runs: called before each commit."""
        for key in self._unnoted:
            self._rows.put(WAITING_TABLE, start_key(key), STARTED_VALUE)
        self._started |= self._unnoted
        self._unnoted.clear()

    def remove(self, key: bytes) -> None:
        """Delete a row: what became of it leaves with the same commit."""
        self._rows.put(WAITING_TABLE, key, None)
        self._counts[reason_of(key)] -= 1
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
        value, place = self.value_of(key), decode_key(key)
        if value is None or place.due_at_ms <= due_at_ms:
            return None
        while self._rows.get(WAITING_TABLE, hastened := encode_key(*place._replace(due_at_ms=due_at_ms))) is not None:
            due_at_ms -= 1  # earlier, not later: the row must not count as one that still has to be hastened
        has_started, is_suspect = key in self._started, key in self.suspects
        self.remove(key)
        self.put(hastened, value, has_started=has_started)
        if is_suspect:
            self.suspects.add(hastened)
        return hastened

    def counts(self) -> list[WaitingCount]:
        """Return how many rows there are by reason, those that run included; a due time only if it is in memory."""
        firsts: dict[str, int] = {}
        for key in self._keys:
            due_at_ms, reason = decode_key(key).due_at_ms, reason_of(key)
            firsts[reason] = min(due_at_ms, firsts.get(reason, due_at_ms))
        return [WaitingCount(reason, count, firsts.get(reason)) for reason, count in self._counts.items()]

    def batches(self) -> Iterator[list[tuple[bytes, bytes]]]:
        """Iterate over the rows that do not run, a few at a time, in the order in which they are due.

        Rows may change between two batches.
        """
        key = TIMED
        while found := self._keys_behind(key, _BATCH):
            key = found[-1]
            values = [(one, self._rows.get(WAITING_TABLE, one)) for one in found if one not in self._loaded]
            yield [(one, value) for one, value in values if value is not None]

    def _fill(self) -> None:
        """Take the next keys into memory: those that were have all been taken out."""
        found = self._keys_behind(self._end, self._max_keys)
        self._end = found[-1] if len(found) == self._max_keys else LAST_KEY
        self._keys = [key for key in found if key not in self._loaded]

    def _keys_behind(self, key: bytes, limit: int) -> list[bytes]:
        """Return the first keys greater than `key`, with what is not committed yet."""
        uncommitted = self._rows.uncommitted(WAITING_TABLE)
        found: list[bytes] = []
        for one in _with_prefix(self._rows.stored_keys(WAITING_TABLE, key), TIMED):
            if len(found) == limit:
                break
            if one != key and one not in uncommitted:
                found.append(one)
        put = [one for one, value in uncommitted.items() if value is not None and one > key and one[:1] == TIMED]
        return sorted(found + put)[:limit] if put else found


def _with_prefix(keys: Iterator[bytes], prefix: bytes) -> Iterator[bytes]:
    for key in keys:
        if key[:1] != prefix:
            return
        yield key
