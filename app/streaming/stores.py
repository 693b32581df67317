"""Where a worker keeps the rows of its tables: a RocksDB database for each table and partition.

Stores are caches: wiped when a process starts, restored from the changelog when a partition is assigned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteBufferManager, WriteOptions

from app.errors import StoreFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_MIB = 1 << 20
_BLOCK_CACHE_BYTES = 32 * _MIB
_MEMTABLES_BYTES = 48 * _MIB
_MEMTABLE_BYTES = 8 * _MIB
_BLOOM_BITS_PER_KEY = 10.0
_MEMTABLE_BLOOM_RATIO = 0.1


def _always_a_row(_key: bytes | None, _value: bytes | None) -> str:
    return ""


class StoreMemory:
    """The memory that all stores of a process share, so that it does not grow with partitions (about 80 MiB)."""

    def __init__(self) -> None:
        self._cache = Cache(_BLOCK_CACHE_BYTES)
        stall_writers = False
        self._memtables = WriteBufferManager(_MEMTABLES_BYTES, stall_writers)

    def options(self) -> Options:
        """Return the options that a store opens its database with."""
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        block_based_filter = False
        blocks.set_bloom_filter(_BLOOM_BITS_PER_KEY, block_based_filter)
        options = Options(raw_mode=True)
        options.create_if_missing(True)  # noqa: FBT003  # rocksdict's setters have no names
        options.set_write_buffer_size(_MEMTABLE_BYTES)
        options.set_write_buffer_manager(self._memtables)
        options.set_block_based_table_factory(blocks)
        # Most look-ups ask for rows that are not there: new ids.
        options.set_memtable_whole_key_filtering(True)  # rocksdict's setters have no names
        options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_RATIO)
        return options


class RecentRows:
    """The rows that were written last, for a table that reads them again soon: a read of RocksDB takes 2 us.

    Measured with `make bench-bookkeeping`, 2026-11-28: 8 % less CPU for the whole of the statistics.
    """

    def __init__(self, count: int, read: Callable[[bytes], bytes | None]) -> None:
        self._count = count
        self._read = read
        self._young: dict[bytes, bytes | None] = {}
        self._old: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return a row, None if there is none."""
        young, old = self._young, self._old
        return young[key] if key in young else old[key] if key in old else self._read(key)

    def note(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Take what has just been written; None: deleted."""
        self._young.update(rows)
        if len(self._young) >= self._count:
            self._old, self._young = self._young, {}


class TableStore:
    """The committed rows of one table in one partition: bytes to bytes, in key order.

    `note` is what `offset_notes` keeps in the changelog: no row, and None if a restore has found none. `changelog_end`
    is the offset behind the last record that is known to be in the changelog. `why_no_row` says why a record of the
    changelog is no row, "" if it is one.
    """

    def __init__(
        self,
        path: Path,
        memory: StoreMemory,
        why_no_row: Callable[[bytes | None, bytes | None], str] = _always_a_row,
        *,
        recent_rows: int = 0,
    ) -> None:
        """`recent_rows`: so many of those that were written last are kept in memory, too (up to twice as many)."""
        self.why_no_row = why_no_row
        self.note: bytes | None = None
        self.changelog_end = 0
        self._path = path
        try:
            self._database = Rdict(str(path), memory.options())
        except Exception as error:
            raise self._failed(error) from error
        self._write_options = WriteOptions()
        # A store that is lost is restored from its changelog; a second log on disk would only cost.
        self._write_options.disable_wal = True
        self._recent = RecentRows(recent_rows, self._database.get) if recent_rows else None
        self.get: Callable[[bytes], bytes | None] = self._recent.get if self._recent else self._database.get

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the rows of `keys`, None where there is none."""
        rows: list[bytes | None] = self._database.get(list(keys))
        return rows

    def write(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Apply committed rows; None deletes one."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in rows.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        try:
            self._database.write(batch, self._write_options)
        except Exception as error:
            raise self._failed(error) from error
        if self._recent is not None:
            self._recent.note(rows)

    def items(self, from_key: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over rows in key order, from `from_key` (inclusive) on. Raises `StoreFailed` if it cannot be read."""
        key = from_key
        for key, value in self._database.items(from_key=from_key):  # it stays at the last one
            yield key, value
        self._check_end(key)

    def keys(self, from_key: bytes | None = None) -> Iterator[bytes]:
        """Iterate over the keys in order, from `from_key` (inclusive) on. Raises `StoreFailed` as `items` does."""
        key = from_key
        for key in self._database.keys(from_key=from_key):  # it stays at the last one
            yield key
        self._check_end(key)

    def last_key(self) -> bytes | None:
        """Return the last key in order, None of an empty store."""
        key: bytes | None = next(self._database.keys(backwards=True), None)
        return key

    def _check_end(self, last_key: bytes | None) -> None:
        """Raise `StoreFailed` if nothing was found behind a key because the disk has lost it.

        rocksdict ends such an iteration without a word: what waits there would wait until the next restart.
        """
        rest = self._database.iter()
        if last_key is None:
            rest.seek_to_first()
        else:
            rest.seek(last_key)
            if rest.valid():
                rest.next()
        try:
            rest.status()
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreFailed:
        return StoreFailed(
            f"a table cannot be kept at {self._path} ({error}): make room there, check the disk, or choose another "
            "folder with EBS_DATA_DIR; nothing is lost, as the changelog has all rows"
        )

    def close(self) -> None:
        """Close the database; its directory is swept with the process's own."""
        self._database.close()
