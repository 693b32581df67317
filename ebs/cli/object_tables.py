"""What people are shown of objects and statistics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ebs.cli.instants import clock_text, instant_text
from ebs.cli.remote import table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    Answer = Mapping[str, Any]

_BAR_CHARS = 20
_MAX_CONTENT_CHARS = 80
_COUNTS = {
    name: name.replace("_", " ")
    for name in (
        "objects_created",
        "objects_finished",
        "tasks_created",
        "tasks_queued",
        "tasks_in_progress",
        "tasks_waiting_retry",
        "tasks_finished",
        "tasks_failed",
        "tasks_dead",
        "tasks_cancelled",
        "imbalance",
    )
}
_MAX_KIND_COLUMNS = 4
_SPREADS = ("queue_wait_ms", "work_time_ms", "object_time_ms")
_PARTS = ("mean", "p50", "p95", "p99", "max")


def object_table(answer: Answer) -> Table:
    """Return what an object is and how far."""
    rows = [
        ("state", answer["state"]),
        ("tasks", _progress(answer["tasks_done"], answer["tasks_total"])),
        *((name.replace("_", " "), str(answer[name])) for name in _TROUBLES if answer[name]),
        ("kind", answer["kind"]),
        ("name", answer["name"]),
        ("content", _short(answer["content"])),
        *([] if answer["result"] is None else [("result", _short(answer["result"]))]),
        *_family(answer),
        *_callback_rows(answer),
        *((name.removesuffix("_at_ms"), _instant(answer[name])) for name in _INSTANTS),
        ("time spent", f"{answer['time_spent_ms'] / 1000:,.1f} s"),
    ]
    return table_of(f"object {answer['id']}", ("what", "is"), rows)


def _callback_rows(answer: Answer) -> Iterator[tuple[str, str]]:
    callback = answer.get("callback")
    if callback is None:
        return
    attempts = callback["attempts"]
    tries = f", {attempts} attempts" if attempts > 1 else ""
    yield "callback", f"{callback['state']}{tries}: {callback['url']}"
    if callback["error"] and callback["state"] != "delivered":
        yield "callback error", callback["error"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_CONTENT_CHARS else text[: _MAX_CONTENT_CHARS - 3] + "..."


def _family(answer: Answer) -> Iterator[tuple[str, str]]:
    parent, count = answer.get("parent"), answer.get("children_count")
    if parent:
        yield "submitted by", f"task {parent['task_id']}"
    if count:
        yield "has submitted", f"{count:,} {'object' if count == 1 else 'objects'}: ebs objects --parent {answer['id']}"


_TROUBLES = ("tasks_in_progress", "tasks_dead", "tasks_cancelled")
_INSTANTS = ("created_at_ms", "distributed_at_ms", "ended_at_ms")


def totals_table(answer: Answer, rates: Mapping[str, float] | None = None) -> Table:
    """Return the totals by kind, and of all kinds where there are several; with the rates of all where known.

    Up to three kinds are columns, which a narrow terminal has room for; from four kinds on each is a row, without the
    times (p50 / p99).
    """
    kinds = list(answer["kinds"].items())
    if len(kinds) != 1:
        kinds.append(("all kinds", answer))
    told = {kind: {words: f"{figures[name]:,}" for name, words in _COUNTS.items()} for kind, figures in kinds}
    if len(kinds) > _MAX_KIND_COLUMNS:
        rows = [(kind, *figures.values()) for kind, figures in told.items()]
        table = table_of("statistics", ("kind", *_COUNTS.values()), rows)
    else:
        rows = [(words, *(figures[words] for figures in told.values())) for words in _COUNTS.values()]
        for spread in _SPREADS:
            words = spread.removesuffix("_ms").replace("_", " ")
            rows.append((f"{words}, p50 / p99", *(_p50_p99(figures[spread]) for _, figures in kinds)))
        table = table_of("statistics", ("figure", *told), rows)
    for column in table.columns[1:]:
        column.justify = "right"
    if rates:
        table.caption = ", ".join(f"{name.replace('_', ' ')} {rate:,.1f}/s" for name, rate in rates.items())
    return table


def windows_table(windows: Sequence[Answer]) -> Table:
    """Return windows with their percentiles, oldest first."""
    rows = [
        (
            clock_text(one["start_ms"])[:8],
            one["kind"],
            f"{one['objects_finished']} of {one['objects_created']}",
            one["tasks_finished"],
            one["tasks_failed"],
            *(_p50_p99(one[spread], "/") for spread in _SPREADS),
        )
        for one in reversed(windows)
    ]
    headings = ("from", "kind", "objects", "tasks", "failed", "queue wait", "work", "object")
    table = table_of("windows of 10 s: finished of created objects, finished tasks, p50 / p99 in ms", headings, rows)
    # Without lines between its columns it fits a terminal of 80.
    table.box, table.padding, table.pad_edge = None, (0, 2, 0, 0), False
    for column in (table.columns[2], *table.columns[5:]):
        column.justify = "right"
    return table


def spreads_table(answer: Answer) -> Table:
    """Return the percentiles of all time by kind."""
    rows = [
        (kind, spread.removesuffix("_ms").replace("_", " "), *(_ms(figures[spread][part]) for part in _PARTS))
        for kind, figures in answer["kinds"].items()
        for spread in _SPREADS
    ]
    table = table_of("durations in ms", ("kind", "duration", *_PARTS), rows)
    for column in table.columns[2:]:
        column.justify = "right"
    return table


def _progress(done: int, total: int) -> str:
    filled = _BAR_CHARS * done // total if total else 0
    return f"{'█' * filled}{'░' * (_BAR_CHARS - filled)} {done} of {total or '?'}"


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant_text(at_ms)


def _ms(value: float | None) -> str | None:
    return None if value is None else f"{value:,.0f}"


def _p50_p99(spread: Answer, between: str = " / ") -> str:
    if spread["mean"] is None:
        return "-"
    return f"{spread['p50']:,.0f}{between}{spread['p99']:,.0f}"
