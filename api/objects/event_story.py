"""The events of an object for a client: each event once, in order, and an end when the object has ended.

The state is the view's ledger row plus the events that follow: a row only grows, so an event that it already contains
changes nothing. The row is read before the topic's end offset, so all events of the row are before that end. If a
client continues in the middle and the ledger is behind the topic, the row may lack events that the client has: then the
end is known only when the ledger has it.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET

from api.objects.answers import row_of
from api.view.event_log import Begin
from api.view.event_range import range_of
from app.events import DECODE_ERRORS, decode_task_event, encode
from app.json_text import NULL
from app.rules.ledger import apply_task_event
from app.rules.ledger_rows import ObjectRow, mark_count_of, tasks_and_callbacks
from app.rules.ledger_states import ENDED_OBJECT_STATES, ObjectState, state_of_object
from app.rules.tally import Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api.view.event_log import EventLog, EventRecord
    from api.view.view import Found

_CREATED_TOPIC = "objects"
_TASKS_TOPIC = "task-events"
_MAX_OFFSET_DIGITS = 18


class Place(NamedTuple):
    """The position of an event: an offset of `task-events`, or None for OBJECT_CREATED, which is before all others."""

    partition: int
    offset: int | None

    def text(self) -> str:
        """Return it as clients send it back."""
        if self.offset is None:
            return f"{_CREATED_TOPIC}:{self.partition}"
        return f"{_TASKS_TOPIC}:{self.partition}:{self.offset}"


class Told(NamedTuple):
    """An event as JSON, and where it lies."""

    place: Place
    type: str
    data: bytes


def parse_place(text: str) -> Place | None:
    """Undo `Place.text`; None for any other text."""
    topic, *numbers = text.split(":")
    if not all(one.isascii() and one.isdecimal() and len(one) <= _MAX_OFFSET_DIGITS for one in numbers):
        return None
    if topic == _CREATED_TOPIC and len(numbers) == 1:
        return Place(int(numbers[0]), None)
    if topic == _TASKS_TOPIC and len(numbers) == 2:
        return Place(int(numbers[0]), int(numbers[1]))
    return None


class Story:
    """One object's events after a position (None: all), for one client."""

    def __init__(self, object_id: str, partition: int, found: Found, after: Place | None, now_ms: int) -> None:
        self.object_id = object_id
        self.partition = partition
        self._record = found.record
        self._after = after
        self.last = after
        """The last event that the client has."""
        self._now_ms = now_ms
        self._row = row_of(found)
        self._marks_left = mark_count_of(self._row) if self.ended else None
        self._seen = ObjectRow()

    @property
    def state(self) -> ObjectState:
        """Where the object stands, as far as it has been told."""
        return state_of_object(self._row)

    @property
    def ended(self) -> bool:
        """Whether the object has ended."""
        return self.state in ENDED_OBJECT_STATES

    def first(self) -> list[Told]:
        """Return OBJECT_CREATED, unless the client has it or the topic's retention has taken it."""
        if self._after is not None or self._record is None:
            return []
        # Contents may be large, and GET of the object has the one of the object.
        record = msgspec.structs.replace(self._record, content=NULL, task_count=self._record.asked_tasks, items=UNSET)
        fields = msgspec.json.decode(encode(record))
        del fields["content"]
        self.last = Place(self.partition, None)
        return [Told(self.last, fields["type"], encode(fields))]

    async def past(self, log: EventLog, end: int | None) -> AsyncIterator[list[Told]]:
        """Yield the events up to an offset, or as far as the topic goes now. Raises `EventsUnavailable`."""
        begin, until_ms = self._range()
        async with aclosing(log.read(self.object_id, self.partition, begin, end, until_ms)) as stretches:
            async for records in stretches:
                told = self.take(records)
                if told:
                    yield told
                if self._marks_left == 0:
                    return

    def take(self, records: list[EventRecord]) -> list[Told]:
        """Learn from events and return those that the client has not."""
        told: list[Told] = []
        for offset, value in records:
            try:
                event = decode_task_event(value)
            except DECODE_ERRORS:
                continue  # statistics sends it to the dead letters
            apply_task_event(self._row, event, Tally())
            if self._marks_left is not None:
                self._marks_left -= apply_task_event(self._seen, event, Tally())
            if self._after is None or self._after.offset is None or offset > self._after.offset:
                self.last = Place(self.partition, offset)
                told.append(Told(self.last, type_of(value), value))
        return told

    def _range(self) -> tuple[Begin, int | None]:
        """Return where the object's events begin, and after which instant there are none."""
        if self._marks_left is None and self._after is not None and self._after.offset is not None:
            return Begin(offset=self._after.offset + 1), None
        return range_of(tasks_and_callbacks(self._row), self._row, self._now_ms, ended=self._marks_left is not None)


def type_of(value: bytes) -> str:
    """Return an event's type."""
    return _decode_type(value).type


class _Typed(msgspec.Struct, frozen=True, gc=False):
    type: str


_decode_type = msgspec.json.Decoder(_Typed).decode
