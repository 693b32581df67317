"""Redrives and discards dead letters.

Guarantee: an answer means that the broker has the act, so every API process will show it, and a letter has one act: at
the letter writer (`api.redrive.letter_writer`) processes act one after another. Request, fact and act of a redrive are
one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from api.server import problems
from api.view.behind import ViewBehind
from app.errors import BrokerError, BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.rules.distribution import MAX_EVENT_BYTES
from app.rules.letter_acts import LetterAct, LetterId, LetterState, act_record
from app.rules.redrive import RedrivePlan, RedrivePolicy, Refusal
from app.topics.queues import routes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from api.redrive.letter_writer import LetterWriter
    from api.submit.publisher import Publisher
    from api.view.dead_letter_summaries import LetterSummary
    from api.view.view import View
    from app.rules.outgoing import Outgoing
    from app.settings.settings import Settings

_log = logging.getLogger(__name__)

_PAUSES_S = (0.05, 0.3)
"""Between these, at random: two processes that write at once must not take over from each other for ever."""


class Redriven(NamedTuple):
    """A letter that was redriven: what was planned, and the act that says so."""

    plan: RedrivePlan
    act: LetterAct

    def records(self, letter_id: LetterId, topic: str) -> list[Outgoing]:
        """Return what is written of it, all together; `topic` is that of dead letters."""
        fact = [] if self.plan.fact is None else [self.plan.fact]
        return [self.plan.request, *fact, act_record(topic, letter_id, LetterState.REDRIVEN, self.act)]


class Redriver:
    """Acts on dead letters with the collaborators of one application, one act at a time."""

    def __init__(
        self, settings: Settings, writer: LetterWriter, publisher: Publisher, view: View, clock_ms: Callable[[], int]
    ) -> None:
        names = settings.names
        self.topic = names.dead_letters
        self._policy = RedrivePolicy(names, routes_of(settings))
        self._patience_s = settings.publish_timeout_s
        self._writer = writer
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
            plan = self._plan(letter_id, at_ms, payload)
            if isinstance(plan, Refusal):
                raise _refused(plan)
            if payload is not None and len(plan.request.value or b"") > MAX_EVENT_BYTES:
                detail = f"the edited payload makes more than {MAX_EVENT_BYTES} bytes, the limit of the topic"
                raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
            decided.append(Redriven(plan, LetterAct(at_ms, by, redrive=plan.redrive, id=act_id)))
            return decided[-1].records(letter_id, self.topic)

        await self._act_for_user(letter_id, decide)
        return decided[-1]

    async def discard(self, letter_id: LetterId, by: str, reason: str) -> LetterAct:
        """Mark a letter as discarded. Raises `Problem` (404, 409, 503)."""
        act = LetterAct(self._clock_ms(), by, reason, id=uuid.uuid4().hex)

        def decide() -> Sequence[Outgoing]:
            if self._is_done(letter_id, act.id):
                return ()
            self._check(letter_id)
            return [act_record(self.topic, letter_id, LetterState.DISCARDED, act)]

        await self._act_for_user(letter_id, decide)
        return act

    async def catch_up(self) -> None:
        """Let the view learn first what other processes did. Raises `Problem` (503), `ViewBehind`."""
        trouble = self._publisher.trouble()
        if trouble is not None:
            raise problems.unavailable("broker-unavailable", f"{trouble}; nothing was done")
        await self._view.catch_up(self.topic)

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
                    await self._writer.take_over()
                    records = decide()
                    ends = await self._writer.commit(records) if records else {}
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

    def plan(self, letter_id: LetterId, at_ms: int) -> RedrivePlan | Refusal | None:
        """Plan the redrive of one of many letters; None if somebody has done something to it."""
        letters = self._view.dead_letters
        summary = letters.summary(letter_id)
        if summary is None or summary.state is not LetterState.DEAD:
            return None
        return self._plan(letter_id, at_ms)

    def _plan(self, letter_id: LetterId, at_ms: int, payload: bytes | None = None) -> RedrivePlan | Refusal:
        """Plan the redrive of a letter, whose bytes and headers are anybody's: none may keep the others from theirs."""
        try:
            return self._policy.plan(self._view.dead_letters.letter(letter_id), at_ms=at_ms, payload=payload)
        except ViewBehind:
            raise
        except Exception as error:  # noqa: BLE001  # a bug must not end the redrive of all other letters
            _log.exception("dead letter %s cannot be redriven", letter_id)
            return Refusal(f"it cannot be redriven: {type(error).__name__}: {error}")

    async def _act_for_user(self, letter_id: LetterId, decide: Callable[[], Sequence[Outgoing]]) -> None:
        await self.catch_up()
        with written(f"of {letter_id}"):
            decide()  # what is refused anyway need not take over from another process
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


def _acted_already(letter_id: LetterId, summary: LetterSummary) -> problems.Problem:
    word = summary.state.lower()
    done = next((one for one in summary.acts if one.state is summary.state), None)
    when = {} if done is None else {"at_ms": done.at_ms, "by": done.by}
    detail = f"dead letter {letter_id} is {word} already; if the task died again, it has a new letter"
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


def _not_written(error: BrokerError, of_what: str) -> problems.Problem:
    detail = f"{error}, so it is not known what happened to {of_what}. Repeating is safe: a letter is redriven once"
    if isinstance(error, BrokerUnavailable | RecordRefused):
        detail = f"{error}; nothing was done"
    return problems.unavailable(problems.name_of(error), detail, {"safe_to_repeat": True})
