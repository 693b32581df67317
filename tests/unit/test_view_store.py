"""The view's store: what survives, what is built anew, and who holds which directory."""

from __future__ import annotations

import asyncio
import errno
import logging
import shutil

import pytest

from api.view import feed
from api.view.behind import ViewBehind
from api.view.store import Layout, Slot, ViewStore, ViewStoreFailed, new_batch
from api.view.view import View
from app.errors import SettingsError
from app.kafka.cluster import Cluster

LAYOUT = Layout("cluster", {"objects": ("id-1", 8)})


@pytest.fixture
def slot(tmp_path):
    """Return the first slot of an empty data directory."""
    slot = Slot(tmp_path)
    yield slot
    slot.close()


def write(store: ViewStore, rows: dict[bytes, bytes], next_offset: int) -> None:
    """Write rows that reach up to an offset of partition 0 of `objects`."""
    batch = new_batch()
    for key, value in rows.items():
        batch.put(key, value)
    store.write(batch, {"objects": {0: next_offset}})


def contents(store: ViewStore) -> list[tuple[bytes, bytes]]:
    """Return the objects, last first."""
    return list(store.newest_first(b"o"))


def test_new_store_is_empty(slot):
    """A new store begins at the beginning of every partition."""
    store = slot.open(LAYOUT)
    assert ({}, []) == (store.offsets(), contents(store))
    store.close()


def test_rows_and_offsets_survive_a_restart(slot):
    """Closed and opened again, a store goes on where it was."""
    store = slot.open(LAYOUT)
    write(store, {b"oa": b"1", b"ob": b"2"}, 7)
    store.close()
    store = slot.open(LAYOUT)
    assert ({"objects": {0: 7}}, [(b"ob", b"2"), (b"oa", b"1")]) == (store.offsets(), contents(store))
    store.close()


@pytest.mark.parametrize(
    "other",
    [
        Layout("another cluster", {"objects": ("id-1", 8)}),
        Layout("cluster", {"objects": ("id-2", 8)}),
        Layout("cluster", {"objects": ("id-1", 9)}),
        Layout("cluster", {"objects": ("id-1", 8)}, format_version=0),
    ],
)
def test_store_of_other_topics_is_rebuilt(slot, other, caplog):
    """Another cluster, topic id, partition count or format makes the rows worthless; the log says so."""
    store = slot.open(LAYOUT)
    write(store, {b"oa": b"1"}, 7)
    store.close()
    store = slot.open(other)
    assert ({}, []) == (store.offsets(), contents(store))
    assert "rebuilt" in caplog.text
    store.close()


def test_store_goes_on_with_a_topic_that_is_new_to_it(slot, caplog):
    """As that of a new queue: it is read from its beginning. Rows of a topic that is gone must go: a rebuild."""
    more = Layout("cluster", LAYOUT.topics | {"waiting-gpu": ("id-2", 8)})
    store = slot.open(LAYOUT)
    write(store, {b"oa": b"1"}, 7)
    store.close()
    store = slot.open(more)
    assert (1, {"objects": {0: 7}}, more) == (len(contents(store)), store.offsets(), store.layout())
    store.close()
    assert "rebuilt" not in caplog.text
    store = slot.open(LAYOUT)
    assert ({}, [], LAYOUT) == (store.offsets(), contents(store), store.layout())
    assert "rebuilt" in caplog.text
    store.close()


def test_unreadable_store_is_rebuilt(slot, caplog):
    """A damaged directory costs a rebuild, not the process."""
    slot.open(LAYOUT).close()
    (slot.directory / "CURRENT").write_bytes(b"garbage")
    with caplog.at_level(logging.WARNING):
        store = slot.open(LAYOUT)
    assert {} == store.offsets()
    assert "cannot be read" in caplog.text
    store.close()


def test_each_process_has_a_directory_of_its_own(tmp_path):
    """A held directory is passed over; one that was let go is taken again, so a restart finds its store."""
    first, second = Slot(tmp_path), Slot(tmp_path)
    assert ["view-0", "view-1"] == [first.directory.name, second.directory.name]
    first.close()
    third = Slot(tmp_path)
    assert first.directory == third.directory
    second.close()
    third.close()


def test_data_directory_that_cannot_be_used_is_named(tmp_path):
    """The error names the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"EBS_DATA_DIR=.*file"):
        Slot(tmp_path / "file" / "data")


def test_scan_stops_at_the_prefix_and_may_be_left_early(slot):
    """A scan sees its prefix only; one that nobody finishes does not keep the store from closing."""
    store = slot.open(LAYOUT)
    write(store, {b"na": b"", b"oa": b"1", b"oab": b"2", b"ob": b"3", b"p": b""}, 1)
    assert [b"oab", b"oa"] == [key for key, _ in store.newest_first(b"oa")]
    unfinished = store.newest_first(b"o")
    assert b"ob" == next(unfinished)[0]
    store.close()
    del unfinished
    store = slot.open(LAYOUT)
    assert 3 == len(contents(store))
    store.close()
    shutil.rmtree(slot.directory)


class FullDisk:
    """Stands for rocksdict's database on a disk without room."""

    def write(self, _batch):
        """Fail as rocksdict does."""
        raise Exception("IO error: No space left on device")  # noqa: TRY002  # it raises no other

    def close(self):
        """Fail as rocksdict does."""
        self.write(None)


def test_full_disk_says_what_to_do_and_can_still_be_closed(slot, caplog):
    """Whoever feeds the view waits for room, and neither ends nor loses anything."""
    store = slot.open(LAYOUT)
    store.close()
    store._db = FullDisk()
    with pytest.raises(
        ViewStoreFailed, match=r"No space left on device\): make room on its disk, or choose .*EBS_DATA_DIR"
    ):
        write(store, {b"oa": b"1"}, 1)
    store.close()
    assert "cannot be closed cleanly" in caplog.text


async def test_feed_waits_for_room_and_says_why_meanwhile(tmp_path, monkeypatch):
    """The process goes on: reads are told the reason, and it is tried again."""
    view, tried = View(0.1), []

    async def connect():
        tried.append(True)

    async def follow(_slot):
        if len(tried) == 2:
            raise asyncio.CancelledError
        raise ViewStoreFailed("no room: make some")

    monkeypatch.setattr(feed, "_DISK_PAUSE_S", 0.0)
    one = feed.ViewFeed(Cluster("nowhere:9092"), tmp_path, view, connect, queues=("default",), clock_ms=lambda: 0)
    one._follow = follow
    with pytest.raises(asyncio.CancelledError):
        await one.run()
    assert 2 == len(tried)
    with pytest.raises(ViewBehind, match="no room: make some"):
        view.statistics.totals()


def test_data_directory_without_room_is_no_mistake_of_the_settings():
    """It may pass; exit code 1 would make a supervisor give up."""

    class Full:
        def mkdir(self, **_options):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ViewStoreFailed, match="make room"):
        Slot(Full())
