"""The tables that `ebs demo` ends with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table

from app.telemetry.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Figures = Mapping[str, Any]

_COUNTS = (
    "objects_created",
    "objects_finished",
    "tasks_created",
    "tasks_started",
    "tasks_in_progress",
    "tasks_finished",
    "tasks_failed",
    "tasks_dead",
)
_SPREADS = {
    "queue_wait_ms": "a task waited",
    "work_time_ms": "a task was worked on",
    "object_time_ms": "an object took",
}
_WINDOWS_SHOWN = 12


def statistics_table(figures: Figures) -> Table:
    """Return the totals, one figure a row; figures that are not there are left out."""
    table = Table(title="statistics")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name in _COUNTS:
        if name in figures:
            table.add_row(name.replace("_", " "), f"{figures[name]:,}")
    if "time_spent_ms" in figures:
        table.add_row("time spent", f"{figures['time_spent_ms'] / 1000:,.1f} s")
    for name, words in _SPREADS.items():
        spread = figures.get(name) or {}
        if spread.get("mean") is not None:
            table.add_row(f"{words}, mean / p99", f"{spread['mean']:,.0f} / {spread.get('p99') or 0:,.0f} ms")
    return table


def windows_table(windows: Sequence[Figures]) -> Table:
    """Return the latest windows, oldest first; times are UTC."""
    table = Table(title="windows of 10 s")
    table.add_column("from (UTC)")
    table.add_column("kind")
    headings = ("objects_created", "tasks_created", "tasks_started", "tasks_finished")
    for name in headings:
        table.add_column(name.replace("_", " "), justify="right")
    for window in sorted(windows, key=lambda window: (window["start_ms"], window["kind"]))[-_WINDOWS_SHOWN:]:
        start = datetime.fromtimestamp(window["start_ms"] / 1000, UTC)
        table.add_row(f"{start:%H:%M:%S}", plain(window["kind"]), *(f"{window.get(name, 0):,}" for name in headings))
    return table
