"""The identity of topics: the id of the cluster and the ids of the topics (KIP-516), not only their names.

A cluster or a topic that was recreated starts at offset 0: a store that continues at its old offset would miss records
and keep rows of objects that are gone.
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
    """Ask the broker for the ids of these topics; a missing topic has 0 partitions.

    Raises aiokafka's errors (`KafkaError`, `OSError`) if no broker answers within seconds.
    """
    async with cluster.within(_REQUEST_TIMEOUT_MS).client("ebs-api-identity") as client:
        found = await read_topics(client, names)
    return Layout(found.cluster_id, {name: (one.topic_id, one.partition_count) for name, one in found.topics.items()})
