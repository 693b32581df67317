"""The queues that kinds of tasks go to: a queue has a topic, a consumer group and workers of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_QUEUE = "default"
"""The queue of all kinds that name none."""
MAX_QUEUE_CHARS = 32
"""A queue's name is part of the names of topics, which have at most 249 characters."""

_FORM = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_FORMER = "retry-"
"""Topics of an earlier version were called `task-requests-retry-1s` and the like."""


def why_no_queue(name: object) -> str | None:
    """Return why this cannot be the name of a queue, None if it can be."""
    if not isinstance(name, str) or not _FORM.fullmatch(name) or len(name) > MAX_QUEUE_CHARS:
        return (
            f"must be 1 to {MAX_QUEUE_CHARS} lower-case letters (a to z), digits and '-', and begin and end with a "
            "letter or digit, such as gpu: topics and consumer groups are named after it"
        )
    if name.startswith(_FORMER):
        return f"must not begin with {_FORMER}: topics of an earlier version have such names"
    return None


def queues_in(named: Mapping[str, str]) -> tuple[str, ...]:
    """Return the queues of a system whose kinds have these, the default one first."""
    return (DEFAULT_QUEUE, *sorted({*named.values()} - {DEFAULT_QUEUE}))


def start_of(queue: str) -> str:
    """Return the command that starts a worker of a queue."""
    command = "faust -A agents.processing worker"
    return command if queue == DEFAULT_QUEUE else f"EBS_QUEUE={queue} {command}"
