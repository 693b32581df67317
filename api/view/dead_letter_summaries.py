"""The summary of a dead letter for lists and filters, and of its group: from its headers, or else from its bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app.events import DECODE_ERRORS, decode_object, redrive_of
from app.rules.dead_letters import (
    ATTEMPTS_HEADER,
    ERROR_TYPE_HEADER,
    FINGERPRINT_HEADER,
    KIND_HEADER,
    MESSAGE_HEADER,
    OBJECT_ID_HEADER,
    REDRIVE_HEADER,
    TASK_ID_HEADER,
    TOPIC_HEADER,
)
from app.rules.fingerprint import fingerprint
from app.rules.letter_acts import LetterState
from app.rules.redrive import number_of, task_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.names import Names

_MAX_TIME_MS = 253_402_300_799_999
_MAX_NAME_CHARS = 250
_MAX_MESSAGE_CHARS = 300
_FINGERPRINT = re.compile(rb"[0-9a-f]{12}")


class Known(NamedTuple):
    """The known fields of the dead record; an empty field is not known."""

    kind: str = ""
    task_id: str = ""
    object_id: str = ""
    redrive: int = 0


class SummarizedAct(NamedTuple):
    """One act on a letter: the new state, when, by whom, why, the generation that it began, and the act's id."""

    state: LetterState
    at_ms: int
    by: str
    reason: str
    redrive: int
    act_id: str = ""


class LetterSummary(msgspec.Struct, array_like=True, gc=False):
    """The fields of a letter for lists and filters; a text is empty if it is not known."""

    at_ms: int
    fingerprint: str
    error_type: str
    message: str
    topic: str
    kind: str
    task_id: str
    object_id: str
    attempts: int
    redrive: int
    state: LetterState = LetterState.DEAD
    acts: list[SummarizedAct] = msgspec.field(default_factory=list)


class Group(msgspec.Struct, array_like=True, gc=False):
    """The letters of one fingerprint, kind and topic; `counts` is by state, the error is that of the latest letter."""

    fingerprint: str
    kind: str
    topic: str
    counts: dict[LetterState, int]
    first_at_ms: int
    last_at_ms: int
    error_type: str
    message: str


decode_summary = msgspec.msgpack.Decoder(LetterSummary).decode
decode_group = msgspec.msgpack.Decoder(Group).decode


def summary_of(timestamp_ms: int, value: bytes | None, headers: Mapping[str, bytes], names: Names) -> LetterSummary:
    """Return a new letter's summary; what its headers do not say is looked for in its bytes."""
    error_type = _text(headers, ERROR_TYPE_HEADER)
    # The whole message: the worker also computed the fingerprint from the whole message.
    message = headers.get(MESSAGE_HEADER, b"").decode("utf-8", "replace")
    topic = _text(headers, TOPIC_HEADER)
    given = headers.get(FINGERPRINT_HEADER, b"")
    known = _known_by_headers(headers) or _known_by_bytes(topic, value, names) or Known()
    return LetterSummary(
        min(max(timestamp_ms, 0), _MAX_TIME_MS),
        given.decode() if _FINGERPRINT.fullmatch(given) else fingerprint(error_type, message),
        error_type,
        message[:_MAX_MESSAGE_CHARS],
        topic,
        known.kind,
        known.task_id,
        known.object_id,
        number_of(headers.get(ATTEMPTS_HEADER)) or 0,
        known.redrive or number_of(headers.get(REDRIVE_HEADER)) or 0,
    )


def _known_by_headers(headers: Mapping[str, bytes]) -> Known | None:
    if TASK_ID_HEADER not in headers:
        return None
    return Known(_text(headers, KIND_HEADER), _text(headers, TASK_ID_HEADER), _text(headers, OBJECT_ID_HEADER))


def _known_by_bytes(topic: str, value: bytes | None, names: Names) -> Known | None:
    if names.is_of_requests(topic):
        task = task_of(value)
        if task is not None:
            return Known(task.kind, task.task_id, task.object_id, redrive_of(task))
    elif topic == names.objects:
        try:
            event = decode_object(value or b"")
        except DECODE_ERRORS:
            return None
        # An object can be one and still die, such as for asking for too many tasks.
        return Known(event.kind, "", event.object_id)
    return None


def _text(headers: Mapping[str, bytes], name: str) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")[:_MAX_NAME_CHARS]
