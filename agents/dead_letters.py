"""Dead letters: the one place that makes them, for those who send with a step and those who send with a lane."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from agents.failure_story import FailureStory, describe
from app.kafka.unreadable import UnreadableRecord
from app.rules.dead_letters import Body, Origin, dead_letter_headers, faust_message_of, fitting, type_name_of
from app.rules.fingerprint import fingerprint
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.events import TaskCreated
    from app.streaming.transactions import Step

log = logging.getLogger(__name__)

_story = FailureStory(log)


def dead_letter(
    record: ConsumerRecord,
    error: BaseException,
    *,
    topic: str,
    limit_bytes: int,
    attempts: int = 0,
    task: TaskCreated | None = None,
) -> Outgoing:
    """Return (and tell of) a record's dead letter: its original bytes, in its own partition, with headers that say why.

    `topic` is that of dead letters, `limit_bytes` what it takes: a letter that is larger has only the beginnings of
    its parts. `task` is what the record asks for, where it can be read: kind, ids and redrives go into headers of
    their own.
    """
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    value, last_offset, incomplete = record.value, None, None
    if isinstance(record, UnreadableRecord):
        error, value = record.error, record.raw
        last_offset = record.last_offset if record.last_offset > record.offset else None
        incomplete = None if record.is_record else "its value is a piece of the log, as it was found there"
    _tell(origin, error, task)
    headers = dead_letter_headers(
        origin,
        error,
        attempts=attempts,
        headers=record.headers,
        task=task,
        last_offset=last_offset,
        incomplete=incomplete,
    )
    return Outgoing(topic, record.partition, *fitting(Body(record.key, value, headers), limit_bytes))


def _tell(origin: Origin, error: BaseException, task: TaskCreated | None) -> None:
    """Log a death: where the record lay, what it asked for if that can be read, and why."""
    name, message = type_name_of(error), faust_message_of(error)
    place = f"{origin.topic}-{origin.partition}@{origin.offset}"
    if task is not None:
        place = f"{describe(task)} ({place})"
    kind = "" if task is None else task.kind
    alike = (kind, fingerprint(name, message))
    _story.tell(alike, time.monotonic(), "%s goes to the dead letters: %s: %s", place, name, message)


def bury(step: Step, record: ConsumerRecord, error: BaseException, topic: str) -> None:
    """Send a record that cannot be read or worked to the dead letters (`topic`) with a step."""
    step.send(*dead_letter(record, error, topic=topic, limit_bytes=step.limit_bytes(topic)))
