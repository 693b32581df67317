"""Tables: committed rows on a real rocksdict, and what a step sees of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import faust
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import StoreFailed
from app.streaming.stores import StoreMemory, TableStore
from app.streaming.tables import StepRows, StepTableManager, TransactionalTable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def memory() -> StoreMemory:
    """Return the memory that the stores of a process share."""
    return StoreMemory()


@pytest.fixture
def store(tmp_path, memory) -> Iterator[TableStore]:
    """Return an empty store."""
    store = TableStore(tmp_path / "store", memory)
    yield store
    store.close()


@pytest.fixture
def rows(store) -> StepRows:
    """Return a step's view of a store that has the row `a`."""
    store.write({b"a": b"committed"})
    return StepRows(store, "app-counts-changelog", 3)


def test_store_keeps_rows_in_key_order(store):
    """Bytes to bytes, whatever they are, in the order of the keys' bytes."""
    store.write({b"b": b"2", b"\xff": b"\x00", b"a": b"", b"": b"empty key"})
    assert [(b"", b"empty key"), (b"a", b""), (b"b", b"2"), (b"\xff", b"\x00")] == list(store.items())
    assert [b"", b"a", b"b", b"\xff"] == list(store.keys())
    assert [b"b", b"\xff"] == [key for key, _ in store.items(from_key=b"aa")]
    assert (b"2", None) == (store.get(b"b"), store.get(b"c"))


def test_store_overwrites_and_deletes(store):
    """The last write of a key counts; None is a deletion, also of what was never there."""
    store.write({b"a": b"1", b"b": b"1"})
    store.write({b"a": b"2", b"b": None, b"c": None})
    assert [(b"a", b"2")] == list(store.items())


@given(
    steps=st.lists(
        st.dictionaries(st.integers(0, 12), st.none() | st.integers(0, 255), max_size=6), min_size=1, max_size=12
    )
)
def test_rows_in_memory_are_those_of_the_store(steps):
    """A store that keeps recent rows in memory answers as one that does not, whatever falls out of its memory."""
    with tempfile.TemporaryDirectory() as directory:
        store = TableStore(Path(directory) / "store", StoreMemory(), recent_rows=3)
        expected: dict[bytes, bytes | None] = {}
        for step in steps:
            rows = {bytes([key]): None if value is None else bytes([value]) for key, value in step.items()}
            store.write(rows)
            expected |= rows
            assert {key: store.get(key) for key in expected} == expected
        assert store.get(b"never written") is None
        store.close()


def test_store_finds_many_at_once(store):
    """In the order asked for, None where there is none."""
    store.write({b"a": b"1", b"c": b"3"})
    assert [b"3", None, b"1"] == store.get_many([b"c", b"b", b"a"])
    assert [] == store.get_many([])


def test_store_knows_its_last_key(store):
    """None while it is empty, and not one that was deleted."""
    assert store.last_key() is None
    store.write({b"b": b"2", b"c": b"3", b"a": b"1"})
    assert b"c" == store.last_key()
    store.write({b"c": None})
    assert b"b" == store.last_key()


def test_stores_share_their_memory_and_nothing_else(tmp_path, memory):
    """Many partitions, one cache; the rows are apart, and a closed store lets another one open."""
    stores = [TableStore(tmp_path / str(number), memory) for number in range(3)]
    for number, one in enumerate(stores):
        one.write({b"key": b"%d" % number})
    assert [b"0", b"1", b"2"] == [one.get(b"key") for one in stores]
    for one in stores:
        one.close()


def test_step_sees_its_own_writes_and_others_do_not(rows, store):
    """Until the commit the store is as it was."""
    rows.put(b"b", b"new")
    rows.put(b"a", b"changed")
    assert (b"changed", b"new") == (rows.get(b"a"), rows.get(b"b"))
    assert [b"new", b"changed", None] == rows.get_many([b"b", b"a", b"c"])
    assert [(b"a", b"committed")] == list(store.items())
    other = StepRows(store, "app-counts-changelog", 3)
    assert (b"committed", None) == (other.get(b"a"), other.get(b"b"))


def test_step_sees_what_it_deleted_as_gone(rows, store):
    """A deletion is a change like any other: a tombstone on the changelog, a missing row afterwards."""
    rows.delete(b"a")
    assert rows.get(b"a") is None
    assert [None] == rows.get_many([b"a"])
    assert {b"a": None} == rows.changed
    assert b"committed" == store.get(b"a")
    rows.apply()
    assert [] == list(store.items())


def test_step_without_changes_reads_what_is_committed(rows):
    """Many rows are read in one call then."""
    assert [None, b"committed"] == rows.get_many([b"b", b"a"])


def test_applied_rows_are_committed(rows, store):
    """All of them, at once."""
    rows.put(b"b", b"2")
    rows.put(b"b", b"3")
    rows.apply()
    assert [(b"a", b"committed"), (b"b", b"3")] == list(store.items())


_FULL = """
import os, resource, sys
from pathlib import Path
from app.streaming.stores import StoreMemory, TableStore

store = TableStore(Path(sys.argv[1]) / "ledger-0-1", StoreMemory())
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # a file that may not grow, as on a full disk
while True:
    store.write({os.urandom(16): os.urandom(10_000) for _ in range(100)})
"""


def test_full_disk_names_the_folder_and_the_setting(tmp_path):
    """It ends the worker; its tables are in their changelogs."""
    ended = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True, timeout=100, check=False
    )
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("app.errors.StoreFailed")]
    assert f"a table cannot be kept at {tmp_path}/ledger-0-1 (IO error: " in said
    assert "another folder with EBS_DATA_DIR" in said


def test_step_lists_committed_keys_only(rows):
    """What it changes itself is not among them, so that a scan can change what it finds."""
    rows.put(b"b", b"2")
    rows.delete(b"a")
    assert [b"a"] == list(rows.committed_keys())
    assert b"a" == rows.last_committed_key()


def test_step_that_changed_nothing_writes_nothing(rows, store):
    """Reading leaves no trace."""
    rows.get(b"a")
    rows.apply()
    assert ({}, [(b"a", b"committed")]) == (rows.changed, list(store.items()))


@pytest.fixture
def table(store) -> TransactionalTable:
    """Return a Faust table of an app, with one restored partition."""
    app = faust.App("app", store="memory://", Table=TransactionalTable, TableManager=StepTableManager)
    table: TransactionalTable = app.Table("counts", partitions=2)
    table.stores[1] = store
    store.write({b"a": b"1", b"b": b"2"})
    return table


def test_table_reads_committed_rows_of_its_partitions(table):
    """What a page sees: key, membership, iteration, length."""
    assert b"1" == table[b"a"]
    assert b"b" in table
    assert b"c" not in table
    assert [b"a", b"b"] == list(table)
    assert 2 == len(table)
    with pytest.raises(KeyError):
        table[b"c"]


def test_table_without_partitions_is_empty(table):
    """Before an assignment there is nothing to read."""
    table.stores.clear()
    assert [] == list(table)
    assert b"a" not in table


def test_writing_outside_of_a_step_is_refused(table):
    """The error says how it is done."""
    with pytest.raises(RuntimeError, match=r"step\.rows\('counts', partition\)\.put"):
        table[b"a"] = b"2"
    with pytest.raises(RuntimeError, match=r"step\.rows\('counts', partition\)\.delete"):
        del table[b"a"]
    assert b"1" == table[b"a"]


def test_changelog_is_named_as_faust_names_it(table):
    """Application, table, `changelog`."""
    assert "app-counts-changelog" == table.changelog_name


def test_second_table_of_a_name_is_refused(table):
    """Two tables in one changelog would overwrite each other's rows."""
    with pytest.raises(ValueError, match="'counts'"):
        table.app.Table("counts", partitions=2)


def test_changelogs_are_kept_from_fausts_consumer(table):
    """Faust subscribes to no changelog: restoring is ours."""
    assert set() == table.app.tables.changelog_topics
    assert {"counts"} == set(table.app.tables)


@pytest.mark.parametrize("part", [0, 0.4])
def test_row_that_the_disk_has_lost_ends_an_iteration_with_an_error(tmp_path, part):
    """Not as if the table ended there: what waits behind it would wait for the next restart."""
    store = TableStore(tmp_path / "waiting-0-1", StoreMemory())
    for first in range(0, 40_000, 1_000):
        store.write({b"%08d" % number: os.urandom(1_000) for number in range(first, first + 1_000)})
    (file, *_) = sorted((tmp_path / "waiting-0-1").glob("*.sst"))
    os.truncate(file, round(part * file.stat().st_size))
    for read in (store.keys, store.items):
        with pytest.raises(StoreFailed, match=r"Corruption: .*EBS_DATA_DIR"):
            list(read())
    assert [b"%08d" % number for number in range(30_000, 30_010)] == list(itertools.islice(store.keys(b"00030000"), 10))
