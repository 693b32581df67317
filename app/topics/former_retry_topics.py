"""The retry topics of an earlier version that a cluster still has: tasks may wait there."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from app.topics.registry import CLIENT_ID, REQUEST_TIMEOUT_MS, TopicRegistry

if TYPE_CHECKING:
    from app.kafka.cluster import Cluster
    from app.names import Names

_log = logging.getLogger(__name__)


async def retry_topics_on(cluster: Cluster, names: Names) -> dict[str, int]:
    """Return the retry topics of a cluster, whoever made them, with their partition counts."""
    async with cluster.within(REQUEST_TIMEOUT_MS).admin(CLIENT_ID) as admin:
        counts = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}
    return {name: count for name, count in sorted(counts.items()) if names.is_former_retry_topic(name) and count}


async def former_retry_topics(cluster: Cluster, names: Names, partition_count: int) -> list[str]:
    """Return the retry topics that this system made.

    A topic with another number of partitions cannot be read along with the others: that is said, and it is left out.
    """
    counts = await retry_topics_on(cluster, names)
    registry = TopicRegistry(names.topics, cluster.within(REQUEST_TIMEOUT_MS))
    own = await registry.own_of(list(counts)) if counts else set()
    found = []
    for name in counts:
        if name not in own:
            _log.error("%s is not read: it is not known to be a topic of this system (ebs topics --adopt)", name)
        elif counts[name] != partition_count:
            text = "%s is not read: it has %d partitions, the others have %d (EBS_PARTITIONS). Tasks may wait in it"
            _log.error(text, name, counts[name], partition_count)
        else:
            found.append(name)
    return found
