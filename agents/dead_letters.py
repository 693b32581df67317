"""Dead letters: the one place that makes them, for those who send with a step and those who send with a lane."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from agents.outgoing import Outgoing
from app.quiet_log import Alike, alike_before
from app.rules.dead_letters import Origin, dead_letter_headers, message_of, type_name_of
from app.rules.fingerprint import fingerprint
from app.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from app.events import TaskCreated
    from app.streaming.transactions import Step

log = logging.getLogger(__name__)

_SILENCE_S = 1.0


class DeathStory:
    """Logs deaths, of those that are alike one a second, which says how many went untold before it.

    A line costs what a task does: one task in a hundred that dies would take 4 % of the throughput (2026-11,
    `make bench-engine BENCH="--only poison"`), and hide every other line.
    """

    def __init__(self) -> None:
        self._alike = Alike(_SILENCE_S)

    def tell(self, origin: Origin, error: BaseException, now_s: float) -> None:
        """Log a death, or count it."""
        message = message_of(error)
        untold_count = self._alike.untold_before(fingerprint(type_name_of(error), message), now_s)
        if untold_count is None:
            return
        place = f"{origin.topic}-{origin.partition}@{origin.offset}"
        log.warning("%s goes to the dead letters: %s%s", place, message, alike_before(untold_count))


_story = DeathStory()


def dead_letter(
    record: ConsumerRecord, error: BaseException, *, attempts: int = 0, task: TaskCreated | None = None
) -> Outgoing:
    """Return (and tell of) a record's dead letter: its original bytes, in its own partition, with headers that say why.

    `task` is what the record asks for, where it can be read: kind, ids and redrives go into headers of their own.
    """
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    _story.tell(origin, error, time.monotonic())
    headers = dead_letter_headers(origin, error, attempts=attempts, headers=record.headers, task=task)
    return Outgoing(DEAD_LETTERS, record.partition, record.key, record.value, headers)


def bury(step: Step, record: ConsumerRecord, error: BaseException) -> None:
    """Send a record that cannot be read or worked to the dead letters with a step."""
    step.send(*dead_letter(record, error))
