"""Sending a record to the dead letters with the step that read it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from app.rules.dead_letters import Origin, dead_letter_headers
from app.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.streaming.transactions import Step

log = logging.getLogger(__name__)


def bury(step: Step, record: ConsumerRecord, error: BaseException, *, attempts: int = 0) -> None:
    """Send a record's original bytes to `dead-letters`, in its own partition, with headers that say why."""
    log.warning("%s-%d@%d goes to the dead letters: %s", record.topic, record.partition, record.offset, error)
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    headers = dead_letter_headers(origin, error, attempts=attempts, headers=record.headers)
    step.send(DEAD_LETTERS, record.partition, record.key, record.value, headers)
