"""Queues that no kind has any more; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.names import PROCESSING
from ebs.doctor.facts import Finding, Severity, command
from ebs.queues import start_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings.settings import Settings
    from ebs.doctor.facts import SystemFacts


def check_retired_queues(settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    """Yield the queues of an earlier project: tasks may wait there, and no worker moves them."""
    if facts.project_error is not None:
        return  # which queues its kinds have is not known
    groups = {group.group_id: group for group in facts.groups}
    for queue, rows in facts.retired_queues.items():
        topic = settings.names.requests(queue)
        group = groups.get(settings.names.group(PROCESSING, queue))
        lag = 0 if group is None else sum(group.lag.values())
        members = 0 if group is None else group.member_count
        waiting = "an unknown number of" if rows is None else str(rows)
        said = f"no kind has the queue {queue} any more; left in it: {lag} requests, {waiting} waiting tasks"
        if members:
            fix = "let its worker run until nothing is left: it moves each task to the queue of its kind"
            yield Finding(Severity.INFO, topic, said, "", fix)
        elif lag or rows != 0:
            fix = f"let a worker move them to the queues of their kinds, until nothing is left: {start_of(queue)}"
            yield Finding(Severity.ERROR, topic, said, "no worker runs or moves these tasks", fix)
        else:
            fix = "delete its topics: " + command("kafka-topics.sh", facts.bootstrap, f"--delete --topic {topic}")
            yield Finding(Severity.INFO, topic, said, "", fix)
