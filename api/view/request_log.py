"""Reads the request of one task from its queue: the content from a split, for a join, or from an edited redrive.

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
    from app.rules.routing import Routes

_CLOCK_SLACK_MS = 1_000
"""Fact and request have one clock, which NTP may turn back a little."""
_TOGETHER_MS = 60_000
"""No request is written later than this after the instant in its fact: transactions do not take longer."""


class WantedRequest(NamedTuple):
    """Reads the request that belongs to a TASKS_CREATED event."""

    task_id: str
    sequence: int
    fact: TasksCreated

    def places(self, routes: Routes) -> Iterator[tuple[str, int]]:
        """Yield topic and partition of where it may be, the likeliest first.

        A task with a key is in the partition of the key, and its kind may have had another queue then.
        """
        own, count = self.fact.object_partition, routes.partition_count
        spread = (own + self.sequence) % count
        numbers = [own] if self.sequence >= MAX_TASKS else list(dict.fromkeys((spread, own, *range(count))))
        topic = routes.topic(self.fact.kind)
        for one in (topic, *sorted(routes.topics - {topic})):
            yield from ((one, number) for number in numbers)


async def read_request(log: EventLog, wanted: WantedRequest, routes: Routes) -> TaskCreated | None:
    """Return the request, None if it has left the topic. Raises `EventsUnavailable`."""
    at_ms, redrive = wanted.fact.at_ms, redrive_of(wanted.fact)
    begin = Begin(at_ms=max(0, at_ms - _CLOCK_SLACK_MS))
    for topic, partition in wanted.places(routes):
        stretches = log.read_requests(wanted.task_id, topic, partition, begin, at_ms + _TOGETHER_MS)
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
