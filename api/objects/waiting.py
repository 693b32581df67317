"""Long polls: a request waits until an object has reached a state, or until its time is over.

A wait costs one entry in a dictionary and a timer, and ends at once when its client has gone or the process stops.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from api.objects.answers import find_object, no_object, row_of
from app.rules.ledger_states import state_of_object
from app.rules.waiting import WaitOutcome, outcome_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from api.dependencies import Collaborators
    from api.view.view import Found
    from app.rules.ledger_states import ObjectState

MAX_WAIT_S = 60.0


class Waited(NamedTuple):
    """The outcome of a wait, and the object at that moment."""

    found: Found
    outcome: WaitOutcome


async def wait_until(
    request: Request, parts: Collaborators, object_id: str, wanted: frozenset[ObjectState], wait_s: float
) -> Waited:
    """Wait for an object, at most `wait_s`. Raises `Problem` (404), `ViewBehind`."""
    deadline_s = time.monotonic() + wait_s
    found = await find_object(object_id, parts)
    outcome = outcome_of(state_of_object(row_of(found)), wanted)
    if outcome is not None or wait_s <= 0:
        return Waited(found, outcome or WaitOutcome.TIMED_OUT)
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
                    return Waited(found, WaitOutcome.TIMED_OUT)
                await _ring(bell, left_s)
        finally:
            leaving.cancel()


def _look_up(object_id: str, parts: Collaborators) -> Found:
    found = parts.view.look_up(object_id)
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
