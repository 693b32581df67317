"""The headers of a dead letter: why it died and where it came from, under the names that existing tools read.

Spring Kafka's `kafka_dlt-*` and `retry_topic-attempts` (DeadLetterPublishingRecoverer) and Kafka Streams'
`__streams.errors.*` (KIP-1034), all values as text. The record's own key and value go along untouched, so do its own
headers.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_STACK_TRACE_BYTES = 16_384
MAX_MESSAGE_CHARS = 2_000
"""Of an error's text in headers and events; a record that grows beyond the broker's limit would end the worker."""

_OURS = ("kafka_dlt-", "retry_topic-", "__streams.errors.")


class Origin(NamedTuple):
    """Where a dead letter was read: topic, partition, offset, and the record's timestamp in epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def dead_letter_headers(
    origin: Origin, error: BaseException, *, attempts: int, headers: Iterable[tuple[str, bytes]] = ()
) -> list[tuple[str, bytes]]:
    """Return the headers of a dead letter; those of an earlier death are replaced."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    message = message_of(error)
    trace = "".join(traceback.format_exception(error))
    stack = trace.encode("utf-8", "backslashreplace")[-MAX_STACK_TRACE_BYTES:]
    own = [(key, value) for key, value in headers if not key.startswith(_OURS)]
    texts = (
        ("kafka_dlt-original-topic", origin.topic),
        ("kafka_dlt-original-partition", str(origin.partition)),
        ("kafka_dlt-original-offset", str(origin.offset)),
        ("kafka_dlt-original-timestamp", str(origin.timestamp_ms)),
        ("kafka_dlt-exception-fqcn", name),
        ("kafka_dlt-exception-message", message),
        ("retry_topic-attempts", str(attempts)),
        ("__streams.errors.topic", origin.topic),
        ("__streams.errors.partition", str(origin.partition)),
        ("__streams.errors.offset", str(origin.offset)),
        ("__streams.errors.exception", name),
        ("__streams.errors.message", message),
    )
    encoded = [(key, text.encode()) for key, text in texts]
    return [*own, *encoded, ("kafka_dlt-exception-stacktrace", stack), ("__streams.errors.stacktrace", stack)]


def message_of(error: BaseException) -> str:
    """Return an error's text, bounded, with halves of characters escaped; never raises."""
    try:
        text = str(error)
    except Exception as broken:  # noqa: BLE001  # a handler's error class is anybody's code
        text = f"(its text cannot be had: {type(broken).__name__})"
    return text[:MAX_MESSAGE_CHARS].encode("utf-8", "backslashreplace").decode()
