"""The rows of a lane that wait in lines (`app.rules.waiting_rows`): how many there are, and the next of each line."""

from __future__ import annotations

from collections import Counter
from itertools import takewhile
from typing import TYPE_CHECKING

from app.names import WAITING_TABLE
from app.rules.waiting_rows import IN_LINE, decode_key, kind_and_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agents.engine.lane_rows import LaneRows


class LineRows:
    """Counts the rows of each line that are not in memory, and loads them in order. `loaded` are all that are."""

    def __init__(self, rows: LaneRows, loaded: set[bytes]) -> None:
        self._rows = rows
        self._loaded = loaded
        # No row of a line that is not in memory has a smaller key: to look from the beginning would be to look at all
        # that was deleted there.
        self._from: dict[bytes, bytes] = {}
        self.counts: Counter[bytes] = Counter()
        self.behind = 0
        """Offset behind all requests whose rows were there when the lane was opened."""
        self.keys_behind: dict[str, int] = {}
        """By kind, the offset behind all of them that waited for their key."""
        for key in self._stored(IN_LINE):
            _, offset, _, line = decode_key(key)
            self.counts[line] += 1
            self.behind = max(self.behind, offset + 1)
            kind, own_key = kind_and_key(line)
            if own_key:
                self.keys_behind[kind] = max(self.keys_behind.get(kind, 0), offset + 1)
        # The keys that the store does not have yet, by line: for the next commit, and on their way with this one.
        self._new: dict[bytes, list[bytes]] = {}
        self._leaving: dict[bytes, list[bytes]] = {}

    def put(self, line: bytes, key: bytes) -> None:
        """Note a row that is new."""
        self._new.setdefault(line, []).append(key)
        self.unload(line, key)

    def unload(self, line: bytes, key: bytes) -> None:
        """Note that a row is not in memory any more."""
        self._loaded.discard(key)
        self.counts[line] += 1
        if line in self._from:
            self._from[line] = min(key, self._from[line])

    def removed(self, key: bytes) -> None:
        """Note that a row is deleted that was not in memory."""
        self._leave(decode_key(key).line, 1)

    def load(self, line: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Take the next rows of a line into memory."""
        prefix = IN_LINE + line
        from_key = self._from.get(line, prefix)
        new = [*self._leaving.get(line, ()), *self._new.get(line, ())]
        found: dict[bytes, bytes] = {}
        for key in self._stored(prefix, from_key):
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
        """Hear that the new rows leave with a commit."""
        self._leaving, self._new = self._new, {}

    def committed(self) -> None:
        """Hear that the store has them."""
        self._leaving = {}

    def stored_keys(self) -> Iterator[bytes]:
        """Iterate over all keys in the store."""
        return self._stored(IN_LINE)

    def _stored(self, prefix: bytes, from_key: bytes = b"") -> Iterator[bytes]:
        keys = self._rows.stored_keys(WAITING_TABLE, from_key or prefix)
        return takewhile(lambda key: key.startswith(prefix), keys)

    def _add(self, found: dict[bytes, bytes], key: bytes) -> None:
        """Add a row unless it is in memory, or was deleted meanwhile."""
        if key not in self._loaded and (value := self._rows.get(WAITING_TABLE, key)) is not None:
            found[key] = value

    def _leave(self, line: bytes, count: int) -> None:
        left = self.counts[line] - count
        if left > 0:
            self.counts[line] = left
        else:
            del self.counts[line]
            self._from.pop(line, None)
