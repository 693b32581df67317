"""The headers of a dead letter: why it died and where it came from, under the names that existing tools read.

Spring Kafka's `kafka_dlt-*` and `retry_topic-attempts` (DeadLetterPublishingRecoverer) and Kafka Streams'
`__streams.errors.*` (KIP-1034), all values as text. The letter keeps the key, value and headers of the record. Our own
headers, `ebs-*`, are for lists and filters: the fingerprint of the error and, if the task is known, its kind, id,
object and number of redrives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.events import redrive_of
from app.rules.fingerprint import fingerprint
from app.rules.stack_trace import class_name_of, module_of, stack_trace_of, text_of

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
"""Marks a record of `dead-letters` that is not a letter but an act on a letter (`app.rules.redrive`)."""
INCOMPLETE_HEADER = "ebs-incomplete"
"""Says, for people, what is missing from the letter: such a letter cannot be redriven unchanged."""
LAST_OFFSET_HEADER = "ebs-last-offset"
"""The last offset, if a letter stands for several offsets."""
TOPIC_HEADER = "kafka_dlt-original-topic"
PARTITION_HEADER = "kafka_dlt-original-partition"
OFFSET_HEADER = "kafka_dlt-original-offset"
ERROR_TYPE_HEADER = "kafka_dlt-exception-fqcn"
MESSAGE_HEADER = "kafka_dlt-exception-message"
STACK_TRACE_HEADER = "kafka_dlt-exception-stacktrace"
ATTEMPTS_HEADER = "retry_topic-attempts"

MAX_STACK_TRACE_BYTES = 16_384
MAX_EVENT_STACK_BYTES = 8_192
"""Maximum size of a stack trace in TASK_FAILED: a task may have 16 attempts, and people look at few of them."""
MAX_MESSAGE_CHARS = 2_000
MAX_NAME_CHARS = 200
"""Of an error's text and of its class's name in headers and events; a record over the broker's limit ends a worker."""
MAX_CUT_BYTES = 65_536
"""Size of the part that a letter keeps of a key or value that is too large for it."""
_MAX_HEADER_CHARS = 256
"""Of what outside producers may have written into fields that go into headers."""

_FAMILIES = ("kafka_dlt-", "retry_topic-", "__streams.errors.")
_OURS = {
    FINGERPRINT_HEADER,
    KIND_HEADER,
    TASK_ID_HEADER,
    OBJECT_ID_HEADER,
    REDRIVE_HEADER,
    ACT_HEADER,
    INCOMPLETE_HEADER,
    LAST_OFFSET_HEADER,
}
_HEADER_OVERHEAD_BYTES = 10
_RECORD_OVERHEAD_BYTES = 100
"""Of a batch with one record; more than it is."""

Headers = list[tuple[str, bytes]]


class Body(NamedTuple):
    """A letter's bytes."""

    key: bytes | None
    value: bytes | None
    headers: Headers


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
    last_offset: int | None = None,
    incomplete: str | None = None,
) -> Headers:
    """Return the headers of a dead letter; those of an earlier death are replaced.

    `task` is set if the bytes are a task, `last_offset` if the letter stands for several offsets. `incomplete` says,
    for people, what is missing from the bytes.
    """
    name = qualified_name_of(error)
    message = message_of(error)
    stack = _end_of_stack(error, MAX_STACK_TRACE_BYTES)
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
        *([] if last_offset is None else [(LAST_OFFSET_HEADER, str(last_offset))]),
        *([] if incomplete is None else [(INCOMPLETE_HEADER, incomplete)]),
    )
    encoded = [(key, text.encode()) for key, text in texts]
    if task is None:
        encoded += [(key, (value or b"")[:_MAX_HEADER_CHARS]) for key, value in given if key == REDRIVE_HEADER][-1:]
    stacks = [(STACK_TRACE_HEADER, stack), ("__streams.errors.stacktrace", stack)]
    return [*headers_of_others(given), *encoded, *stacks]


def fitting(body: Body, limit_bytes: int) -> Body:
    """Return a letter that fits into `limit_bytes`: whole if it can be, else cut, with a header that says so."""
    if _size_of(body) <= limit_bytes:
        return body
    most_bytes = min(MAX_CUT_BYTES, limit_bytes // 8)
    key, value, headers = body
    kept = []
    if key is not None and len(key) > most_bytes:
        kept.append(f"the first {most_bytes} of {len(key)} bytes of its key")
        key = key[:most_bytes]
    if value is not None and len(value) > most_bytes:
        kept.append(f"the first {most_bytes} of {len(value)} bytes of its value")
        value = value[:most_bytes]
    own = headers_of_others(headers)
    own_bytes = _size_of(Body(None, None, own))
    if own_bytes > most_bytes:
        kept.append(f"none of its {len(own)} headers ({own_bytes} bytes)")
        headers = [(name, text) for name, text in headers if _is_ours(name)]
    said = "the record is too large for a dead letter; kept: " + " and ".join(kept)
    told = [(INCOMPLETE_HEADER, said.encode()), *(one for one in headers if one[0] != INCOMPLETE_HEADER)]
    cut = Body(key, value, told)
    if _size_of(cut) > limit_bytes:
        cut = Body(key, value, [one for one in told if not one[0].endswith("stacktrace")])
    return cut


def _size_of(body: Body) -> int:
    # A header of another producer may be null.
    headers = sum(len(name.encode()) + len(text or b"") + _HEADER_OVERHEAD_BYTES for name, text in body.headers)
    return _RECORD_OVERHEAD_BYTES + len(body.key or b"") + len(body.value or b"") + headers


def headers_of_others(headers: Iterable[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return a record's own headers, such as a trace id, without the headers of a dead letter."""
    return [(key, value) for key, value in headers if not _is_ours(key)]


def _is_ours(name: str) -> bool:
    return name.startswith(_FAMILIES) or name in _OURS


def _what_is_known(task: TaskCreated | None) -> tuple[tuple[str, str], ...]:
    if task is None:
        return ()
    return (
        (KIND_HEADER, task.kind[:_MAX_HEADER_CHARS]),
        (TASK_ID_HEADER, task.task_id),
        (OBJECT_ID_HEADER, task.object_id),
        (REDRIVE_HEADER, str(redrive_of(task))),
    )


def message_of(error: BaseException) -> str:
    """Return an error's text, bounded, with halves of characters escaped; never raises."""
    return _encodable(text_of(error)[:MAX_MESSAGE_CHARS])


def type_name_of(error: BaseException) -> str:
    """Return the name of an error's class, bounded, with halves of characters escaped; never raises."""
    return _encodable(class_name_of(error)[:MAX_NAME_CHARS])


def qualified_name_of(error: BaseException) -> str:
    """Return the same with the module in front."""
    return f"{_encodable(module_of(error)[:MAX_NAME_CHARS])}.{type_name_of(error)}"


def event_stack_of(error: BaseException) -> str:
    """Return the end of an error's stack trace, where the error is, as TASK_FAILED has it; never raises."""
    return _end_of_stack(error, MAX_EVENT_STACK_BYTES).decode("utf-8", "ignore")


def _end_of_stack(error: BaseException, max_bytes: int) -> bytes:
    return stack_trace_of(error).encode("utf-8", "backslashreplace")[-max_bytes:]


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
