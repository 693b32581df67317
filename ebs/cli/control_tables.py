"""Tables and lines for people: commands in force, workers and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.worker_heartbeats import shown_role
from ebs.cli.instants import instant_text
from ebs.cli.remote import table_of
from ebs.cli.task_tables import short_json, wait_text
from ebs.project import ANY_KIND

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

    Answer = Mapping[str, Any]

_MAX_RESULT_CHARS = 80
_LIMITS = {
    "rate_per_s": "{:g} start a second",
    "concurrency": "{} at once",
    "per_key": "{} at once of each key",
}


class KindLimit(NamedTuple):
    """A limit of a kind that is in force, in words, and whether the project or a command has set it."""

    text: str
    by_project: bool


def limits_of_kind(answer: Answer, kind: str) -> Iterator[KindLimit]:
    """Yield the limits of a kind that are in force, by the answer of `GET /api/control`."""
    live = {"rate_per_s": answer["rates"].get(kind)} | answer["limits"].get(kind, {})
    project = answer["project_limits"]
    by_project = project.get(kind, project.get(ANY_KIND, {}))
    for name, words in _LIMITS.items():
        count = live.get(name) or by_project.get(name)
        if count:
            yield KindLimit(words.format(count), by_project=not live.get(name))


def control_table(answer: Answer) -> Table:
    """Return a row for each command in force, and a last row with the number of cancels that are not shown."""
    return table_of("in force", ("what", "of", "how much", "since", "reason"), list(_commands(answer)))


def _commands(answer: Answer) -> Iterator[tuple[object, ...]]:
    pauses = ({"all kinds": answer["paused"]} if answer["paused"] else {}) | answer["paused_kinds"]
    for kind, pause in pauses.items():
        yield "pause", kind, None, instant_text(pause["at_ms"]), pause["reason"]
    for kind in sorted(answer["rates"].keys() | answer["limits"].keys() | answer["project_limits"].keys()):
        for limit in limits_of_kind(answer, kind):
            yield "limit", kind, limit.text, None, "the project says so" if limit.by_project else None
    counts = {"all workers": answer["concurrency"]} if answer["concurrency"] else {}
    for worker, count in (counts | answer["concurrency_of_workers"]).items():
        yield "concurrency", worker, f"{count} at once", None, None
    for worker, drain in answer["draining"].items():
        yield "drain", worker, None, instant_text(drain["at_ms"]), drain["reason"]
    for cancel in answer["cancels"]:
        yield "cancel", _cancelled(cancel), None, instant_text(cancel["at_ms"]), cancel["reason"]
    more = answer["cancel_count"] - len(answer["cancels"])
    if more:
        yield "cancel", f"{more} older cancels", None, None, None


def _cancelled(cancel: Answer) -> str:
    for name in ("object_id", "task_id"):
        if cancel[name] is not None:
            return f"{name.removesuffix('_id')} {cancel[name]}"
    return f"{cancel['kind'] or 'all kinds'} from before {instant_text(cancel['created_before_ms'])}"


def paused_lines(answer: Answer) -> list[str]:
    """Return a line for each pause: since when, why, and how it ends."""
    pauses = ({"": answer["paused"]} if answer["paused"] else {}) | answer["paused_kinds"]
    lines = []
    for kind, pause in pauses.items():
        why = f" ({pause['reason']})" if pause["reason"] else ""
        undo = f"ebs resume --kind {kind}" if kind else "ebs resume"
        lines.append(f"paused: {kind or 'all kinds'} since {instant_text(pause['at_ms'])}{why}; `{undo}` undoes it")
    return lines


def standing_lines(workers: Sequence[Answer]) -> list[str]:
    """Return a line for each worker that stands still, or cannot read its partitions."""
    lines = []
    for one in workers:
        where = f"{one['role']}/{one['worker']}"
        if one["standing_still"]:
            lines.append(f"{where} stands still: {one['standing_still']}; it exits soon and is restarted")
        if one["refused"]:
            lines.append(f"{where}: {one['refused']}")
    return lines


def still_paused(answer: Answer) -> list[str]:
    """Return a line if something is paused."""
    if answer["paused"]:
        return ["all kinds are still paused: `ebs resume` undoes it"]
    kinds = ", ".join(answer["paused_kinds"])
    return [f"still paused on their own: {kinds} (`ebs resume --kind KIND`)"] if kinds else []


def workers_table(workers: Sequence[Answer]) -> Table:
    """Return a row for each worker; ages count back from its last heartbeat."""
    headings = (
        "worker",
        "role",
        "partitions",
        "in flight",
        "oldest task",
        "last progress",
        "state",
        "version",
        "where",
    )
    rows = [
        (
            one["worker"],
            shown_role(one["role"], one["queue"]),
            _ranges(one["partitions"]),
            f"{one['in_flight']} and {one['abandoned']} abandoned" if one["abandoned"] else one["in_flight"],
            None if one["oldest_running_ms"] is None else _seconds(one["oldest_running_ms"]),
            None if one["last_progress_at_ms"] is None else _ago(one["at_ms"] - one["last_progress_at_ms"]),
            "draining" if one["draining"] else "working",
            one["version"],
            f"{one['host']} process {one['pid']}",
        )
        for one in workers
    ]
    return table_of("workers", headings, rows)


def running_table(workers: Sequence[Answer]) -> Table:
    """Return a row for each task that runs now, as far as the workers tell."""
    rows = [
        (
            task["task_id"],
            one["worker"],
            _seconds(task["for_ms"]),
            None if task["progress"] is None else f"{task['progress']:.0%}",
            task["message"],
        )
        for one in workers
        for task in one["running"]
    ]
    return table_of("running tasks", ("task", "worker", "for", "progress", "message"), rows)


def tasks_table(answer: Answer) -> Table:
    """Return a row for each task of an object: what it waits for, its last error or the beginning of its result."""
    rows = [
        (
            one["id"],
            f"{one['state']}, {wait_text(one['waiting'])}" if one.get("waiting") else one["state"],
            one["attempts"],
            None if one["started_at_ms"] is None else instant_text(one["started_at_ms"]),
            _seconds(one["wait_ms"]),
            _seconds(one["spent_ms"]),
            _result(one["result"]) if one["state"] == "FINISHED" else one["error"],
        )
        for one in answer["tasks"]
    ]
    headings = ("task", "state", "attempts", "started", "waited", "worked", "result or error")
    return table_of(f"tasks of {answer['object_id']}", headings, rows)


def _result(result: Any) -> str | None:
    return None if result is None else short_json(result, _MAX_RESULT_CHARS)


def _seconds(duration_ms: int) -> str:
    return f"{duration_ms / 1_000:,.1f} s"


def _ago(age_ms: int) -> str:
    return f"{_seconds(max(0, age_ms))} ago"


def _ranges(numbers: Sequence[int]) -> str:
    """Return sorted numbers as ranges: 0-3, 7."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], number]
        else:
            ranges.append([number])
    return ", ".join("-".join(map(str, one)) for one in ranges)
