"""Dead letters: the one place that makes them, for those who send with a step and those who send with a lane."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agents.outgoing import Outgoing
from app.rules.dead_letters import Origin, dead_letter_headers
from app.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.events import TaskCreated
    from app.streaming.transactions import Step

log = logging.getLogger(__name__)


def dead_letter(
    record: ConsumerRecord, error: BaseException, *, attempts: int = 0, task: TaskCreated | None = None
) -> Outgoing:
    """Return (and log) a record's dead letter: its original bytes, in its own partition, with headers that say why.

    `task` is what the record asks for, where it can be read: kind, ids and redrives go into headers of their own.
    """
    log.warning("%s-%d@%d goes to the dead letters: %s", record.topic, record.partition, record.offset, error)
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    headers = dead_letter_headers(origin, error, attempts=attempts, headers=record.headers, task=task)
    return Outgoing(DEAD_LETTERS, record.partition, record.key, record.value, headers)


def bury(step: Step, record: ConsumerRecord, error: BaseException) -> None:
    """Send a record that cannot be read or worked to the dead letters with a step."""
    step.send(*dead_letter(record, error))
