"""Reads the request of one task from `task-requests`: the content from a split, for a join, or from an edited redrive.

The view does not keep requests, for the same reason as events: they would cost much, and people look at few of them. A
request is written together with its TASKS_CREATED event, so its instant is known.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from api.view.event_log import Begin
from app.events import DECODE_ERRORS, MAX_TASKS, TaskCreated, decode_task_request, redrive_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.view.event_log import EventLog
    from app.events import TasksCreated

_CLOCK_SLACK_MS = 1_000
"""Fact and request have one clock, which NTP may turn back a little."""
_TOGETHER_MS = 60_000
"""No request is written later than this after the instant in its fact: transactions do not take longer."""


class WantedRequest(NamedTuple):
    """Reads the request that belongs to a TASKS_CREATED event."""

    task_id: str
    sequence: int
    fact: TasksCreated

    def partitions(self, partition_count: int) -> Iterator[int]:
        """Yield the partitions where it may be, the likeliest first: a task with a key is in that of the key."""
        own = self.fact.object_partition
        if self.sequence >= MAX_TASKS:
            yield own
            return
        spread = (own + self.sequence) % partition_count
        yield from dict.fromkeys((spread, own, *range(partition_count)))


async def read_request(log: EventLog, wanted: WantedRequest, partition_count: int) -> TaskCreated | None:
    """Return the request, None if it has left the topic. Raises `EventsUnavailable`."""
    at_ms, redrive = wanted.fact.at_ms, redrive_of(wanted.fact)
    begin = Begin(at_ms=max(0, at_ms - _CLOCK_SLACK_MS))
    for partition in wanted.partitions(partition_count):
        stretches = log.read_requests(wanted.task_id, partition, begin, at_ms + _TOGETHER_MS)
        async with aclosing(stretches):
            async for records in stretches:
                for _, value in records:
                    try:
                        request = decode_task_request(value)
                    except DECODE_ERRORS:
                        continue  # processing sends it to the dead letters
                    if redrive_of(request) == redrive:
                        return request
    return None
