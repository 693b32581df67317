"""The abilities of a cluster's brokers, from the features that they report (KIP-584)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import errors

from app.kafka.transaction_protocol import NEEDED_VERSIONS, ApiVersions

if TYPE_CHECKING:
    from typing import Any

    from aiokafka.client import AIOKafkaClient

_TRANSACTIONS = "transaction.version"
_METADATA = "metadata.version"
_FORGETFUL = range(28, 34)
"""The newest `metadata.version` that Kafka 4.2 to 4.4 know."""


async def read_features(client: AIOKafkaClient) -> Any:
    """Return a broker's answer to ApiVersions."""
    node_id = client.get_random_node()
    if not await client.ready(node_id):
        raise errors.NodeNotReadyError(f"broker {node_id} cannot be reached")
    return await client.send(node_id, ApiVersions("ebs", "1"))


def transaction_version(answer: Any) -> int:
    """Return which version of transactions the cluster has agreed on: 2, or 1 for all before."""
    newest = {api_key: version for api_key, _, version, _ in answer.api_versions}
    knows_requests = all(newest.get(api_key, -1) >= version for api_key, version in NEEDED_VERSIONS.items())
    return 2 if knows_requests and answer.finalized_features().get(_TRANSACTIONS, 0) >= 2 else 1


def forgets_transactions(answer: Any) -> bool:
    """Return whether the broker may forget transactions that end while a partition has no leader (KAFKA-20734).

    Such a broker treats a partition without a leader as deleted. It writes no marker for the end of the transaction
    there, so `read_committed` readers wait at this offset for ever.
    """
    return answer.supported_features().get(_METADATA, 0) in _FORGETFUL
