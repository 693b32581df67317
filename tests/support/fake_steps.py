"""A step and its tables in memory, for what an agent's class does inside of one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from fakes import Sent

from app.streaming.tables import StepRows
from app.streaming.transactions import Transactions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from app.streaming.batching import RecordBatch

NEVER_MS = 1 << 50
"""A clock that every stamp is behind."""


def no_rows(_key: bytes) -> bytes | None:
    """Read from a table without any rows."""
    return None


class FakeStore:
    """A table's committed rows in one partition, in a dictionary; keys come in order, as from rocksdb."""

    def __init__(self, rows: Mapping[bytes, bytes] | None = None) -> None:
        self.rows = dict(rows or {})
        self.note: bytes | None = None
        self.changelog_end = 0
        self.get = self.rows.get
        self.why_no_row: Callable[[bytes | None, bytes | None], str] = lambda _key, _value: ""

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the rows of `keys`."""
        return [self.rows.get(key) for key in keys]

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Apply committed rows; None deletes one."""
        for key, value in rows.items():
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value

    def items(self, from_key: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the rows in order, from a key on."""
        return iter([(key, self.rows[key]) for key in sorted(self.rows) if key >= from_key])

    def keys(self, from_key: bytes | None = None) -> Iterator[bytes]:
        """Iterate over the keys in order, from `from_key` (inclusive) on."""
        return iter(sorted(key for key in self.rows if key >= (from_key or b"")))

    def last_key(self) -> bytes | None:
        """Return the last key in order."""
        return max(self.rows, default=None)


class FakeStep:
    """A step whose body a test runs by hand: what it sends is listed, its rows are committed by `commit`."""

    def __init__(
        self, batches: Iterable[RecordBatch], stores: Mapping[tuple[str, int], FakeStore], began_at_ms: int = NEVER_MS
    ) -> None:
        self.began_at_ms = began_at_ms
        self.batches = list(batches)
        self.sent: list[Sent] = []
        self.left: list[tuple[RecordBatch, int]] = []
        self.repeated: set[tuple[str, int]] = set()
        self.full_bytes = math.inf
        self.rows_of: dict[tuple[str, int], StepRows] = {}
        self._stores = stores
        nobody: Any = None
        self.transactions = Transactions(ownership=nobody, new_producer=nobody, fatal=nobody)
        self.check_size = self.transactions.topic_limits.check_size
        self.limit_bytes = self.transactions.topic_limits.limit_bytes

    def partition(self, number: int) -> object | None:
        """Return something for the partitions whose tables it has."""
        return next((store for (_, one), store in self._stores.items() if one == number), None)

    def repeat_offset(self, topic: str, partition: int) -> None:
        """List an offset that is committed again."""
        self.repeated.add((topic, partition))

    @property
    def is_full(self) -> bool:
        """Whether what was sent has `full_bytes`."""
        return sum(len(one.value or b"") for one in self.sent) >= self.full_bytes

    def leave(self, batch: RecordBatch, offset: int) -> None:
        """List what was left."""
        self.left.append((batch, offset))

    def send(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any | None = None
    ) -> None:
        """List a record."""
        self.sent.append(Sent(topic, partition, key, value, list(headers or ())))

    def rows(self, table: str, partition: int) -> StepRows:
        """Return a table's rows in a partition."""
        rows = self.rows_of.get((table, partition))
        if rows is None:
            rows = StepRows(cast("Any", self._stores[table, partition]), f"{table}-changelog", partition)
            self.rows_of[table, partition] = rows
        return rows

    def commit(self) -> None:
        """Make the rows visible."""
        for rows in self.rows_of.values():
            rows.apply()

    def sent_to(self, topic: str) -> list[Sent]:
        """Return the records sent to a topic."""
        return [one for one in self.sent if one.topic == topic]
