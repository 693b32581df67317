"""`ebs explain`: where an object's time went, from its events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from app.events import SPLIT_SEQUENCE, role_of
from app.rules.timeline import Event, Span, TaskTimeline, Timeline, What, timeline_of, with_wait
from app.rules.waiting_rows import TIMED_REASONS
from ebs.cli.client import path_of
from ebs.cli.control_tables import limits_of_kind, paused_lines, standing_lines
from ebs.cli.instants import clock_text, instant_text
from ebs.cli.queues import lines_of_unworked
from ebs.cli.remote import Api, AsJson, all_pages, open_api, show, table_of
from ebs.cli.task_tables import attempt_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

    from ebs.cli.client import ApiClient


_PAGE_COUNT = 10_000
_MOST_WAITING = 1_000
_BEGUN_AGAIN_MS = 1_000
_TOTALS = {
    "delay_ms": What.DELAY,
    "queue_wait_ms": What.QUEUE,
    "work_ms": What.WORK,
    "retry_wait_ms": What.RETRY,
    "dead_ms": What.DEAD,
}


def explain(
    context: typer.Context,
    object_id: Annotated[str, typer.Argument(metavar="OBJECT_ID", help="The object's id.")],
    *,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show where an object's time went, task by task.

    Delay, queue wait, work, retry wait, and the time from death to redrive; and until when a task waits now.
    """
    with open_api(context, api) as client:
        answer = all_pages(client, path_of("objects", object_id, "events"), "events", limit=_PAGE_COUNT, cursor="after")
        waiting = {} if answer["ended"] else _waiting(client, object_id)
        waits_for = [] if answer["ended"] else _hindrances(client, {one["kind"] for one in answer["events"]})
    timeline = timeline_of(msgspec.convert(answer["events"], list[Event]))
    for task in timeline.tasks:
        if task.task_id in waiting:
            task.spans = with_wait(task.spans, *waiting[task.task_id])
    as_of_ms = answer["view"]["as_of_ms"] or timeline.last_at_ms or 0
    described = _describe(answer, timeline, as_of_ms) | {"hindrances": waits_for}
    show(
        described,
        _summary(described, timeline),
        _spans_table(object_id, timeline, as_of_ms),
        *waits_for,
        as_json=as_json,
    )


def _waiting(client: ApiClient, object_id: str) -> dict[str, tuple[str, int | None]]:
    """Return by task what it waits for, and until when."""
    page: dict[str, Any] = client.get(path_of("waiting"), object_id=object_id, limit=_MOST_WAITING)
    return {one["task_id"]: (one["reason"], one["due_at_ms"]) for one in page["tasks"]}


def _hindrances(client: ApiClient, kinds: Iterable[str]) -> list[str]:
    """Return what may keep tasks of some kinds from going on now: in sentences."""
    control = client.get(path_of("control"))
    queues = [one for kind in kinds for one in client.get(path_of("queues"), kind=kind)["queues"]]
    names = {one["name"] for one in queues}
    workers = [one for one in client.get(path_of("workers"), role="processing")["workers"] if one["queue"] in names]
    drained = [
        f"{one['worker']} is drained: `ebs drain {one['worker']} --off` undoes it"
        for one in workers
        if one["worker"] in control["draining"]
    ]
    return [
        *lines_of_unworked(queues),
        *standing_lines(workers),
        *paused_lines(control),
        *_limit_lines(control, kinds),
        *drained,
    ]


def _limit_lines(control: dict[str, Any], kinds: Iterable[str]) -> Iterator[str]:
    """Yield a line for each limit of these kinds."""
    for kind in sorted(kinds):
        for limit in limits_of_kind(control, kind):
            setter = f"of the project; `ebs limit {kind}` sets another" if limit.by_project else "by command"
            yield f"limit of kind {kind}: {limit.text} ({setter})"


def _describe(answer: dict[str, Any], timeline: Timeline, as_of_ms: int) -> dict[str, Any]:
    ended_at_ms = timeline.last_at_ms if answer["ended"] else None
    created_at_ms = timeline.created_at_ms
    until_ms = ended_at_ms or as_of_ms
    return {
        "object_id": answer["object_id"],
        "state": answer["state"],
        "parent": next((event["parent"] for event in answer["events"] if event.get("parent")), None),
        "created_at_ms": created_at_ms,
        "ended_at_ms": ended_at_ms,
        "as_of_ms": as_of_ms,
        "total_ms": None if created_at_ms is None else max(0, until_ms - created_at_ms),
        "distribution_ms": timeline.distribution_ms,
        "tasks": [_describe_task(task, as_of_ms) for task in timeline.tasks],
    }


def _describe_task(task: TaskTimeline, as_of_ms: int) -> dict[str, Any]:
    totals = {name: task.total_ms(what, as_of_ms) for name, what in _TOTALS.items()}
    spans = [
        msgspec.to_builtins(span) | {"lasted_ms": span.lasted_ms(as_of_ms), "goes_on": span.to_ms is None}
        for span in task.spans
    ]
    named = {"task_id": task.task_id, "sequence": task.sequence, "role": role_of(task.sequence) or "task"}
    return {**named, "last_event": task.last, **totals, "spans": spans}


def _summary(described: dict[str, Any], timeline: Timeline) -> str:
    created_at_ms = described["created_at_ms"]
    if created_at_ms is None:
        began = "created before the oldest record on the topics"
    else:
        began = f"created {instant_text(created_at_ms)}"
    distribution_ms = described["distribution_ms"]
    parts = [f"{described['object_id']} is {described['state']}", began]
    if described["parent"] is not None:
        parts.append(f"submitted by task {described['parent']['task_id']}")
    if described["total_ms"] is not None:
        took = "took" if described["ended_at_ms"] else "has taken"
        parts.append(f"{took} {seconds_text(described['total_ms'])}")
    if distribution_ms is not None:
        parts.append(f"{seconds_text(distribution_ms)} until it was distributed{_split_words(timeline)}")
    elif not timeline.tasks:
        parts.append("not distributed yet")
    return ", ".join(parts)


def _split_words(timeline: Timeline) -> str:
    tasks = f"{timeline.split_into} task{'' if timeline.split_into == 1 else 's'}"
    if all(task.sequence != SPLIT_SEQUENCE for task in timeline.tasks):
        return f" into {tasks}"
    return f", split into {tasks}" if timeline.split_into else ", not split yet"


def _spans_table(object_id: str, timeline: Timeline, as_of_ms: int) -> Table:
    headings = ("task", "from", "lasted", "what", "attempt", "worker", "ended by")
    return table_of(f"timeline of {object_id}", headings, list(_rows(timeline, as_of_ms)))


def _rows(timeline: Timeline, as_of_ms: int) -> Iterator[tuple[object, ...]]:
    for task in timeline.tasks:
        for number, span in enumerate(task.spans):
            attempt = attempt_text(span.attempt, span.redrive)
            lasted = seconds_text(span.lasted_ms(as_of_ms))
            name = task.name if number == 0 else ""
            yield name, clock_text(span.from_ms), lasted, span.what, attempt, span.worker or None, _ended_by(span)


def _ended_by(span: Span) -> str:
    if span.to_ms is None:
        is_in_line = span.waits_for and span.waits_for not in TIMED_REASONS
        what = f": waits for its {span.waits_for}" if is_in_line else ""
        return f"goes on{what}" + ("" if span.due_at_ms is None else f" until {instant_text(span.due_at_ms)}")
    again = ""
    if span.spent_ms is not None and span.to_ms - span.from_ms - span.spent_ms > _BEGUN_AGAIN_MS:
        again = f", begun again: the handler took {seconds_text(span.spent_ms)}"
    return span.outcome + again + (f": {span.error}" if span.error else "")
