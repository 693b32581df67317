"""The retry tiers that a cluster has: EBS_RETRY_TIERS_S may have been changed, and tasks may wait in former ones."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from app.topics.registry import CLIENT_ID, REQUEST_TIMEOUT_MS, TopicRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.kafka.cluster import Cluster
    from app.names import Names

_log = logging.getLogger(__name__)


async def tiers_on_broker(cluster: Cluster, names: Names, partition_count: int) -> set[int]:
    """Return the seconds of all retry tiers of so many partitions that exist, whoever made them."""
    async with cluster.within(REQUEST_TIMEOUT_MS).admin(CLIENT_ID) as admin:
        described = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}
    tiers = {names.retry_tier_s(name) for name, count in described.items() if count == partition_count}
    return {tier_s for tier_s in tiers if tier_s is not None}


async def other_retry_topics(cluster: Cluster, names: Names, tiers_s: Sequence[int], partition_count: int) -> list[str]:
    """Return the retry tiers on the broker that are not among `tiers_s`: tasks may wait there since tiers changed.

    One with another number of partitions cannot be read along with the others: that is said, and it is left out.
    """
    found = []
    async with cluster.within(REQUEST_TIMEOUT_MS).admin(CLIENT_ID) as admin:
        described = [topic for topic in await admin.describe_topics() if names.retry_tier_s(topic["topic"]) is not None]
        others = [one["topic"] for one in described if names.retry_tier_s(one["topic"]) not in tiers_s]
        own = await TopicRegistry(names.topics, cluster.within(REQUEST_TIMEOUT_MS)).own_of(others) if others else set()
        for topic in described:
            name, count = topic["topic"], len(topic["partitions"])
            tier_s = names.retry_tier_s(name)
            if tier_s is None or tier_s in tiers_s or not count:
                continue
            if name not in own:
                _log.error("%s is not read: it is not known to be a topic of this system (ebs topics --adopt)", name)
            elif count == partition_count:
                found.append((tier_s, name))
            else:
                _log.error(
                    "%s is not read: it has %d partitions, the other topics have %d (EBS_PARTITIONS). "
                    "Tasks may wait in it",
                    name,
                    count,
                    partition_count,
                )
    return [name for _, name in sorted(found)]
