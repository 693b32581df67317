"""What the ledger has forgotten: records of `objects` that tell nothing any more.

A view that is built anew cannot know it from the topics. Compaction takes the ledger's tombstones away, while `objects`
keeps its records, and such an object would be CREATED for ever. What is counted has a row, unless it was forgotten:
before the view was begun, or since, by a tombstone that came in front of the object's record.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.errors import KafkaError

from app.kafka.groups import read_committed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiokafka import TopicPartition

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


async def read_counted(admin: Any, group_id: str, partitions: Sequence[TopicPartition]) -> Counted:
    """Return how far the statistics (`group_id`) have counted; nothing if the broker cannot tell, which is logged."""
    try:
        committed = await read_committed(admin, group_id, partitions)
    except KafkaError as error:
        _log.warning(
            "the Kafka broker does not say what the group %s has counted (%r): objects that the ledger has forgotten "
            "are shown as CREATED. Let this user Describe the group, and delete the view while the process is down",
            group_id,
            error,
        )
        return {}
    return {tp.partition: offset for tp, offset in committed.items()}
