"""When ledger rows expire, and how expired rows are found without a scan of all rows.

Each row has one entry in the table `expiry`, made in the step that made the row: its id, in a list under the instant at
which the row is checked next. The check deletes the row, or makes the next entry at the row's due time. Lists hold the
ids of a whole step, so an entry costs almost nothing; keys begin with the instant, so due entries come first.

An object expires one ledger retention after its end. An object may never end, because its requests were deleted before
a worker read them. It expires when no more events can come: after its last event, twice the topics' retention (segments
live longer than the retention) and once the ledger's retention.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app.events import ObjectCreated, TasksCreated
from app.rules.ledger_rows import all_tasks
from app.rules.ledger_states import ended_at_ms

if TYPE_CHECKING:
    from app.events import TaskEvent
    from app.rules.ledger_rows import ObjectRow

TIMES_KEY = b"\x00"
"""The key of a partition's `StreamTimes` in the table."""
TOLD_TO_KEY = b"\x00t"
"""The key of the offset of `task-events` up to which ends and joins were written before a replay.

`ebs offsets reset` writes it: a replay makes the same rows, but must not request joins or write end events again.
"""
ENTRIES_FROM = b"\x01"
"""Where the entries begin."""
IDS_PER_ENTRY = 1_000
"""Of 800 bytes at most: an entry stays below a megabyte."""

_INSTANT_BYTES = 8
_OFFSET_BYTES = 8
_NUMBER_BYTES = 4
_STEPS_PER_RETENTION = 100

encode_ids = msgspec.msgpack.Encoder().encode
"""Pack the ids (bytes) of an entry."""
decode_ids = msgspec.msgpack.Decoder(list[bytes]).decode
"""Undo `encode_ids`."""


class StreamTimes(msgspec.Struct, array_like=True, gc=False):
    """The newest record timestamps read of a partition of `objects` and of `task-events`, epoch ms."""

    objects_ms: int = 0
    task_events_ms: int = 0

    @property
    def ledger_ms(self) -> int:
        """The time by which rows expire: the stream time of the topic that is behind.

        Otherwise, after a long break, a row could expire before its OBJECT_CREATED is read. And a producer with a wrong
        clock could empty the ledger.
        """
        return min(self.objects_ms, self.task_events_ms)


def encode_told_to(offset: int) -> bytes:
    """Pack the offset of `TOLD_TO_KEY`."""
    return offset.to_bytes(_OFFSET_BYTES, "big")


def decode_told_to(data: bytes | None) -> int:
    """Undo `encode_told_to`; 0 if there is no row."""
    return 0 if data is None else int.from_bytes(data, "big")


encode_times = msgspec.msgpack.Encoder().encode
"""Pack `StreamTimes`."""
decode_times = msgspec.msgpack.Decoder(StreamTimes).decode
"""Undo `encode_times`."""


class LedgerRetention(NamedTuple):
    """How long a row is kept after the object's end, and after the last event of an object that does not end."""

    ended_ms: int
    silent_ms: int

    def due_at_ms(self, row: ObjectRow, now_ms: int) -> int:
        """Return when (stream time) a row may go; `now_ms` bounds instants that a wrong clock put into the future."""
        end_ms = ended_at_ms(row)
        if end_ms is not None:
            return min(end_ms, now_ms) + self.ended_ms
        alive_ms = max(
            (max(task.created_at_ms, task.started_at_ms, task.ended_at_ms) for task in all_tasks(row)), default=0
        )
        return min(alive_ms or row.created_at_ms, now_ms) + self.silent_ms

    def look_at_ms(self, due_at_ms: int) -> int:
        """Return when to look again at a row that is due then: a little later, so that many share an entry."""
        width_ms = max(1, self.ended_ms // _STEPS_PER_RETENTION)
        return -(-due_at_ms // width_ms) * width_ms


def ledger_retention(ended_ms: int, topics_ms: int) -> LedgerRetention:
    """Return the retention of rows, from the retention of ended objects and the retention of the topics."""
    return LedgerRetention(ended_ms, ended_ms + 2 * topics_ms)


def is_of_expired(event: ObjectCreated | TaskEvent, forgotten_before_ms: int) -> bool:
    """Return whether an event without a row belongs to an expired object, and must not make an incomplete row.

    Only OBJECT_CREATED and a first TASKS_CREATED start a row. A redrive never does, because its object existed before.
    Other events may come before these two (any order gives the same row), but not after a whole retention.
    """
    if isinstance(event, ObjectCreated):
        return False
    if event.redrive is not msgspec.UNSET and event.redrive:
        return True
    return event.at_ms < forgotten_before_ms and not isinstance(event, TasksCreated)


def entry_key(look_at_ms: int, made_at: tuple[int, int], number: int) -> bytes:
    """Return the key of an entry: when to look, then what makes it the only one.

    `made_at` is the place of the step that makes it (a number of the topic and an offset, read once for good).
    """
    topic_number, offset = made_at
    place = topic_number.to_bytes(1, "big") + offset.to_bytes(_OFFSET_BYTES, "big")
    instant = look_at_ms.to_bytes(_INSTANT_BYTES, "big")
    return ENTRIES_FROM + instant + place + number.to_bytes(_NUMBER_BYTES, "big")


def look_at_of(key: bytes) -> int:
    """Return when to look at the rows of an entry (stream time, epoch ms)."""
    return int.from_bytes(key[1 : 1 + _INSTANT_BYTES], "big")
