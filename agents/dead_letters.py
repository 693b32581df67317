"""Dead letters: the one place that makes them, for those who send with a step and those who send with a lane."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Protocol

from agents.failure_story import FailureStory, describe
from app.kafka.unreadable import UnreadableRecord
from app.rules.dead_letters import Body, Origin, dead_letter_headers, fitting, message_of, type_name_of
from app.rules.fingerprint import fingerprint
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from app.events import TaskCreated
    from app.kafka.types import ConsumerRecord
    from app.streaming.step import Step

log = logging.getLogger(__name__)

_story = FailureStory(log)


class Limits(Protocol):
    """What knows how large records may be: a step, or the worker's transactions."""

    def limit_bytes(self, topic: str) -> int:
        """Return how many bytes a record of a topic may have."""


def dead_letter(
    record: ConsumerRecord,
    error: BaseException,
    *,
    topic: str,
    limits: Limits,
    attempts: int = 0,
    task: TaskCreated | None = None,
) -> Outgoing:
    """Return (and log) a record's dead letter: its original bytes, in its own partition, with headers that say why.

    `topic` is the topic of dead letters, `limits` has its record size: the key and value of a larger letter are cut.
    `task` is the task of the record, if it can be read: its kind, ids and redrives go into extra headers.
    """
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    value, last_offset, incomplete = record.value, None, None
    if isinstance(record, UnreadableRecord):
        error, value = record.error, record.raw
        last_offset = record.last_offset if record.last_offset > record.offset else None
        incomplete = None if record.is_record else "its value has the raw bytes of the log"
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
    return Outgoing(topic, record.partition, *fitting(Body(record.key, value, headers), limits.limit_bytes(topic)))


def _tell(origin: Origin, error: BaseException, task: TaskCreated | None) -> None:
    """Log a death: the position of the record, its task if that can be read, and the reason."""
    name, message = type_name_of(error), message_of(error)
    place = f"{origin.topic}-{origin.partition}@{origin.offset}"
    if task is not None:
        place = f"{describe(task)} ({place})"
    kind = "" if task is None else task.kind
    alike = (kind, fingerprint(name, message))
    _story.tell(alike, time.monotonic(), "%s goes to the dead letters: %s: %s", place, name, message)


def bury(step: Step, record: ConsumerRecord, error: BaseException, topic: str) -> None:
    """Send a record that cannot be read or processed to the dead letters (`topic`) with a step."""
    step.send(*dead_letter(record, error, topic=topic, limits=step))
