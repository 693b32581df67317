"""What the ledger has forgotten: records of `objects` that tell nothing any more.

A view that is built anew cannot know it from the topics. Compaction takes the ledger's tombstones away, while `objects`
keeps its records, and such an object would be CREATED for ever. What is counted has a row, unless it was forgotten.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from app.topics import STATISTICS_APP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import TopicPartition

    from app.broker_probe import Security

_TRIES = 25
_PAUSE_S = 0.2

_log = logging.getLogger(__name__)


class Forgotten(NamedTuple):
    """Which records of `objects` are of forgotten objects if the ledger has no row: counted, and old enough.

    `counted` is by partition up to where the statistics had counted before the rows were read. `before_ms` (epoch ms)
    spares what cannot be due yet: without a ledger (EBS_LEDGER=false) nothing has a row.
    """

    counted: dict[int, int]
    before_ms: int

    def covers(self, partition: int, offset: int, at_ms: int) -> bool:
        """Return whether the object of a record is forgotten, if there is no row of it."""
        return at_ms < self.before_ms and offset < self.counted.get(partition, 0)


NOTHING_FORGOTTEN = Forgotten({}, 0)


async def read_counted(bootstrap: str, security: Security, partitions: Sequence[TopicPartition]) -> dict[int, int]:
    """Return by partition how far the statistics have counted; nothing if the broker cannot tell, which is logged."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="ebs-api-counted", **security)
    trouble: object = None
    try:
        await admin.start()
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
            await asyncio.sleep(_PAUSE_S)
    finally:
        await admin.close()
    _log.warning(
        "the Kafka broker does not say what the group %s has counted (%r): objects that the ledger has forgotten "
        "are shown as CREATED. Let this user Describe the group, and delete the view while the process is down",
        STATISTICS_APP,
        trouble,
    )
    return {}
