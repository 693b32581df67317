"""Redrives and discards dead letters.

Guarantee: an answer means that the broker has the act, so every API process will show it. A redrive writes the request
first, then its fact, then the act: whatever a crash leaves out, the letter can be redriven again, and since the request
is the same generation of the same task again, its worker drops it: one run counts.
"""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from api import problems
from api.submit.payload import MAX_EVENT_BYTES
from api.view.view import ViewBehind
from app.errors import BrokerError, BrokerUnavailable, RecordRefused
from app.rules.acts import Act, LetterId, LetterState, act_record
from app.rules.redrive import Plan, RedrivePolicy, Refusal
from app.topics import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from api.submit.publisher import Ends, Publisher
    from api.view.view import View
    from app.rules.redrive import Outgoing


class Redriven(NamedTuple):
    """A letter that was redriven: what was planned, and the act that says so."""

    plan: Plan
    act: Act


class Redriver:
    """Acts on dead letters with the collaborators of one application; each letter is in one hand at a time."""

    def __init__(self, partition_count: int, publisher: Publisher, view: View, clock_ms: Callable[[], int]) -> None:
        self._policy = RedrivePolicy(partition_count, OBJECTS, TASK_REQUESTS, TASK_EVENTS)
        self._publisher = publisher
        self._view = view
        self._clock_ms = clock_ms
        self._in_hand: set[LetterId] = set()

    async def redrive(self, letter_id: LetterId, by: str, payload: bytes | None = None) -> Redriven:
        """Redrive one letter, with a `payload` (JSON) as it was edited. Raises `Problem` (404, 409, 413, 422, 503)."""
        await self.catch_up()
        with self._taken(letter_id):
            self._check(letter_id)
            at_ms = self._clock_ms()
            plan = self._policy.plan(self._view.dead_letters.letter(letter_id), at_ms=at_ms, payload=payload)
            if isinstance(plan, Refusal):
                raise _refused(plan)
            if payload is not None and len(plan.request.value or b"") > MAX_EVENT_BYTES:
                detail = f"the edited payload makes more than {MAX_EVENT_BYTES} bytes, which is what a topic takes"
                raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
            act = Act(at_ms, by, redrive=plan.redrive)
            acted = {letter_id: act_record(DEAD_LETTERS, letter_id, LetterState.REDRIVEN, act)}
            await self._write(letter_id, waves_of([plan], acted.values()))
        return Redriven(plan, act)

    async def discard(self, letter_id: LetterId, by: str, reason: str) -> Act:
        """Mark a letter as one that nobody wants any more. Raises `Problem` (404, 409, 503)."""
        await self.catch_up()
        with self._taken(letter_id):
            self._check(letter_id)
            act = Act(self._clock_ms(), by, reason)
            await self._write(letter_id, [[act_record(DEAD_LETTERS, letter_id, LetterState.DISCARDED, act)]])
        return act

    async def catch_up(self) -> None:
        """Let the view learn first what other processes did. Raises `Problem` (503)."""
        trouble = self._publisher.trouble()
        if trouble is not None:
            raise problems.unavailable("broker-unavailable", f"{trouble}; nothing was done")
        try:
            await self._view.catch_up(DEAD_LETTERS)
        except ViewBehind as error:
            raise problems.unavailable("view-behind", str(error)) from error

    def plan(self, letter_id: LetterId, at_ms: int) -> Plan | Refusal | None:
        """Plan the redrive of one of many letters; None if somebody has done something to it, or does so now."""
        letters = self._view.dead_letters
        summary = letters.summary(letter_id)
        if summary is None or summary.state is not LetterState.DEAD or letter_id in self._in_hand:
            return None
        return self._policy.plan(letters.letter(letter_id), at_ms=at_ms)

    @contextmanager
    def taking(self, letter_ids: Collection[LetterId]) -> Iterator[None]:
        """Keep letters in hand, so that whoever wants one of them meanwhile is refused."""
        self._in_hand.update(letter_ids)
        try:
            yield
        finally:
            self._in_hand.difference_update(letter_ids)

    @contextmanager
    def _taken(self, letter_id: LetterId) -> Iterator[None]:
        if letter_id in self._in_hand:
            detail = f"dead letter {letter_id} is being redriven or discarded by another request at this moment"
            raise problems.conflict("letter-in-hand", detail)
        with self.taking([letter_id]):
            yield

    def _check(self, letter_id: LetterId) -> None:
        try:
            summary = self._view.dead_letters.summary(letter_id)
        except ViewBehind as error:
            raise problems.unavailable("view-behind", str(error)) from error
        if summary is None:
            raise problems.not_found(f"there is no dead letter {letter_id}")
        if summary.state is not LetterState.DEAD:
            word = summary.state.lower()
            done = next((one for one in summary.acts if one.state is summary.state), None)
            when = {} if done is None else {"at_ms": done.at_ms, "by": done.by}
            detail = f"dead letter {letter_id} is {word} already; if it died again, that is a new letter"
            raise problems.conflict(f"letter-{word}", detail, {"state": summary.state, **when})

    async def _write(self, letter_id: LetterId, waves: list[list[Outgoing]]) -> None:
        written = False
        ends: Ends = {}
        for wave in waves:
            try:
                ends = await self._publisher.publish_to(wave)
            except BrokerError as error:
                raise _not_written(error, letter_id, nothing=not written) from error
            written = True
        # A GET that follows sees it, and so does the next one who wants to redrive it.
        await self._view.wait_for(DEAD_LETTERS, ends_of_letters(ends))


def waves_of(plans: Iterable[Plan], acts: Iterable[Outgoing]) -> list[list[Outgoing]]:
    """Return what redrives write in the order of the guarantee; each wave must be acknowledged before the next."""
    planned = list(plans)
    requests = [plan.request for plan in planned]
    facts = [plan.fact for plan in planned if plan.fact is not None]
    return [wave for wave in (requests, facts, list(acts)) if wave]


def ends_of_letters(ends: Mapping[tuple[str, int], int]) -> dict[int, int]:
    """Return by partition where `dead-letters` ends after what was written."""
    return {partition: end for (topic, partition), end in ends.items() if topic == DEAD_LETTERS}


def _refused(refusal: Refusal) -> problems.Problem:
    if refusal.of_payload:
        return problems.invalid([{"detail": refusal.reason, "pointer": "#/payload"}])
    return problems.conflict("not-redrivable", refusal.reason)


def _not_written(error: BrokerError, letter_id: LetterId, *, nothing: bool) -> problems.Problem:
    if nothing and isinstance(error, BrokerUnavailable | RecordRefused):
        name = "record-refused" if isinstance(error, RecordRefused) else "broker-unavailable"
        return problems.unavailable(name, f"{error}; nothing was done", {"safe_to_repeat": True})
    detail = (
        f"{error}, so it is not known what became of {letter_id}. Repeating is safe: a task redriven twice runs once"
    )
    return problems.unavailable("outcome-unknown", detail, {"safe_to_repeat": True})
