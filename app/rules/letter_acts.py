"""Acts on dead letters (redrives and discards): they are records of `dead-letters`, so they survive every process.

An act is in the partition of its letter, after the letter. Its key is the letter's id, and a header says that it is an
act. The state of a letter does not depend on the order of its acts, nor on repetitions.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from app.events import DECODE_ERRORS, Instant, Redrive, encode
from app.rules.dead_letters import ACT_HEADER, TOPIC_HEADER
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REASON_CHARS = 1_000

_LETTER_ID = re.compile(r"(0|[1-9]\d{0,8})-(0|[1-9]\d{0,17})", re.ASCII)


class LetterId(NamedTuple):
    """The position of a letter on `dead-letters`; written `<partition>-<offset>`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


class LetterState(StrEnum):
    """The state of a letter after its acts."""

    DEAD = "DEAD"
    REDRIVEN = "REDRIVEN"
    DISCARDED = "DISCARDED"


class LetterAct(msgspec.Struct, frozen=True):
    """A redrive or discard of a letter. `redrive` is the number of the redrive from 1, or 0 for a discard.

    After a lost answer the API finds the act again by its `id`. The acts of a redrive by filter have none.
    """

    at_ms: Instant
    by: Annotated[str, Meta(max_length=200)] = ""
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARS)] = ""
    redrive: Redrive = 0
    id: Annotated[str, Meta(max_length=64)] = ""


_decode_act = msgspec.json.Decoder(LetterAct).decode
_STATES = {state.lower().encode(): state for state in (LetterState.REDRIVEN, LetterState.DISCARDED)}


def act_record(topic: str, letter_id: LetterId, state: LetterState, act: LetterAct) -> Outgoing:
    """Return the record of an act on a letter."""
    headers = [(ACT_HEADER, state.lower().encode())]
    return Outgoing(topic, letter_id.partition, str(letter_id).encode(), encode(act), headers)


def read_act(
    key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]
) -> tuple[LetterId, LetterState, LetterAct] | None:
    """Return the act of a record; None if the record is a letter, or an act of an unknown type."""
    state = _STATES.get(headers.get(ACT_HEADER, b""))
    letter_id = None if key is None else parse_letter_id(key.decode("utf-8", "replace"))
    if state is None or letter_id is None:
        return None
    try:
        return letter_id, state, _decode_act(value or b"")
    except DECODE_ERRORS:
        return None


def is_act(headers: Mapping[str, bytes]) -> bool:
    """Return whether a record of `dead-letters` is an act; a record that says where it died is always a letter."""
    return ACT_HEADER in headers and TOPIC_HEADER not in headers


def state_after(state: LetterState, done: LetterState) -> LetterState:
    """Return a letter's state after an act, in any order of acts: a redrive counts even if somebody also discards."""
    return state if state is LetterState.REDRIVEN else done


def parse_letter_id(text: str) -> LetterId | None:
    """Undo `str(LetterId)`; None for any other text."""
    match = _LETTER_ID.fullmatch(text)
    return None if match is None else LetterId(int(match[1]), int(match[2]))
