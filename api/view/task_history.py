"""The history of one task from the topics: its attempts, its timeline, and its request with the content.

It is read from `task-events` and the topic of its queue for each request, as the events of an object are
(`api.view.event_log`). It is bounded: a task has at most 16 attempts in each of 4 generations, each with at most 8 KiB
of stack trace. The result is cached until the ledger's row of the task changes, so an open page costs no reads.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from api.view.event_range import range_of
from api.view.request_log import WantedRequest, read_request
from app.events import DECODE_ERRORS, TasksCreated, decode_task_event, encode, redrive_of, task_id_of
from app.rules.attempts import attempts_of
from app.rules.ledger import apply_task_event
from app.rules.ledger_rows import ObjectRow, known_task, mark_count_of, task_of
from app.rules.ledger_states import ENDED_STATES, state_of_task
from app.rules.tally import Tally
from app.rules.timeline import Event, timeline_of

if TYPE_CHECKING:
    from api.view.event_log import EventLog, EventRecord
    from app.events import TaskCreated, TaskEvent
    from app.rules.attempts import AttemptRecord
    from app.rules.ledger_rows import TaskRow
    from app.rules.routing import Routes
    from app.rules.timeline import Span

_KEPT_COUNT = 16
"""Histories in memory: each may have 1 MiB of content and 0.5 MiB of stack traces."""


class TaskHistory(NamedTuple):
    """`is_complete`: no event that the ledger knows is missing. `request`: the request of the last generation."""

    attempts: list[AttemptRecord]
    spans: list[Span]
    is_complete: bool
    redrive: int
    request: TaskCreated | None


class WantedTask(NamedTuple):
    """A task in the ledger; `needs_request`: its content is only in its request, not in the object."""

    object_id: str
    partition: int
    row: ObjectRow
    sequence: int
    needs_request: bool

    @property
    def task(self) -> TaskRow:
        """The ledger's row of the task."""
        return known_task(self.row, self.sequence)


class TaskHistories:
    """Reads histories from a log, and caches the latest ones."""

    def __init__(self, log: EventLog, routes: Routes) -> None:
        self._log = log
        self._routes = routes
        self._kept: OrderedDict[tuple[str, int], tuple[bytes, TaskHistory]] = OrderedDict()

    async def read(self, wanted: WantedTask, now_ms: int) -> TaskHistory:
        """Return the history of a task. Raises `EventsUnavailable`."""
        place = (wanted.object_id, wanted.sequence)
        seen = msgspec.msgpack.encode(wanted.task)
        kept = self._kept.get(place)
        if kept is not None and kept[0] == seen:
            self._kept.move_to_end(place)
            return kept[1]
        found = await self._read(wanted, now_ms)
        self._kept[place] = (seen, found)
        self._kept.move_to_end(place)
        while len(self._kept) > _KEPT_COUNT:
            self._kept.popitem(last=False)
        return found

    async def _read(self, wanted: WantedTask, now_ms: int) -> TaskHistory:
        story = await self._read_events(wanted, now_ms)
        fact = max((one for one in story.events if isinstance(one, TasksCreated)), key=redrive_of, default=None)
        redrive = 0 if fact is None else redrive_of(fact)
        request = None
        if fact is not None and (redrive or wanted.needs_request):
            task_id = task_id_of(wanted.object_id, wanted.sequence)
            request = await read_request(self._log, WantedRequest(task_id, wanted.sequence, fact), self._routes)
        return TaskHistory(attempts_of(story.events), story.spans(), story.is_complete, redrive, request)

    async def _read_events(self, wanted: WantedTask, now_ms: int) -> _TaskStory:
        story = _TaskStory(wanted)
        task = wanted.task
        begin, until_ms = range_of([task], wanted.row, now_ms, ended=state_of_task(task) in ENDED_STATES)
        async with aclosing(self._log.read(wanted.object_id, wanted.partition, begin, None, until_ms)) as stretches:
            async for records in stretches:
                story.take(records)
                if story.is_complete:
                    break
        return story


class _TaskStory:
    """The events of one task among those of its object."""

    def __init__(self, wanted: WantedTask) -> None:
        self._sequence = wanted.sequence
        self._known = wanted.task
        self._seen = ObjectRow()
        self.events: list[TaskEvent] = []

    @property
    def is_complete(self) -> bool:
        """Whether the events contain all marks of the ledger's row; the row may be behind the topic."""
        seen = task_of(self._seen, self._sequence)
        if seen is None:
            return False
        joined = mark_count_of(ObjectRow(tasks=[_union(seen, self._known)]))
        return joined == mark_count_of(ObjectRow(tasks=[seen]))

    def take(self, records: list[EventRecord]) -> None:
        """Take in those events that are of the task."""
        for _, value in records:
            try:
                event = decode_task_event(value)
            except DECODE_ERRORS:
                continue  # statistics sends it to the dead letters
            if isinstance(event, TasksCreated):
                if not event.first <= self._sequence < event.first + event.count:
                    continue
                event = msgspec.structs.replace(event, first=self._sequence, count=1)
            elif event.sequence != self._sequence:
                continue
            apply_task_event(self._seen, event, Tally())
            self.events.append(event)

    def spans(self) -> list[Span]:
        """Return the spans of the task: where its time went."""
        events = (msgspec.json.decode(encode(one), type=Event) for one in self.events)
        return [span for task in timeline_of(events).tasks for span in task.spans]


def _union(one: TaskRow, other: TaskRow) -> TaskRow:
    marks, started = one.marks | other.marks, one.started | other.started
    return type(one)(marks, started, one.failed | other.failed, one.retried | other.retried)
