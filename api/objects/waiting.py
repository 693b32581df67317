"""Long polls: a request waits until an object has come as far as it asks, or as long as it likes to.

A wait costs one entry in a dictionary and a timer, and ends at once when its client has gone or the process stops.
"""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from api.objects.answers import behind, find_object, no_object, row_of
from api.view.view import Found, ViewBehind
from app.rules.ledger_states import ObjectState, state_of_object

if TYPE_CHECKING:
    from starlette.requests import Request

    from api.dependencies import Collaborators

MAX_WAIT_S = 60.0
END = "end"

_ON_THE_WAY = (ObjectState.CREATED, ObjectState.DISTRIBUTED, ObjectState.PROCESSING)
_ENDS = frozenset((ObjectState.FINISHED, ObjectState.FAILED, ObjectState.CANCELLED))


class Outcome(StrEnum):
    """How a wait ended."""

    REACHED = "reached"
    TIMED_OUT = "timed-out"
    UNREACHABLE = "unreachable"


class Waited(NamedTuple):
    """What a wait came to, and what is known of the object then."""

    found: Found
    outcome: Outcome


def parse_until(text: str) -> frozenset[ObjectState]:
    """Return the states of `FINISHED`, `FAILED,CANCELLED` or `end`. Raises `ValueError`."""
    wanted: set[ObjectState] = set()
    for name in text.split(","):
        if name.strip().lower() == END:
            wanted |= _ENDS
        elif name.strip().upper() in ObjectState.__members__:
            wanted.add(ObjectState(name.strip().upper()))
        else:
            raise ValueError(f"Input should be one of {', '.join(ObjectState)} or {END}, or several, comma-separated")
    return frozenset(wanted)


def outcome_of(state: ObjectState, wanted: frozenset[ObjectState]) -> Outcome | None:
    """Tell whether a state is what is wanted, or can never lead there; None: wait.

    A state on the way counts as reached by any later one: the view may see several steps at once.
    """
    if state in wanted:
        return Outcome.REACHED
    passed = _ON_THE_WAY if state in _ENDS else _ON_THE_WAY[: _ON_THE_WAY.index(state)]
    if any(one in wanted for one in passed):
        return Outcome.REACHED
    # A redrive may revive what has failed, nothing else ever changes an end.
    if state in _ENDS and state is not ObjectState.FAILED:
        return Outcome.UNREACHABLE
    return None


async def wait_until(
    request: Request, parts: Collaborators, object_id: str, wanted: frozenset[ObjectState], wait_s: float
) -> Waited:
    """Wait for an object at most so long. Raises `Problem` (404, 503)."""
    deadline_s = time.monotonic() + wait_s
    found = await find_object(object_id, parts)
    outcome = outcome_of(state_of_object(row_of(found)), wanted)
    if outcome is not None or wait_s <= 0:
        return Waited(found, outcome or Outcome.TIMED_OUT)
    with parts.view.waiters.watching(object_id) as bell:
        leaving = asyncio.ensure_future(_until_gone(request))
        leaving.add_done_callback(lambda _: bell.set())
        try:
            while True:
                bell.clear()
                found = _look_up(object_id, parts)
                outcome = outcome_of(state_of_object(row_of(found)), wanted)
                if outcome is not None:
                    return Waited(found, outcome)
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or leaving.done() or parts.closing.asked:
                    return Waited(found, Outcome.TIMED_OUT)
                await _ring(bell, left_s)
        finally:
            leaving.cancel()


def _look_up(object_id: str, parts: Collaborators) -> Found:
    try:
        found = parts.view.look_up(object_id)
    except ViewBehind as error:
        raise behind(error) from error
    if found is None:
        raise no_object(object_id)  # it has expired meanwhile
    return found


async def _ring(bell: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await bell.wait()
    except TimeoutError:
        return


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
