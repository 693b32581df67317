"""Dead letters: the one place that makes them, for those who send with a step and those who send with a lane."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from agents.outgoing import Outgoing
from app.quiet_log import Alike, alike_before
from app.rules.dead_letters import Body, Origin, dead_letter_headers, fitting, message_of, type_name_of
from app.rules.fingerprint import fingerprint
from app.streaming.unreadable import UnreadableRecord
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
    record: ConsumerRecord,
    error: BaseException,
    *,
    limit_bytes: int,
    attempts: int = 0,
    task: TaskCreated | None = None,
) -> Outgoing:
    """Return (and tell of) a record's dead letter: its original bytes, in its own partition, with headers that say why.

    `limit_bytes` is what `dead-letters` takes: a letter that is larger has only the beginnings of its parts. `task` is
    what the record asks for, where it can be read: kind, ids and redrives go into headers of their own.
    """
    origin = Origin(record.topic, record.partition, record.offset, record.timestamp)
    value, last_offset, incomplete = record.value, None, None
    if isinstance(record, UnreadableRecord):
        error, value = record.error, record.raw
        last_offset = record.last_offset if record.last_offset > record.offset else None
        incomplete = None if record.is_record else "its value is a piece of the log, as it was found there"
    _story.tell(origin, error, time.monotonic())
    headers = dead_letter_headers(
        origin,
        error,
        attempts=attempts,
        headers=record.headers,
        task=task,
        last_offset=last_offset,
        incomplete=incomplete,
    )
    return Outgoing(DEAD_LETTERS, record.partition, *fitting(Body(record.key, value, headers), limit_bytes))


def bury(step: Step, record: ConsumerRecord, error: BaseException) -> None:
    """Send a record that cannot be read or worked to the dead letters with a step."""
    step.send(*dead_letter(record, error, limit_bytes=step.limit_bytes(DEAD_LETTERS)))
