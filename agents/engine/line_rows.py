"""The rows of a lane that wait in lines (`app.rules.waiting_rows`): their number, and the next rows of each line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from app.names import WAITING_TABLE
from app.rules.waiting_rows import IN_LINE, decode_key, kind_and_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents.engine.lane_rows import LaneRows


class LineRows:
    """Counts the rows of each line that are not in memory, and loads them in order. `loaded`: all keys in memory."""

    def __init__(self, rows: LaneRows, loaded: set[bytes]) -> None:
        self._rows = rows
        self._loaded = loaded
        # By line, a key to look from: no row that is not in memory has a smaller one. From the beginning of the line,
        # the store would walk over all tombstones of rows that were deleted there.
        self._from: dict[bytes, bytes] = {}
        self.counts: Counter[bytes] = Counter()
        self.behind = 0
        """Offset after all requests that had rows when the lane was opened."""
        self.keys_behind: dict[str, int] = {}
        """By kind, the offset after those of them that waited for their key."""
        for key in self.stored_keys():
            _, offset, _, line = decode_key(key)
            self.counts[line] += 1
            self.behind = max(self.behind, offset + 1)
            kind, own_key = kind_and_key(line)
            if own_key:
                self.keys_behind[kind] = max(self.keys_behind.get(kind, 0), offset + 1)
        # By line, the keys that the store does not have yet: of the next commit, and of the running one.
        self._new: dict[bytes, list[bytes]] = {}
        self._leaving: dict[bytes, list[bytes]] = {}

    def put(self, line: bytes, key: bytes) -> None:
        """Note a new row."""
        self._new.setdefault(line, []).append(key)
        self.unload(line, key)

    def unload(self, line: bytes, key: bytes) -> None:
        """Note that a row is no longer in memory."""
        self._loaded.discard(key)
        self.counts[line] += 1
        if line in self._from:
            self._from[line] = min(key, self._from[line])

    def removed(self, key: bytes) -> None:
        """Note that a row that was not in memory is deleted."""
        self._leave(decode_key(key).line, 1)

    def load(self, line: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Take up to `limit` of the next rows of a line into memory."""
        prefix = IN_LINE + line
        from_key = self._from.get(line, prefix)
        new = [*self._leaving.get(line, ()), *self._new.get(line, ())]
        found: dict[bytes, bytes] = {}
        for key in self._rows.stored_keys(WAITING_TABLE, prefix, from_key):
            self._add(found, key)
            if len(found) == limit:
                break
        for key in new:
            if key >= from_key:
                self._add(found, key)
        keys = sorted(found)[:limit]
        self._loaded.update(keys)
        if keys:
            self._from[line] = keys[-1]
        self._leave(line, len(keys) if keys else self.counts[line])
        return [(key, found[key]) for key in keys]

    def collect(self) -> None:
        """Note that a commit takes the new rows."""
        self._leaving, self._new = self._new, {}

    def committed(self) -> None:
        """Note that the store has the rows of the last commit."""
        self._leaving = {}

    def stored_keys(self) -> Iterator[bytes]:
        """Iterate over the keys of all lines in the store."""
        return self._rows.stored_keys(WAITING_TABLE, IN_LINE)

    def _add(self, found: dict[bytes, bytes], key: bytes) -> None:
        """Add a row unless it is in memory, or the next commit deletes it."""
        if key not in self._loaded and (value := self._rows.get(WAITING_TABLE, key)) is not None:
            found[key] = value

    def _leave(self, line: bytes, count: int) -> None:
        left = self.counts[line] - count
        if left > 0:
            self.counts[line] = left
        else:
            del self.counts[line]
            self._from.pop(line, None)
