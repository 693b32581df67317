"""Expired objects: records of `objects` whose ledger row was removed.

A view that is rebuilt cannot see this in the topics: compaction removes the ledger's tombstones, while `objects` keeps
its records. Such an object would be CREATED for ever. So the rule is: a counted object has a row, unless it has
expired, before the view was started or later, by a tombstone that came before the object's record.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from app.kafka.errors import KafkaError
from app.kafka.groups import read_committed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from app.kafka.types import TopicPartition

# An object is forgotten by the clocks of those who write: hidden here a little early, which is wrong of none that a
# ledger has counted.
_CLOCKS_DIFFER_MS = 60_000

_log = logging.getLogger(__name__)


Counted = dict[int, int]
"""By partition of `objects` the offset before which the statistics had counted all, before the rows were read."""


class Forgotten(NamedTuple):
    """Decides which records without a ledger row are of expired objects: they are counted, and old enough.

    `before_ms` returns the instant (epoch ms) before which an object can have expired: see `forgotten_before`.
    """

    counted: Counted
    before_ms: Callable[[], int]


def forgotten_before(retention_ms: int, clock_ms: Callable[[], int]) -> Callable[[], int]:
    """Return a function for the instant (epoch ms) before which an object can have expired, by the ledger's retention.

    This keeps objects that cannot have expired yet: without a ledger (EBS_LEDGER=false) no object has a row. The
    instant moves while a view is built: an object that expires meanwhile had not expired when the view was started.
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
