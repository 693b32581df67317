"""What the ledger has forgotten: records of `objects` that tell nothing any more.

A view that is built anew cannot know it from the topics. Compaction takes the ledger's tombstones away, while `objects`
keeps its records, and such an object would be CREATED for ever. What is counted has a row, unless it was forgotten:
before the view was begun, or since, by a tombstone that came in front of the object's record.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaError

from app.topics import STATISTICS_APP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiokafka import TopicPartition

_TRIES = 25
_PAUSE_S = 0.2
# An object is forgotten by the clocks of those who write: hidden here a little early, which is wrong of none that a
# ledger has counted.
_CLOCKS_DIFFER_MS = 60_000

_log = logging.getLogger(__name__)


Counted = dict[int, int]
"""By partition of `objects` the offset before which the statistics had counted all, before the rows were read."""


class Forgotten(NamedTuple):
    """Which records of `objects` are of forgotten objects if the ledger has no row: counted, and old enough.

    `before_ms` tells before which instant (epoch ms) an object must be to be due: see `forgotten_before`.
    """

    counted: Counted
    before_ms: Callable[[], int]


def forgotten_before(retention_ms: int, clock_ms: Callable[[], int]) -> Callable[[], int]:
    """Return what tells before which instant (epoch ms) an object must be to be due, by the ledger's retention.

    It spares what cannot be due yet: without a ledger (EBS_LEDGER=false) nothing has a row. The instant moves on while
    a view is built: what is forgotten meanwhile was not due when the view was begun.
    """
    return lambda: clock_ms() - retention_ms + _CLOCKS_DIFFER_MS


async def read_counted(admin: Any, partitions: Sequence[TopicPartition], pause_s: float = _PAUSE_S) -> Counted:
    """Return how far the statistics have counted; nothing if the broker cannot tell, which is logged."""
    trouble: object = None
    for _ in range(_TRIES):
        try:
            committed = await admin.list_consumer_group_offsets(STATISTICS_APP, partitions=list(partitions))
        except KafkaError as error:
            trouble = error
            if not error.retriable:
                break
        else:
            if committed:  # an answer without any partition hides an error
                return {tp.partition: found.offset for tp, found in committed.items()}
            trouble = "no answer"
        # A coordinator that has just been made, or still loads, answers soon.
        await asyncio.sleep(pause_s)
    _log.warning(
        "the Kafka broker does not say what the group %s has counted (%r): objects that the ledger has forgotten "
        "are shown as CREATED. Let this user Describe the group, and delete the view while the process is down",
        STATISTICS_APP,
        trouble,
    )
    return {}
