"""One redrive of many letters, by the process that was asked for it: reads the view and writes chunk by chunk.

Memory does not grow with the number of letters. Each chunk is one transaction with the record that counts it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from api.redrive.redrive import Redriven
from api.view.behind import ViewBehind
from app.errors import BrokerError, BrokerUnavailable, OutcomeUnknown
from app.rules.letter_acts import LetterAct, LetterState
from app.rules.redrive import Refusal
from app.rules.redrive_runs import MAX_REFUSED_SHOWN, SIGN_EVERY_S, RunProgress, RunState, run_progress_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api.redrive.redrive import Redriver
    from api.view.view import View
    from app.rules.letter_acts import LetterId
    from app.rules.outgoing import Outgoing

_log = logging.getLogger(__name__)

_CHUNK_COUNT = 500
_CHUNK_BYTES = 4 * 1_048_576
_BURST_S = 0.1
"""A run with a rate writes what is due in so much time at once."""
_RETRY_PAUSE_S = 0.5
"""Also what another process has to finish in that took over from a run."""


class Patience(NamedTuple):
    """How long a run waits for a broker that takes nothing, and how often it sends a heartbeat meanwhile."""

    broker_away_s: float = 60.0
    sign_every_s: float = SIGN_EVERY_S


class _EndedElsewhere(Exception):
    """Another process ended the run."""


class Run:
    """A run of this process: `progress` is what was committed last, `trouble` what keeps it from going on."""

    def __init__(
        self, progress: RunProgress, redriver: Redriver, view: View, clock_ms: Callable[[], int], patience: Patience
    ) -> None:
        self.progress = progress
        self.trouble: str | None = None
        self._redriver = redriver
        self._letters = view.dead_letters
        self._clock_ms = clock_ms
        self._patience = patience
        self._stopping = asyncio.Event()
        self._end: tuple[RunState, str | None] = (RunState.DONE, None)

    def stop(self, state: RunState, reason: str | None = None) -> None:
        """Let it end after the chunk that it writes."""
        if not self._stopping.is_set():
            self._end = (state, reason)
            self._stopping.set()

    async def go(self) -> None:
        """Redrive all letters that are meant, and write how it ended."""
        try:
            await self._follow()
            state, error = self._end
        except _EndedElsewhere:
            self.progress = self._letters.runs.recorded(self.progress.run_id) or self.progress
            self.trouble = None
            return
        except (BrokerError, ViewBehind) as failure:
            state, error = RunState.FAILED, f"{failure}; send the same request again to continue"
        except Exception as failure:  # noqa: BLE001  # a bug must not leave a run that is under way for ever
            state, error = RunState.FAILED, f"{type(failure).__name__}: {failure}"
            _log.exception("redrive %s failed", self.progress.run_id)
        ended = self.progress.ended(state, self._clock_ms(), error)
        # Who has waited for a broker that is away does not wait again: elsewhere silence tells the same.
        self._stopping.set()
        try:
            await self._commit(lambda: (ended, ()))
        except (BrokerError, ViewBehind, _EndedElsewhere) as failure:
            _log.warning("the end of redrive %s could not be written: %s", ended.run_id, failure)
            self.progress = ended

    async def _follow(self) -> None:
        began_at_s = asyncio.get_running_loop().time()
        wanted, rate_per_s = self.progress.wanted.only(LetterState.DEAD), self.progress.rate_per_s
        taken_count = 0
        position = None
        while True:
            listed, position = self._letters.turn(wanted, position)
            letter_ids = [one.letter_id for one in listed]
            while letter_ids and not self._stopping.is_set():
                if rate_per_s is not None:
                    await self._pause(began_at_s + taken_count / rate_per_s)
                    if self._stopping.is_set():
                        return
                chunk = self._first_chunk(letter_ids)
                letter_ids = letter_ids[len(chunk) :]
                taken_count += await self._redrive(chunk)
            if position is None or self._stopping.is_set():
                return
            await asyncio.sleep(0)

    def _first_chunk(self, letter_ids: list[LetterId]) -> list[LetterId]:
        rate_per_s = self.progress.rate_per_s
        most = _CHUNK_COUNT if rate_per_s is None else min(_CHUNK_COUNT, max(1, round(rate_per_s * _BURST_S)))
        chunk: list[LetterId] = []
        size_bytes = 0
        for letter_id in letter_ids[:most]:
            if size_bytes >= _CHUNK_BYTES:
                break
            size_bytes += len(self._letters.letter(letter_id).value or b"")
            chunk.append(letter_id)
        return chunk

    async def _redrive(self, chunk: Sequence[LetterId]) -> int:
        """Redrive letters and count them; returns how many were redriven."""
        before = self.progress

        def decide() -> tuple[RunProgress, Sequence[Outgoing]]:
            at_ms = self._clock_ms()
            by = f"{before.by}, redrive {before.run_id}"
            records: list[Outgoing] = []
            refused: list[tuple[str, str]] = []
            redriven_count = 0
            for letter_id in chunk:
                plan = self._redriver.plan(letter_id, at_ms)
                if isinstance(plan, Refusal):
                    refused.append((str(letter_id), plan.reason))
                elif plan is not None:
                    redriven_count += 1
                    records += Redriven(plan, LetterAct(at_ms, by, redrive=plan.redrive)).records(
                        letter_id, self._redriver.topic
                    )
            after = msgspec.structs.replace(
                before,
                number=before.number + 1,
                at_ms=at_ms,
                redriven_count=before.redriven_count + redriven_count,
                refused_count=before.refused_count + len(refused),
                skipped_count=before.skipped_count + len(chunk) - redriven_count - len(refused),
                refused=(*before.refused, *refused)[:MAX_REFUSED_SHOWN],
            )
            return after, records

        await self._commit(decide)
        return self.progress.redriven_count - before.redriven_count

    async def _commit(self, decide: Callable[[], tuple[RunProgress, Sequence[Outgoing]]]) -> None:
        """Write records with the progress that counts them, over a broker that is away for a while."""
        tried: list[RunProgress] = []

        def decide_once() -> Sequence[Outgoing]:
            known = self._letters.runs.recorded(self.progress.run_id)
            if tried and known == tried[-1]:
                return ()  # the try whose outcome was unknown came through
            if known is not None and known.state is not RunState.RUNNING:
                raise _EndedElsewhere
            progress, records = decide()
            tried.append(progress)
            return [*records, run_progress_record(self._redriver.topic, progress)]

        loop = asyncio.get_running_loop()
        gives_up_at_s = loop.time() + self._patience.broker_away_s
        while True:
            try:
                await self._redriver.act(decide_once, patience_s=0)
            except (BrokerUnavailable, OutcomeUnknown, ViewBehind) as error:
                self.trouble = str(error)
                if self._stopping.is_set() or loop.time() >= gives_up_at_s:
                    raise
                await self._wait(loop.time() + _RETRY_PAUSE_S)
            else:
                break
        self.progress, self.trouble = tried[-1], None

    async def _pause(self, until_s: float) -> None:
        """Wait until a time of the event loop, or until the run is to stop; send heartbeats meanwhile."""
        loop = asyncio.get_running_loop()
        # uvloop rounds to milliseconds: a wait may end a little early, which must not count as one that goes on.
        while (sign_at_s := loop.time() + self._patience.sign_every_s) < until_s and not self._stopping.is_set():
            await self._wait(sign_at_s)
            if not self._stopping.is_set():
                await self._redrive(())
        await self._wait(until_s)

    async def _wait(self, until_s: float) -> None:
        try:
            async with asyncio.timeout_at(until_s):
                await self._stopping.wait()
        except TimeoutError:
            pass
