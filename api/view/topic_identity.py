"""Tells topics from topics of the same name: the cluster's id and the topics' own (KIP-516).

A cluster that was made anew, or a topic that was deleted and made again, starts at offset 0: a store that goes on at
its old offset would miss records and keep rows of objects that are gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka.client import AIOKafkaClient

from api.view.store import Layout
from app.kafka.probe import PLAINTEXT
from app.kafka.topic_metadata import read_topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.kafka.probe import Security

_REQUEST_TIMEOUT_MS = 5_000


async def read_layout(bootstrap: str, names: Sequence[str], security: Security = PLAINTEXT) -> Layout:
    """Ask the broker which topics these are; one that is missing has 0 partitions.

    Raises what aiokafka raises (`KafkaError`, `OSError`) when nobody answers within seconds.
    """
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap, client_id="ebs-api-identity", request_timeout_ms=_REQUEST_TIMEOUT_MS, **security
    )
    try:
        await client.bootstrap()
        found = await read_topics(client, names)
    finally:
        await client.close()
    return Layout(found.cluster_id, {name: (one.topic_id, one.partition_count) for name, one in found.topics.items()})
