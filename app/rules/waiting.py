"""When a wait for an object is over: it has come as far as it was waited for, or can never get there."""

from __future__ import annotations

from enum import StrEnum

from app.rules.ledger_states import ENDED_OBJECT_STATES, ObjectState

END = "end"
"""Waits for any of the states in which an object has ended."""

_ON_THE_WAY = tuple(state for state in ObjectState if state not in ENDED_OBJECT_STATES)


class WaitOutcome(StrEnum):
    """How a wait ended."""

    REACHED = "reached"
    TIMED_OUT = "timed-out"
    UNREACHABLE = "unreachable"


def parse_until(text: str) -> frozenset[ObjectState]:
    """Return the states of `FINISHED`, `FAILED,CANCELLED` or `end`. Raises `ValueError`."""
    wanted: set[ObjectState] = set()
    for name in text.split(","):
        if name.strip().lower() == END:
            wanted |= ENDED_OBJECT_STATES
        elif name.strip().upper() in ObjectState.__members__:
            wanted.add(ObjectState(name.strip().upper()))
        else:
            raise ValueError(f"Input should be one of {', '.join(ObjectState)} or {END}, or several, comma-separated")
    return frozenset(wanted)


def outcome_of(state: ObjectState, wanted: frozenset[ObjectState]) -> WaitOutcome | None:
    """Tell whether a state is what is wanted, or can never lead there; None: wait.

    A state on the way counts as reached by any later one: the view may see several steps at once.
    """
    if state in wanted:
        return WaitOutcome.REACHED
    has_ended = state in ENDED_OBJECT_STATES
    passed = _ON_THE_WAY if has_ended else _ON_THE_WAY[: _ON_THE_WAY.index(state)]
    if any(one in wanted for one in passed):
        return WaitOutcome.REACHED
    # A redrive may revive what has failed, nothing else ever changes an end.
    if has_ended and state is not ObjectState.FAILED:
        return WaitOutcome.UNREACHABLE
    return None
