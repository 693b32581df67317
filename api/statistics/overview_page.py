"""The first page: totals and states now, throughput and queue over time, health, workers, what is in force."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from api.dashboard import words
from api.dashboard.inside import Refused
from api.dashboard.site import Asked, Page
from api.statistics.strips import Strip, shares, stacked
from app.names import PROCESSING, ROLES
from app.rules.counts import WINDOW_MS
from app.rules.moments import Moment, moments, per_s_now
from app.rules.worker_heartbeats import shown_role

if TYPE_CHECKING:
    from collections.abc import Sequence

_SLOTS = 90
"""Windows of 10 s: the last 15 minutes."""
_MAX_WINDOWS = 1_000
_WINDOW_S = WINDOW_MS / 1_000

STATES = (
    ("queued", "queued"),
    ("in progress", "in_progress"),
    ("waiting for retry", "waiting_retry"),
    ("finished", "finished"),
    ("dead", "dead"),
    ("cancelled", "cancelled"),
)
"""Names for people, and those that the audit has."""


async def _load(asked: Asked) -> dict[str, Any]:
    statistics, audit = asked.health["statistics"], asked.health["audit"]
    if "kinds" not in statistics:
        raise Refused(statistics["status"], statistics)
    states = [(name, audit[key]) for name, key in STATES]
    # Each window costs nine percentiles: no more than the strips can show.
    limit = min(_MAX_WINDOWS, (_SLOTS + 1) * max(1, len(statistics["kinds"])))
    windows, workers, queues, control = await asyncio.gather(
        asked.inside.get("/api/statistics/windows", limit=limit),
        or_none(asked, "/api/workers"),
        or_none(asked, "/api/queues"),
        or_none(asked, "/api/control"),
    )
    complete = _complete(windows["windows"], limit)
    line = moments(complete, statistics, _SLOTS, asked.now_ms)
    finished_per_s = per_s_now([moment.finished for moment in line], asked.now_ms)
    data = {
        "statistics": statistics,
        "audit": audit,
        "windows": windows["windows"],
        "workers": None if workers is None else workers["workers"],
        "control": control,
        "checks": list(asked.health["checks"].values()),
    }
    return {
        "data": data,
        "statistics": statistics,
        "states": states,
        "shares": shares(states),
        "throughput": throughput_strip(line, finished_per_s),
        "queue": queue_strip(line),
        "line": line,
        "finished_per_s": finished_per_s,
        "created_per_s": per_s_now([moment.created for moment in line], asked.now_ms),
        "roles": None if workers is None or queues is None else _roles(workers["workers"], queues["queues"]),
        "control": control,
    }


async def or_none(asked: Asked, path: str) -> Any:
    """Return an answer, or None where the API cannot tell now: the rest of the page is worth showing without it.

    It is not even asked while the broker is away: the view would wait in vain before it says so.
    """
    broker = asked.health["checks"].get("broker")
    if broker is not None and not broker["ok"]:
        return None
    try:
        return await asked.inside.get(path)
    except Refused:
        return None


def _complete(windows: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Drop the oldest instant of a list that was cut off: of it not all kinds are there."""
    if len(windows) < limit:
        return windows
    return [window for window in windows if window["start_ms"] > windows[-1]["start_ms"]]


def throughput_strip(line: Sequence[Moment], now_per_s: float) -> Strip:
    """Draw finished and failed tasks a second; `now_per_s` is said of now."""
    finished = [moment.finished / _WINDOW_S for moment in line]
    failed = [moment.failed / _WINDOW_S for moment in line]
    told = [
        f"{_at(moment)}: {words.rate(done)} finished/s, {words.rate(bad)} failed/s"
        for moment, done, bad in zip(line, finished, failed, strict=True)
    ]
    summary = (
        f"Tasks a second over the last {_span(line)}: {words.rate(now_per_s)} "
        f"finished now, {words.rate(max(finished))} at most; {words.number(sum(moment.failed for moment in line))} "
        "attempts failed"
    )
    return stacked([("finished", finished), ("failed", failed)], told, summary)


def queue_strip(line: Sequence[Moment]) -> Strip:
    """Draw how many tasks waited or were worked on at each moment."""
    series = [
        ("progress", [moment.in_progress for moment in line]),
        ("queued", [moment.waiting for moment in line]),
    ]
    told = [f"{_at(moment)}: {moment.waiting:,} waiting, {moment.in_progress:,} in progress" for moment in line]
    last, highest = line[-1], max(moment.waiting for moment in line)
    summary = (
        f"Tasks under way over the last {_span(line)}: now {last.waiting:,} waiting, {last.in_progress:,} in progress; "
        f"{highest:,} waiting at most"
    )
    return stacked(series, told, summary)


def _at(moment: Moment) -> str:
    return words.plain_moment(moment.start_ms)


def _span(line: Sequence[Moment]) -> str:
    return words.coarse(len(line) * WINDOW_MS)


def _roles(workers: list[dict[str, Any]], queues: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return who works in each role, and in each queue."""
    by_group: dict[str, list[dict[str, Any]]] = {
        shown_role(role, queue["name"] if role == PROCESSING else ""): []
        for role in ROLES
        for queue in (queues if role == PROCESSING else queues[:1])
    }
    for worker in workers:
        by_group.setdefault(shown_role(worker["role"], worker["queue"]), []).append(worker)
    return [
        {
            "role": group,
            "count": len(alive),
            "in_flight": sum(worker["in_flight"] for worker in alive),
            "draining": sum(worker["draining"] for worker in alive),
            "last_progress_at_ms": max((worker["last_progress_at_ms"] or 0 for worker in alive), default=0) or None,
        }
        for group, alive in by_group.items()
    ]


PAGE = Page("/", "overview.html", "Overview", _load)
