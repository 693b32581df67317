"""aiokafka's types as all others name them: only this room and the streaming layer import aiokafka."""

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import ConsumerRecord, OffsetAndMetadata

__all__ = ["AIOKafkaAdminClient", "ConsumerRecord", "NewTopic", "OffsetAndMetadata", "TopicPartition"]
