"""Which partition of `objects` an object belongs into: one by its id, whoever wrote it."""

from __future__ import annotations

import zlib


def partition_of(key: bytes, partition_count: int) -> int:
    """Return an object's partition: CRC-32 of its id (UTF-8) modulo n, as librdkafka's partitioner `consistent`."""
    return zlib.crc32(key) % partition_count


def is_misplaced(object_id: str, partition: int, partition_count: int) -> bool:
    """Return whether a record of `objects` lies where its object does not belong, as Java's murmur2 puts it.

    Distribution moves such a record to where it belongs; everybody else passes it over and meets it there. So an id is
    one object whatever partitioner its producers use.
    """
    return zlib.crc32(object_id.encode()) % partition_count != partition
