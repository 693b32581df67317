"""The SQLite file for `watch sqlite3`: what is in it, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing

import pytest
from plain_names import WINDOWS_CHANGELOG

from api.view.statistics_file import StatisticsFile, StatisticsKeeper
from api.view.store import Layout, Slot
from api.view.view import View
from app.rules.counts import TOTAL_SIZE_MS, WINDOW_MS, Counts, WindowKey, encode_counts, encode_window_key

START_MS = 1_795_489_270_000
TOTAL = WindowKey(TOTAL_SIZE_MS, 0, "mail")
WINDOW = WindowKey(WINDOW_MS, START_MS, "mail")


class Row:
    """A record of the windows' changelog."""

    def __init__(self, offset: int, key: WindowKey, counts: Counts | None) -> None:
        self.offset = offset
        self.key = encode_window_key(key)
        self.value = None if counts is None else encode_counts(counts)


class Bench:
    """A view with a file that follows it."""

    def __init__(self, directory) -> None:
        self.path = directory / "stats.db"
        self.slot = Slot(directory)
        self.view = View(0)
        self.keeper = StatisticsKeeper(self.view, StatisticsFile(self.path))
        self._offset = 0

    def attach(self, cluster_id: str = "c") -> None:
        """Give the view a store."""
        self.view.attach(self.slot.open(Layout(cluster_id, {})), dict)  # type: ignore[arg-type]  # never asked

    def apply(self, *rows: tuple[WindowKey, Counts | None]) -> None:
        """Let the view read rows of partition 0."""
        records = [Row(self._offset + number, *row) for number, row in enumerate(rows)]
        self._offset += len(records)
        self.view.apply({(WINDOWS_CHANGELOG, 0): records})

    def tick(self) -> None:
        """Let a second pass."""
        asyncio.run(self.keeper.tick())

    def read(self, query: str) -> list[tuple]:
        """Query the file as `sqlite3` does."""
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()


@pytest.fixture
def bench(tmp_path):
    """Return a bench whose view has an empty store."""
    bench = Bench(tmp_path)
    bench.attach()
    yield bench
    bench.view.detach()
    bench.slot.close()


def test_a_row_a_kind_and_a_row_a_window(bench):
    """The first columns are kind, created, distributed, in progress, finished, failed, dead, time."""
    counts = Counts(
        objects_created=1, tasks_created=2, in_progress_now=3, tasks_finished=4, tasks_failed=5, dead_now=6, spent_ms=7
    )
    bench.apply((TOTAL, counts), (TOTAL._replace(kind="a"), Counts(objects_created=9)), (WINDOW, counts))
    bench.tick()
    kinds = bench.read("select * from statistics order by kind")
    assert [("a", 9), ("mail", 1, 2, 3, 4, 5, 6, 7)] == [kinds[0][:2], kinds[1][:8]]
    names = "kind, created, distributed, in_progress, finished, failed, dead, time_spent_ms, queued, mean_task_ms"
    assert [("mail", 1, 2, 3, 4, 5, 6, 7, 0, 2)] == bench.read(f"select {names} from statistics where kind = 'mail'")
    assert [("2026-11-24 03:01:10", 10, "mail", 1)] == bench.read("select start, size_s, kind, created from windows")


def test_kinds_that_begin_alike_are_kept_apart(bench):
    """A kind whose name is the beginning of another one's has its own windows."""
    longer = WINDOW._replace(kind="mail.b")
    bench.apply((WINDOW, Counts(tasks_created=1)), (longer, Counts(tasks_created=2)))
    bench.tick()
    assert [("mail", 1), ("mail.b", 2)] == bench.read("select kind, distributed from windows order by kind")
    bench.apply((WINDOW, None))
    bench.tick()
    assert [("mail.b", 2)] == bench.read("select kind, distributed from windows")


def test_only_changes_are_written(bench):
    """A second in which nothing happened does not touch the file; a change overwrites, a tombstone removes."""
    bench.apply((TOTAL, Counts(tasks_created=1)), (WINDOW, Counts(tasks_created=1)))
    bench.tick()
    written_at = bench.path.stat().st_mtime_ns
    bench.tick()
    assert written_at == bench.path.stat().st_mtime_ns
    bench.apply((TOTAL, Counts(tasks_created=5)), (WINDOW, Counts(tasks_created=5)))
    bench.tick()
    assert ([(5,)], [(5,)]) == (
        bench.read("select distributed from statistics"),
        bench.read("select distributed from windows"),
    )
    bench.apply((WINDOW, None))
    bench.tick()
    assert [] == bench.read("select * from windows")


def test_reader_is_never_locked_out(bench):
    """A reader in the middle of its query neither stops the writer nor sees half of what it writes."""
    bench.apply((TOTAL, Counts(tasks_created=1)))
    bench.tick()
    with closing(sqlite3.connect(bench.path, timeout=0)) as reader:
        reader.execute("begin")
        assert [(1,)] == reader.execute("select distributed from statistics").fetchall()
        bench.apply((TOTAL, Counts(tasks_created=2)))
        bench.tick()
        assert [(1,)] == reader.execute("select distributed from statistics").fetchall()
    assert [(2,)] == bench.read("select distributed from statistics")


def test_file_that_cannot_be_written_is_one_warning(bench, caplog):
    """A directory in the file's place is said once; when it is gone, the file is complete."""
    bench.path.mkdir()
    bench.apply((TOTAL, Counts(tasks_created=1)), (WINDOW, Counts(tasks_created=1)))
    with caplog.at_level(logging.WARNING):
        bench.tick()
        bench.tick()
    assert 1 == caplog.text.count("EBS_STATS_DB")
    bench.path.rmdir()
    bench.tick()
    assert ([(1,)], [(1,)]) == (
        bench.read("select distributed from statistics"),
        bench.read("select distributed from windows"),
    )


def test_file_that_was_deleted_is_made_again(bench):
    """Somebody removed the file: after the next change it is complete again, with the windows that did not change."""
    bench.apply((TOTAL, Counts(tasks_created=1)), (WINDOW, Counts(tasks_created=1)))
    bench.tick()
    bench.path.unlink()
    bench.apply((TOTAL, Counts(tasks_created=2)))
    bench.tick()
    bench.tick()
    assert ([(2,)], [(1,)]) == (
        bench.read("select distributed from statistics"),
        bench.read("select distributed from windows"),
    )


def test_view_built_anew_empties_the_file(bench):
    """Rows of a cluster that is gone do not stay."""
    bench.apply((TOTAL, Counts(tasks_created=1)), (WINDOW, Counts(tasks_created=1)))
    bench.tick()
    bench.view.detach()
    bench.tick()
    bench.attach("another cluster")
    bench.tick()
    assert ([], []) == (bench.read("select * from statistics"), bench.read("select * from windows"))


def test_many_windows_are_written_over_several_seconds(bench):
    """The first fill is spread, so that it does not hold up requests; newest windows come first."""
    rows = [
        (WINDOW._replace(start_ms=START_MS + number * WINDOW_MS), Counts(tasks_created=1)) for number in range(1200)
    ]
    bench.apply(*rows)
    sizes = []
    for _ in range(3):
        bench.tick()
        sizes += bench.read("select count(*) from windows")
    assert [(500,), (1_000,), (1_200,)] == sizes
