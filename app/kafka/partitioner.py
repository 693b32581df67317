"""Java's default partitioner for records with a key, as the clients of other languages have it, too."""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of_key(key: bytes, partition_count: int) -> int:
    """Return the partition of a key: murmur2, as `BuiltInPartitioner.partitionForKey` of Kafka's Java client."""
    return int((murmur2(key) & 0x7FFF_FFFF) % partition_count)
