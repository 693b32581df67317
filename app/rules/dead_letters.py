"""The headers of a dead letter: why it died and where it came from, under the names that existing tools read.

Spring Kafka's `kafka_dlt-*` and `retry_topic-attempts` (DeadLetterPublishingRecoverer) and Kafka Streams'
`__streams.errors.*` (KIP-1034), all values as text. The record's own key and value go along untouched, so do its own
headers. Ours, `ebs-*`, say what the desk of dead letters groups and finds them by: fingerprint of the error and, where
a task is known, its kind, id, object and how often it was redriven.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app.rules.fingerprint import fingerprint
from app.rules.stack_trace import stack_trace_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.events import TaskCreated

FINGERPRINT_HEADER = "ebs-error-fingerprint"
KIND_HEADER = "ebs-kind"
TASK_ID_HEADER = "ebs-task-id"
OBJECT_ID_HEADER = "ebs-object-id"
REDRIVE_HEADER = "ebs-redrive"
"""How often the record was redriven before it died; a record that is no task carries it on, so that loops end."""
ACT_HEADER = "ebs-act"
"""Marks a record of `dead-letters` that is no letter: what was done to one (`app.rules.redrive`)."""
TOPIC_HEADER = "kafka_dlt-original-topic"
PARTITION_HEADER = "kafka_dlt-original-partition"
OFFSET_HEADER = "kafka_dlt-original-offset"
ERROR_TYPE_HEADER = "kafka_dlt-exception-fqcn"
MESSAGE_HEADER = "kafka_dlt-exception-message"
STACK_TRACE_HEADER = "kafka_dlt-exception-stacktrace"
ATTEMPTS_HEADER = "retry_topic-attempts"

MAX_STACK_TRACE_BYTES = 16_384
MAX_MESSAGE_CHARS = 2_000
"""Of an error's text in headers and events; a record that grows beyond the broker's limit would end the worker."""

_FAMILIES = ("kafka_dlt-", "retry_topic-", "__streams.errors.")
_OURS = {FINGERPRINT_HEADER, KIND_HEADER, TASK_ID_HEADER, OBJECT_ID_HEADER, REDRIVE_HEADER, ACT_HEADER}


class Origin(NamedTuple):
    """Where a dead letter was read: topic, partition, offset, and the record's timestamp in epoch ms."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


def dead_letter_headers(
    origin: Origin,
    error: BaseException,
    *,
    attempts: int,
    headers: Iterable[tuple[str, bytes]] = (),
    task: TaskCreated | None = None,
) -> list[tuple[str, bytes]]:
    """Return the headers of a dead letter; those of an earlier death are replaced. `task`: where the bytes are one."""
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    message = message_of(error)
    stack = stack_trace_of(error).encode("utf-8", "backslashreplace")[-MAX_STACK_TRACE_BYTES:]
    given = list(headers)
    texts = (
        (TOPIC_HEADER, origin.topic),
        (PARTITION_HEADER, str(origin.partition)),
        (OFFSET_HEADER, str(origin.offset)),
        ("kafka_dlt-original-timestamp", str(origin.timestamp_ms)),
        (ERROR_TYPE_HEADER, name),
        (MESSAGE_HEADER, message),
        (ATTEMPTS_HEADER, str(attempts)),
        ("__streams.errors.topic", origin.topic),
        ("__streams.errors.partition", str(origin.partition)),
        ("__streams.errors.offset", str(origin.offset)),
        ("__streams.errors.exception", name),
        ("__streams.errors.message", message),
        (FINGERPRINT_HEADER, fingerprint(name, message)),
        *_what_is_known(task),
    )
    encoded = [(key, text.encode()) for key, text in texts]
    if task is None:
        encoded += [(key, value) for key, value in given if key == REDRIVE_HEADER][-1:]
    stacks = [(STACK_TRACE_HEADER, stack), ("__streams.errors.stacktrace", stack)]
    return [*headers_of_others(given), *encoded, *stacks]


def headers_of_others(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return a record's own headers, such as a trace id: without those that a death added."""
    return [(key, value) for key, value in headers if not key.startswith(_FAMILIES) and key not in _OURS]


def _what_is_known(task: TaskCreated | None) -> tuple[tuple[str, str], ...]:
    if task is None:
        return ()
    redrive = 0 if task.redrive is msgspec.UNSET else task.redrive
    return (
        (KIND_HEADER, task.kind),
        (TASK_ID_HEADER, task.task_id),
        (OBJECT_ID_HEADER, task.object_id),
        (REDRIVE_HEADER, str(redrive)),
    )


def message_of(error: BaseException) -> str:
    """Return an error's text, bounded, with halves of characters escaped; never raises."""
    try:
        text = str(error)
    except BaseException as broken:  # noqa: BLE001  # a handler's error class is anybody's code
        text = f"(its text cannot be had: {type(broken).__name__})"
    return text[:MAX_MESSAGE_CHARS].encode("utf-8", "backslashreplace").decode()
