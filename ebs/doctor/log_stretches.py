"""Reading stretches of logs to their ends, and writing behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.kafka.cluster import started
from app.kafka.types import TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from app.kafka.cluster import Cluster

_POLL_MS = 200


async def whole_log(consumer: Any, topic: str, partition_count: int) -> dict[TopicPartition, range]:
    """Return what a topic has now; nothing without partitions."""
    partitions = [TopicPartition(topic, number) for number in range(partition_count)]
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return {tp: range(begins[tp], ends[tp]) for tp in partitions}


async def write_rows(cluster: Cluster, rows: Mapping[tuple[TopicPartition, bytes], bytes | None]) -> None:
    """Write a record for each partition and key."""
    producer = await started(cluster.new_producer("ebs-offsets"))
    try:
        for (tp, key), row in rows.items():
            await producer.send_and_wait(tp.topic, row, key, partition=tp.partition)
    finally:
        await producer.stop()


async def read_stretches(consumer: Any, logs: Mapping[TopicPartition, range]) -> AsyncIterator[Any]:
    """Yield the committed records of stretches of logs."""
    open_logs = {tp: log for tp, log in logs.items() if log}
    consumer.assign(list(open_logs))
    for tp, log in open_logs.items():
        consumer.seek(tp, log.start)
    while open_logs:
        for tp, records in (await consumer.getmany(*open_logs, timeout_ms=_POLL_MS)).items():
            for record in records:
                if record.offset < logs[tp].stop:
                    yield record
        for tp in list(open_logs):
            if await consumer.position(tp) >= logs[tp].stop:
                del open_logs[tp]
                consumer.pause(tp)
