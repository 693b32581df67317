"""What was done to dead letters: acts, which are records of `dead-letters` themselves, so they outlive every process.

An act lies in its letter's partition, behind it; its key is the letter's id, a header says that it is no letter. What
the acts of a letter make of it does not depend on their order, nor on how often each is there.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from app.events import DECODE_ERRORS, Instant, Redrive, encode
from app.rules.dead_letters import ACT_HEADER, TOPIC_HEADER
from app.rules.redrive import Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_REASON_CHARS = 1_000

_LETTER_ID = re.compile(r"(0|[1-9]\d{0,8})-(0|[1-9]\d{0,17})", re.ASCII)


class LetterId(NamedTuple):
    """Where a letter lies on `dead-letters`; written `<partition>-<offset>`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


class LetterState(StrEnum):
    """What was done to a letter."""

    DEAD = "DEAD"
    REDRIVEN = "REDRIVEN"
    DISCARDED = "DISCARDED"


class Act(msgspec.Struct, frozen=True):
    """Something done to a letter; `redrive` is the generation that it began, 0 for a discard.

    By `id` one who does not know whether his act came through finds it again; it is empty for those of a run.
    """

    at_ms: Instant
    by: Annotated[str, Meta(max_length=200)] = ""
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARS)] = ""
    redrive: Redrive = 0
    id: Annotated[str, Meta(max_length=64)] = ""


_decode_act = msgspec.json.Decoder(Act).decode
_STATES = {state.lower().encode(): state for state in (LetterState.REDRIVEN, LetterState.DISCARDED)}


def act_record(topic: str, letter_id: LetterId, state: LetterState, act: Act) -> Outgoing:
    """Return the record that says what was done to a letter."""
    headers = [(ACT_HEADER, state.lower().encode())]
    return Outgoing(topic, letter_id.partition, str(letter_id).encode(), encode(act), headers)


def read_act(
    key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]
) -> tuple[LetterId, LetterState, Act] | None:
    """Return what an act says; None if the record is a letter, or an act of nothing that we know."""
    state = _STATES.get(headers.get(ACT_HEADER, b""))
    letter_id = None if key is None else parse_letter_id(key.decode("utf-8", "replace"))
    if state is None or letter_id is None:
        return None
    try:
        return letter_id, state, _decode_act(value or b"")
    except DECODE_ERRORS:
        return None


def is_act(headers: Mapping[str, bytes]) -> bool:
    """Return whether a record of `dead-letters` is no letter; one that says where it died is one, whatever else."""
    return ACT_HEADER in headers and TOPIC_HEADER not in headers


def state_after(state: LetterState, done: LetterState) -> LetterState:
    """Return a letter's state after an act, whatever their order: what was redriven runs, whoever discards it too."""
    return state if state is LetterState.REDRIVEN else done


def parse_letter_id(text: str) -> LetterId | None:
    """Undo `str(LetterId)`; None for any other text."""
    match = _LETTER_ID.fullmatch(text)
    return None if match is None else LetterId(int(match[1]), int(match[2]))
