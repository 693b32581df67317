"""Reading stretches of logs to their ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from app.kafka.types import TopicPartition

_POLL_MS = 200


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
