"""Keeps a SQLite file up to date for people: `watch -n 5 sqlite3 stats.db "select * from statistics"`.

The table `statistics` has the totals, one row for each kind. The table `windows` has one row for each tumbling window
and kind, until windows expire. Columns (`windows` begins with `start`, in UTC, and `size_s`, and has no columns with *,
which are states now):

    kind                  kind of object
    created               objects created
    distributed           tasks created
    in_progress *         tasks being worked on now
    finished              tasks finished
    failed                attempts that failed
    dead                  tasks that failed for good: dead now, or (in `windows`) died in this window
    time_spent_ms         time of handlers, over all attempts
    objects_finished      objects all of whose tasks are finished
    queued *              tasks that wait for a worker now
    waiting_retry *       tasks that wait for their next attempt now
    cancelled             tasks cancelled
    mean_task_ms          mean time of a finished task

The file is a copy: nothing is lost with it. It is in WAL mode, so a reader never finds it locked.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from api.view.behind import ViewBehind
from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from api.view.view import View

_log = logging.getLogger(__name__)

_EVERY_S = 1.0
_BUSY_TIMEOUT_S = 1.0
_MAX_WINDOWS_A_TICK = 500


def _columns(names: Iterable[str]) -> str:
    return ", ".join(f"{name} integer not null" for name in names)


def _marks(count: int) -> str:
    return ", ".join("?" * count)


_FIGURES = (
    "created",
    "distributed",
    "in_progress",
    "finished",
    "failed",
    "dead",
    "time_spent_ms",
    "objects_finished",
    "queued",
    "waiting_retry",
    "cancelled",
    "mean_task_ms",
)
_OF_NOW = {"in_progress", "queued", "waiting_retry"}
_WINDOW_FIGURES = tuple(name for name in _FIGURES if name not in _OF_NOW)
_MAKE_STATISTICS = f"create table statistics (kind text primary key, {_columns(_FIGURES)}) without rowid"
_MAKE_WINDOWS = (
    "create table windows (start text not null, size_s integer not null, kind text not null, "
    f"{_columns(_WINDOW_FIGURES)}, primary key (start, size_s, kind)) without rowid"
)
_PUT_STATISTICS = f"insert or replace into statistics values ({_marks(1 + len(_FIGURES))})"  # noqa: S608  # question marks
_PUT_WINDOW = f"insert or replace into windows values ({_marks(3 + len(_WINDOW_FIGURES))})"  # noqa: S608  # as above
_DELETE_WINDOW = "delete from windows where start = ? and size_s = ? and kind = ?"

Windows = dict[WindowKey, Counts | None]
"""What changed; None: the window is gone."""


class StatisticsFile:
    """The file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, kinds: Mapping[str, Counts], windows: Windows, *, anew: bool) -> None:
        """Write totals by kind and the changed windows in one transaction; `anew` first drops all rows.

        Raises `sqlite3.Error` when the file cannot be written.
        """
        rows = [(kind, *_figures_of(counts).values()) for kind, counts in kinds.items()]
        kept = [(*_key_of(key), *_window_figures_of(counts)) for key, counts in windows.items() if counts is not None]
        gone = [_key_of(key) for key, counts in windows.items() if counts is None]
        with closing(self._connect()) as connection, connection:
            connection.execute("begin immediate")
            if anew:
                # Dropped, not emptied: it may be of an earlier version, with other columns.
                for table, make in (("statistics", _MAKE_STATISTICS), ("windows", _MAKE_WINDOWS)):
                    connection.execute(f"drop table if exists {table}")
                    connection.execute(make)
            connection.executemany(_PUT_STATISTICS, rows)
            connection.executemany(_PUT_WINDOW, kept)
            connection.executemany(_DELETE_WINDOW, gone)

    def _connect(self) -> sqlite3.Connection:
        # Opened for each write: a file that somebody deleted or replaced is noticed, and nothing stays locked.
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S)
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


class StatisticsKeeper:
    """Copies a view's statistics into a file once a second, if they changed."""

    def __init__(self, view: View, file: StatisticsFile) -> None:
        self._view = view
        self._file = file
        self._written: dict[str, Counts] | None = None
        self._pending: Windows = {}
        self._generation = 0
        self._complained = False

    async def run(self) -> None:
        """Keep the file up to date until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(_EVERY_S)

    async def tick(self) -> None:
        """Write what changed. A file that cannot be written is a warning, and tried again at the next tick."""
        try:
            kinds = self._view.statistics.totals()
            # Another store, or a file that failed us (it may have been deleted): begin again.
            anew = self._written is None or self._generation != self._view.generation
            if anew:
                self._view.statistics.mark_all_windows_changed()
                self._pending = {}
            changed = self._view.statistics.take_changed_windows(_MAX_WINDOWS_A_TICK)
        except ViewBehind:
            return
        self._pending |= {key: counts for key, counts in changed.items() if key.size_ms != TOTAL_SIZE_MS}
        if not anew and not self._pending and kinds is self._written:
            return
        self._generation = self._view.generation
        try:
            await asyncio.to_thread(self._file.write, kinds, self._pending, anew=anew)
        except sqlite3.Error as error:
            if not self._complained:
                _log.warning("cannot write statistics (%s): check EBS_STATS_DB; retrying every second", error)
            self._complained = True
            self._written = None
            return
        self._complained = False
        self._written, self._pending = kinds, {}


def _figures_of(counts: Counts) -> dict[str, int]:
    done = counts.tasks_finished
    figures = (
        counts.objects_created,
        counts.tasks_created,
        counts.in_progress_now,
        counts.tasks_finished,
        counts.tasks_failed,
        counts.dead_now,
        counts.spent_ms,
        counts.objects_finished,
        counts.queued_now,
        counts.retrying_now,
        counts.tasks_cancelled,
        round(counts.spent_ms / done) if done else 0,
    )
    return dict(zip(_FIGURES, figures, strict=True))


def _window_figures_of(counts: Counts) -> list[int]:
    figures = _figures_of(counts) | {"dead": counts.tasks_died}
    return [figures[name] for name in _WINDOW_FIGURES]


def _key_of(key: WindowKey) -> tuple[str, int, str]:
    start = datetime.fromtimestamp(key.start_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return start, key.size_ms // 1_000, key.kind
