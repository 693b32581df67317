"""aiokafka's errors as all others name them, see `types`."""

from aiokafka.errors import (
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    IllegalOperation,
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    InvalidReplicationFactorError,
    InvalidTopicError,
    InvalidTxnState,
    KafkaError,
    KafkaTimeoutError,
    ProducerFenced,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

__all__ = [
    "BrokerResponseError",
    "ClusterAuthorizationFailedError",
    "IllegalOperation",
    "InvalidProducerEpoch",
    "InvalidProducerIdMapping",
    "InvalidReplicationFactorError",
    "InvalidTopicError",
    "InvalidTxnState",
    "KafkaError",
    "KafkaTimeoutError",
    "ProducerFenced",
    "TopicAlreadyExistsError",
    "TopicAuthorizationFailedError",
    "for_code",
]
