"""Redrives and discards dead letters.

Guarantee: an answer means that the broker has the act, so every API process will show it, and a letter has one act: at
the desk (`api.redrive.desk`) processes act one after another. Request, fact and act of a redrive are one transaction.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from api.server import problems
from api.submit.payload import MAX_EVENT_BYTES
from api.view.view import ViewBehind
from app.errors import BrokerError, BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.rules.letter_acts import Act, LetterId, LetterState, act_record
from app.rules.redrive import Outgoing, Plan, RedrivePolicy, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from app.settings.settings.settings import Settings

    from api.redrive.desk import Desk
    from api.submit.publisher import Publisher
    from api.view.dead_letter_summaries import Summary
    from api.view.view import View

_PAUSES_S = (0.05, 0.3)
"""Between these, at random: two processes that want the desk at once must not take it from each other for ever."""


class Redriven(NamedTuple):
    """A letter that was redriven: what was planned, and the act that says so."""

    plan: Plan
    act: Act

    def records(self, letter_id: LetterId, topic: str) -> list[Outgoing]:
        """Return what is written of it, all together; `topic` is that of dead letters."""
        fact = [] if self.plan.fact is None else [self.plan.fact]
        return [self.plan.request, *fact, act_record(topic, letter_id, LetterState.REDRIVEN, self.act)]


class Redriver:
    """Acts on dead letters with the collaborators of one application, one act at a time."""

    def __init__(
        self, settings: Settings, desk: Desk, publisher: Publisher, view: View, clock_ms: Callable[[], int]
    ) -> None:
        names = settings.names
        self.topic = names.dead_letters
        self._policy = RedrivePolicy(settings.partitions, names.objects, names.task_requests, names.task_events)
        self._patience_s = settings.publish_timeout_s
        self._desk = desk
        self._publisher = publisher
        self._view = view
        self._clock_ms = clock_ms
        self._lock = asyncio.Lock()

    async def redrive(self, letter_id: LetterId, by: str, payload: bytes | None = None) -> Redriven:
        """Redrive one letter, with a `payload` (JSON) as it was edited. Raises `Problem` (404, 409, 413, 422, 503)."""
        at_ms, act_id = self._clock_ms(), uuid.uuid4().hex
        decided: list[Redriven] = []

        def decide() -> Sequence[Outgoing]:
            if self._is_done(letter_id, act_id):
                return ()
            self._check(letter_id)
            plan = self._policy.plan(self._view.dead_letters.letter(letter_id), at_ms=at_ms, payload=payload)
            if isinstance(plan, Refusal):
                raise _refused(plan)
            if payload is not None and len(plan.request.value or b"") > MAX_EVENT_BYTES:
                detail = f"the edited payload makes more than {MAX_EVENT_BYTES} bytes, which is what a topic takes"
                raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
            decided.append(Redriven(plan, Act(at_ms, by, redrive=plan.redrive, id=act_id)))
            return decided[-1].records(letter_id, self.topic)

        await self._act_for_user(letter_id, decide)
        return decided[-1]

    async def discard(self, letter_id: LetterId, by: str, reason: str) -> Act:
        """Mark a letter as one that nobody wants any more. Raises `Problem` (404, 409, 503)."""
        act = Act(self._clock_ms(), by, reason, id=uuid.uuid4().hex)

        def decide() -> Sequence[Outgoing]:
            if self._is_done(letter_id, act.id):
                return ()
            self._check(letter_id)
            return [act_record(self.topic, letter_id, LetterState.DISCARDED, act)]

        await self._act_for_user(letter_id, decide)
        return act

    async def catch_up(self) -> None:
        """Let the view learn first what other processes did. Raises `Problem` (503)."""
        trouble = self._publisher.trouble()
        if trouble is not None:
            raise problems.unavailable("broker-unavailable", f"{trouble}; nothing was done")
        try:
            await self._view.catch_up(self.topic)
        except ViewBehind as error:
            raise problems.unavailable("view-behind", str(error)) from error

    async def act(self, decide: Callable[[], Sequence[Outgoing]], patience_s: float | None = None) -> None:
        """Write what `decide` returns, which it decides by a view that knows every act; nobody else acts meanwhile.

        It is called again if the outcome was unknown: by then the view tells, and it returns nothing if all is done.
        Raises what it raises, `BrokerError`, or `ViewBehind`; `patience_s` is for other processes that are acting.
        """
        loop = asyncio.get_running_loop()
        gives_up_at_s = loop.time() + (self._patience_s if patience_s is None else patience_s)
        shortest_s, longest_s = _PAUSES_S
        unknown: OutcomeUnknown | None = None
        while True:
            try:
                async with self._lock:
                    await self._desk.take()
                    records = decide()
                    ends = await self._desk.commit(records) if records else {}
            except (BrokerUnavailable, ViewBehind):
                if unknown is not None:
                    raise unknown from None  # an earlier try may have come through
                raise
            except OutcomeUnknown as error:
                unknown = error
                pause_s = random.uniform(shortest_s, longest_s)  # no secret
                if loop.time() + pause_s > gives_up_at_s:
                    raise
                await asyncio.sleep(pause_s)
                longest_s *= 1.5
            else:
                break
        # A GET that follows sees it.
        await self._view.wait_for(self.topic, ends)

    def plan(self, letter_id: LetterId, at_ms: int) -> Plan | Refusal | None:
        """Plan the redrive of one of many letters; None if somebody has done something to it."""
        letters = self._view.dead_letters
        summary = letters.summary(letter_id)
        if summary is None or summary.state is not LetterState.DEAD:
            return None
        return self._policy.plan(letters.letter(letter_id), at_ms=at_ms)

    async def _act_for_user(self, letter_id: LetterId, decide: Callable[[], Sequence[Outgoing]]) -> None:
        await self.catch_up()
        with written(f"of {letter_id}"):
            decide()  # what is refused anyway need not take the desk from another process
            await self.act(decide)

    def _is_done(self, letter_id: LetterId, act_id: str) -> bool:
        """Return whether this very act is known: an earlier try, of unknown outcome, came through."""
        summary = self._view.dead_letters.summary(letter_id)
        return summary is not None and any(done.act_id == act_id for done in summary.acts)

    def _check(self, letter_id: LetterId) -> None:
        summary = self._view.dead_letters.summary(letter_id)
        if summary is None:
            raise problems.not_found(f"there is no dead letter {letter_id}")
        if summary.state is not LetterState.DEAD:
            raise _acted_already(letter_id, summary)


def _acted_already(letter_id: LetterId, summary: Summary) -> problems.Problem:
    word = summary.state.lower()
    done = next((one for one in summary.acts if one.state is summary.state), None)
    when = {} if done is None else {"at_ms": done.at_ms, "by": done.by}
    detail = f"dead letter {letter_id} is {word} already; if it died again, that is a new letter"
    return problems.conflict(f"letter-{word}", detail, {"state": summary.state, **when})


def _refused(refusal: Refusal) -> problems.Problem:
    if refusal.of_payload:
        return problems.invalid([{"detail": refusal.reason, "pointer": "#/payload"}])
    return problems.conflict("not-redrivable", refusal.reason)


@contextmanager
def written(of_what: str = "of it") -> Iterator[None]:
    """Make answers of what keeps acts from being written."""
    try:
        yield
    except BrokerError as error:
        raise _not_written(error, of_what) from error
    except ViewBehind as error:
        raise problems.unavailable("view-behind", str(error)) from error


def _not_written(error: BrokerError, of_what: str) -> problems.Problem:
    if isinstance(error, BrokerUnavailable | RecordRefused):
        name = "record-refused" if isinstance(error, RecordRefused) else "broker-unavailable"
        return problems.unavailable(name, f"{error}; nothing was done", {"safe_to_repeat": True})
    detail = f"{error}, so it is not known what became {of_what}. Repeating is safe: a letter is redriven once"
    return problems.unavailable("outcome-unknown", detail, {"safe_to_repeat": True})
