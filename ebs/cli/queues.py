"""`ebs queues`: the queues, their kinds and workers, and their tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer  # noqa: TC002  # typer reads annotations when it runs

from ebs.cli.client import path_of
from ebs.cli.remote import Api, AsJson, open_api, show, table_of
from ebs.queues import DEFAULT_QUEUE, start_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADINGS = ("queue", "kinds", "workers", "in flight", "queued", "in progress", "waiting for retry")


def queues(context: typer.Context, *, as_json: AsJson = False, api: Api = None) -> None:
    """Show the queues, their kinds and workers.

    Also shows how many tasks of each queue have not ended, by state.
    """
    with open_api(context, api) as client:
        answer = client.get(path_of("queues"))
    rows = [
        (
            one["name"],
            ", ".join(one["kinds"]),
            one["workers_count"],
            one["in_flight"],
            one["tasks_queued"],
            one["tasks_in_progress"],
            one["tasks_waiting_retry"],
        )
        for one in answer["queues"]
    ]
    show(answer, table_of("queues", _HEADINGS, rows), *lines_of_unworked(answer["queues"]), as_json=as_json)


def lines_of_unworked(queues: Sequence[dict[str, Any]]) -> list[str]:
    """Return a line for each queue without a worker, with the command that starts one."""
    return [
        f"{_no_worker_of(one['name'])}: {start_of(one['name'])}, or ebs up"
        for one in queues
        if not one["workers_count"]
    ]


def _no_worker_of(queue: str) -> str:
    if queue == DEFAULT_QUEUE:
        return "no processing worker is running, so no task starts"
    return f"no processing worker of the queue {queue} is running, so no task in it starts"
