"""Dead letters: the one place that makes them, for those who send with a step and those who send with a lane."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from agents.failure_story import FailureStory, describe
from agents.outgoing import Outgoing
from app.rules.dead_letters import Origin, dead_letter_headers, message_of
from app.rules.fingerprint import fingerprint
from app.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.events import TaskCreated
    from app.streaming.transactions import Step

log = logging.getLogger(__name__)

_story = FailureStory(log)


def dead_letter(
    record: ConsumerRecord, error: BaseException, *, attempts: int = 0, task: TaskCreated | None = None
) -> Outgoing:
    """Return (and tell of) a record's dead letter: its original bytes, in its own partition, with headers that say why.

    `task` is what the record asks for, where it can be read: kind, ids and redrives go into headers of their own.
    """
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    _tell(origin, error, task)
    headers = dead_letter_headers(origin, error, attempts=attempts, headers=record.headers, task=task)
    return Outgoing(DEAD_LETTERS, record.partition, record.key, record.value, headers)


def _tell(origin: Origin, error: BaseException, task: TaskCreated | None) -> None:
    """Log a death: where the record lay, what it asked for if that can be read, and why."""
    name, message = type(error).__qualname__, message_of(error)
    place = f"{origin.topic}-{origin.partition}@{origin.offset}"
    if task is not None:
        place = f"{describe(task)} ({place})"
    kind = "" if task is None else task.kind
    alike = (kind, fingerprint(name, message))
    _story.tell(alike, time.monotonic(), "%s goes to the dead letters: %s: %s", place, name, message)


def bury(step: Step, record: ConsumerRecord, error: BaseException) -> None:
    """Send a record that cannot be read or worked to the dead letters with a step."""
    step.send(*dead_letter(record, error))
