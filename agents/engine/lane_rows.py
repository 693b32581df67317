"""Table rows of one partition as the engine sees them: in the store, in the running commit, and in the next commit."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.streaming.partition import Partition
    from app.streaming.step import Step


class LaneRows:
    """The rows of all tables of a partition; None stands for a row that is deleted."""

    __slots__ = ("_changed", "_committing", "_partition")

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._changed: dict[str, dict[bytes, bytes | None]] = {}
        self._committing: dict[str, dict[bytes, bytes | None]] = {}

    def has_table(self, table: str) -> bool:
        """Return whether the partition has a table."""
        return table in self._partition.stores

    def put(self, table: str, key: bytes, value: bytes | None) -> None:
        """Set a row with the next commit, or delete it."""
        self._changed.setdefault(table, {})[key] = value

    def get(self, table: str, key: bytes) -> bytes | None:
        """Return a row as it will be, None if there is none."""
        for changes in (self._changed, self._committing):
            rows = changes.get(table)
            if rows is not None and key in rows:
                return rows[key]
        row: bytes | None = self._partition.stores[table].get(key)
        return row

    def changed(self, table: str) -> bool:
        """Return whether rows of a table wait for the next commit."""
        return bool(self._changed.get(table))

    def uncommitted(self, table: str) -> dict[bytes, bytes | None]:
        """Return the rows of a table whose change cannot be seen in its store yet."""
        return self._committing.get(table, {}) | self._changed.get(table, {})

    def stored_keys(self, table: str, prefix: bytes, from_key: bytes = b"") -> Iterator[bytes]:
        """Iterate over the keys in the store that begin with `prefix`, in order, from `from_key` (inclusive) on."""
        keys = self._partition.stores[table].keys(from_key or prefix)
        return takewhile(lambda key: key.startswith(prefix), keys)

    def collect(self, step: Step) -> None:
        """Move the changes into a step. Until `committed` the stores do not have them."""
        for table, rows in self._changed.items():
            step.rows(table, self._partition.number).changed.update(rows)
        self._committing, self._changed = self._changed, {}

    def committed(self) -> None:
        """Hear that the step is committed: the stores have its rows now."""
        self._committing = {}
