"""aiokafka's types as all others name them: only this room and the streaming layer import aiokafka."""

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

LOG_APPEND_TIME = 1
"""`timestamp_type` of a record that the broker has stamped, when it came; 0: its producer has."""

__all__ = [
    "LOG_APPEND_TIME",
    "AIOKafkaAdminClient",
    "AIOKafkaClient",
    "ConsumerRecord",
    "NewTopic",
    "OffsetAndMetadata",
    "TopicPartition",
]
