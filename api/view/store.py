"""The read view's rows on disk: a rocksdict store that knows up to which offset it has read.

Rows and offsets go into one write batch, so after any crash the store has the state of some offset, and reading
continues there. The write-ahead log is off: rows that a crash loses are read again from the topics.

Keys start with a letter: `o` object id (the object's JSON), `l` object id (the ledger row), `r` the key of
`app.rules.results` (a task's result and error), `w` window key and
partition (the window's counts in that partition), `p`, `i` and `C` (the index of objects, see `api.view.object_index`),
`s` (the objects that an object has submitted, see `api.view.children`), `t` (waiting tasks, see
`api.view.waiting_rows`),
`d` and `D` (dead letters, see `api.view.dead_letter_rows`), `c` command key (a command in force), `h` role and worker
(its last heartbeat), `m` (the layout of the store, the offsets that were counted when it was started, and its age).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from app.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from api.view.forgotten import Counted

_log = logging.getLogger(__name__)

FORMAT_VERSION = 9
"""Version of keys and values; a store of another version is rebuilt."""

_LAYOUT_KEY = b"mlayout"
_OFFSETS_KEY = b"moffsets"
_COUNTED_KEY = b"mcounted"
_WHOLE_KEY = b"mwhole"
_MS_PER_H = 3_600_000
_CACHE_BYTES = 32 * 1_048_576
_WRITE_BUFFER_BYTES = 16 * 1_048_576
_MEMTABLE_BLOOM_RATIO = 0.1
_MAX_SLOTS = 1_000
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
"""Errors that can go away: a full disk can have room again later."""
_DELETION_WINDOW = 1_024

Offsets = dict[str, dict[int, int]]
"""By topic and partition the next offset to read."""


class ViewStoreFailed(Exception):
    """The disk cannot store the view; the message says why and what to do."""


class Layout(msgspec.Struct, frozen=True):
    """The topics that a store was built from, by name: id and partition count."""

    cluster_id: str
    topics: dict[str, tuple[str, int]]
    format_version: int = FORMAT_VERSION

    def continues(self, older: Layout) -> bool:
        """Return whether a store of an older layout is of use: it reads a topic that is new to it from its beginning.

        Rows of a topic that is read no more would never change again.
        """
        same = (self.cluster_id, self.format_version) == (older.cluster_id, older.format_version)
        return same and older.topics.items() <= self.topics.items()


class Slot:
    """The directory `view-<n>` of this process: the first one that no other process holds.

    The lock belongs to the process and dies with it, so a restart finds its store again.
    """

    def __init__(self, data_dir: Path) -> None:
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            for number in range(_MAX_SLOTS):
                self.directory = data_dir / f"view-{number}"
                self._lock = (data_dir / f"view-{number}.lock").open("w")
                try:
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    self._lock.close()
                else:
                    return
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise ViewStoreFailed(_advice(data_dir, error)) from error
            raise SettingsError(f"EBS_DATA_DIR={data_dir} cannot be used ({error}): choose another directory") from None
        raise SettingsError(f"EBS_DATA_DIR={data_dir} already serves {_MAX_SLOTS} API processes: choose another one")

    def open(self, layout: Layout, now_ms: int = 0, tombstones_kept_ms: int | None = None) -> ViewStore:
        """Open the store. Rebuild it if it is unreadable, of another layout, or too old (see `api.view.tombstones`)."""
        if self.directory.exists():
            store = self._open_kept(layout, now_ms, tombstones_kept_ms)
            if store is not None:
                return store
        shutil.rmtree(self.directory, ignore_errors=True)
        with _telling(self.directory):
            store = ViewStore(self.directory)
        with _closing_if_failed(store):
            store.keep_whole(now_ms)
            store.keep_layout(layout)
        return store

    def _open_kept(self, layout: Layout, now_ms: int, tombstones_kept_ms: int | None) -> ViewStore | None:
        try:
            store = ViewStore(self.directory)
        except Exception as error:  # noqa: BLE001  # rocksdict raises bare Exception for whatever is wrong on disk
            _log.warning("the view in %s cannot be read (%s): it is rebuilt", self.directory, error)
            return None
        why = _why_anew(store, layout, now_ms - store.whole_ms(), tombstones_kept_ms)
        if why is None:
            with _closing_if_failed(store):
                store.keep_layout(layout)
            return store
        if store.layout() is not None:
            _log.warning("the view in %s %s: it is rebuilt", self.directory, why)
        store.close()
        return None

    def close(self) -> None:
        """Let another process have the directory."""
        self._lock.close()


class ViewStore:
    """Rows by key, in byte order; see the module for the keys."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._db = Rdict(os.fspath(directory), _options())
        write_options = WriteOptions()
        write_options.disable_wal = True
        self._db.set_write_options(write_options)
        self.get = self._db.get
        self.get_many: Callable[[list[bytes]], list[bytes | None]] = self._db.get

    def layout(self) -> Layout | None:
        """Return whose records these are; None of a store that is new or of no readable layout."""
        data = self._db.get(_LAYOUT_KEY)
        try:
            return None if data is None else msgspec.json.decode(data, type=Layout)
        except msgspec.DecodeError:
            return None

    def keep_layout(self, layout: Layout) -> None:
        """Mark the store as of this layout."""
        if self.layout() == layout:
            return
        with _telling(self._directory):
            self._db[_LAYOUT_KEY] = msgspec.json.encode(layout)
            self._db.flush()

    def offsets(self) -> Offsets:
        """Return the offsets where reading continues."""
        data = self._db.get(_OFFSETS_KEY)
        return {} if data is None else msgspec.msgpack.decode(data, type=Offsets)

    def counted(self) -> Counted:
        """Return the offsets that were counted when the store was started; empty if they are not known."""
        data = self._db.get(_COUNTED_KEY)
        return {} if data is None else msgspec.msgpack.decode(data, type=dict[int, int])

    def keep_counted(self, counted: Counted) -> None:
        """Store these offsets for the next process: this one may end before it has read all objects."""
        with _telling(self._directory):
            self._db[_COUNTED_KEY] = msgspec.msgpack.encode(counted)

    def whole_ms(self) -> int:
        """Return the last instant (epoch ms) that it holds everything of, or when it was begun; 0: not known."""
        return int.from_bytes(self._db.get(_WHOLE_KEY) or b"", "big")

    def keep_whole(self, at_ms: int) -> None:
        """Keep that instant."""
        with _telling(self._directory):
            self._db[_WHOLE_KEY] = at_ms.to_bytes(8, "big")

    def flush(self) -> None:
        """Flush to disk in the background, so that the written rows survive a kill."""
        with _telling(self._directory):
            self._db.flush(wait=False)

    def write(self, batch: WriteBatch, offsets: Offsets) -> None:
        """Write rows and the offsets that they reach, together or not at all."""
        batch.put(_OFFSETS_KEY, msgspec.msgpack.encode(offsets))
        with _telling(self._directory):
            self._db.write(batch)

    def newest_first(self, prefix: bytes, before: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values that start with a prefix, from the last one (or the last below `before`) to the first.

        Read it to its end.
        """
        rows = self._db.iter(ReadOptions())
        rows.seek_for_prev(before or prefix + b"\xff" * 16)
        while rows.valid():
            key = rows.key()
            if not key.startswith(prefix):
                return
            if key != before:
                yield key, rows.value()
            rows.prev()

    def oldest_first(self, prefix: bytes, start: bytes) -> Iterator[bytes]:
        """Yield the keys that start with a prefix in order, from `start` (inclusive) on."""
        options = ReadOptions()
        # Behind the prefix there may be a million deleted keys, which would be skipped one by one (seen: 0.2 s).
        options.set_iterate_upper_bound(prefix[:-1] + bytes((prefix[-1] + 1,)))
        rows = self._db.iter(options)
        rows.seek(start)
        while rows.valid():
            yield rows.key()
            rows.next()

    def close(self) -> None:
        """Flush and close; rows that cannot be flushed are read again from the topics."""
        try:
            self._db.close()
        except Exception as error:  # noqa: BLE001  # as in `_telling`
            _log.warning("the view in %s cannot be closed cleanly: %s", self._directory, error)


@contextmanager
def _closing_if_failed(store: ViewStore) -> Iterator[None]:
    try:
        yield
    except ViewStoreFailed:
        store.close()
        raise


@contextmanager
def _telling(directory: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # rocksdict raises bare Exception for whatever is wrong on disk
        raise ViewStoreFailed(_advice(directory, error)) from error


def _advice(directory: Path, error: Exception) -> str:
    return (
        f"the view cannot be written to {directory} ({error}): make room on its disk, or choose another EBS_DATA_DIR. "
        "The API tries again; nothing is lost, because the topics have everything"
    )


def _why_anew(store: ViewStore, layout: Layout, missing_ms: int, tombstones_kept_ms: int | None) -> str | None:
    """Say why a store is of no use, None if it is; the last `missing_ms` are not in it."""
    known = store.layout()
    if known is None or not layout.continues(known):
        return "belongs to other topics or to another version"
    if tombstones_kept_ms is not None and missing_ms > tombstones_kept_ms:
        return (
            f"has not been read on for {missing_ms / _MS_PER_H:.1f} h, and from {tombstones_kept_ms / _MS_PER_H:.1f} h "
            "on topics may no longer tell what was forgotten meanwhile (delete.retention.ms)"
        )
    return None


def new_batch() -> Any:
    """Return an empty write batch."""
    return WriteBatch(raw_mode=True)


def _options() -> Any:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(_CACHE_BYTES))
    table.set_bloom_filter(10, block_based=False)
    options = Options(raw_mode=True)
    options.create_if_missing(True)  # noqa: FBT003  # rocksdict's own signature
    options.set_block_based_table_factory(table)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    # Most keys that are looked up while the view is built are not there yet: 15 % of its time went into finding that.
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_BLOOM_RATIO)
    options.set_memtable_whole_key_filtering(True)  # rocksdict's own signature
    # Objects pass through the orders of the first states; what is left behind there would have to be skipped by each
    # list of these states, so files of little else are compacted soon.
    options.add_compact_on_deletion_collector_factory(_DELETION_WINDOW, _DELETION_WINDOW // 2, 0.0)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1_048_576)
    return options
