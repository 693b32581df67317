"""Tells topics from topics of the same name: the cluster's id and the topics' own (KIP-516).

A cluster that was recreated, or a topic that was deleted and made again, starts at offset 0: a store that goes on at
its old offset would miss records and keep rows of objects that are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.view.store import Layout
from app.kafka.topic_metadata import read_topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.kafka.cluster import Cluster

_REQUEST_TIMEOUT_MS = 5_000


async def read_layout(cluster: Cluster, names: Sequence[str]) -> Layout:
    """Ask the broker which topics these are; one that is missing has 0 partitions.

    Raises what aiokafka raises (`KafkaError`, `OSError`) when nobody answers within seconds.
    """
    async with cluster.within(_REQUEST_TIMEOUT_MS).client("ebs-api-identity") as client:
        found = await read_topics(client, names)
    return Layout(found.cluster_id, {name: (one.topic_id, one.partition_count) for name, one in found.topics.items()})
