"""How large a record may be, by topic."""

from __future__ import annotations

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from app.errors import RecordTooLarge
from app.kafka.codecs import NUMBERS

MAX_BATCH_BYTES = 900_000
"""Size at which a batch is closed: below the 1 MiB that brokers accept unless told otherwise."""
SURELY_FITS_BYTES = 10_000
"""A value of this size fits into any topic: callers need not ask `check_size` about smaller ones."""
DEFAULT_RECORD_BYTES = 1_048_588
"""Largest batch that a topic takes unless told otherwise (max.message.bytes)."""

Headers = list[tuple[str, bytes]]


class TopicLimits:
    """What topics take; `record_bytes` is that by topic (max.message.bytes), as far as it is known.

    `compression` is that of new batches, "none" or the name of a codec. Sizes are those without compression.
    """

    def __init__(self, compression: str = "none") -> None:
        self.record_bytes: dict[str, int] = {}
        self._codec = NUMBERS[compression]

    def limit_bytes(self, topic: str) -> int:
        """Return how many bytes a record of a topic may have, with all that Kafka puts around it."""
        return self.record_bytes.get(topic, DEFAULT_RECORD_BYTES)

    def check_size(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None = None) -> None:
        """Raise `RecordTooLarge` if a topic does not take a record."""
        size_bytes = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers or [])
        limit_bytes = self.limit_bytes(topic)
        if size_bytes > limit_bytes:
            raise RecordTooLarge(
                f"{topic} takes at most {limit_bytes} bytes a record (max.message.bytes), this one has {size_bytes}"
            )

    def new_batch(self, topic: str) -> BatchBuilder:
        """Return an empty batch for a topic, of a transaction."""
        return BatchBuilder(min(MAX_BATCH_BYTES, self.limit_bytes(topic)), self._codec, is_transactional=1)
