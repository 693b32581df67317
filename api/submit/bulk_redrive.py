"""Redrives all dead letters that a filter means: one run at a time, in the background, at most at a rate.

A run reads the view from the newest letter to the oldest and writes chunk by chunk, so its memory does not grow with
the number of letters; what dies meanwhile is newer and not part of it. It lives in this process only: one that ends
with it is started again by the same request, and takes up what is still dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from api.submit.redrive import ends_of_letters, waves_of
from api.submit.redrive_run import SAMPLE_COUNT, Run, RunState, RunUnderWay
from api.view.view import ViewBehind
from app.errors import BrokerError, RecordRefused
from app.rules.acts import Act, LetterState, act_record
from app.rules.ledger import MAX_REDRIVES
from app.rules.redrive import Plan, Refusal
from app.topics import DEAD_LETTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.submit.publisher import Publisher
    from api.submit.redrive import Redriver
    from api.view.dead_letter_filter import Filter
    from api.view.dead_letters import Listed
    from api.view.view import View
    from app.rules.acts import LetterId

_log = logging.getLogger(__name__)

_CHUNK_COUNT = 500
_CHUNK_BYTES = 4 * 1_048_576
_BURST_S = 0.1
"""A run with a rate writes what is due in so much time at once."""
_RETRY_PAUSE_S = 1.0
_PATIENCE_S = 60.0
_KEPT_RUNS = 20


class BulkRedriver:
    """Starts runs and knows the last ones; a run gives up on a broker that takes nothing for `patience_s`."""

    def __init__(
        self,
        redriver: Redriver,
        publisher: Publisher,
        view: View,
        clock_ms: Callable[[], int],
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._redriver = redriver
        self._publisher = publisher
        self._view = view
        self._clock_ms = clock_ms
        self._patience_s = patience_s
        self._task: asyncio.Task[None] | None = None
        self.runs: deque[Run] = deque(maxlen=_KEPT_RUNS)

    async def count(self, wanted: Filter) -> dict[str, Any]:
        """Return what a run would do: how many letters, the first ids, and how many are at their limit."""
        count, at_limit_count = 0, 0
        ids: list[str] = []
        place = None
        while True:
            listed, place = self._view.dead_letters.turn(wanted._replace(state=LetterState.DEAD), place)
            for one in listed:
                if one.summary.redrive >= MAX_REDRIVES:
                    at_limit_count += 1
                    continue
                count += 1
                if len(ids) < SAMPLE_COUNT:
                    ids.append(str(one.letter_id))
            if place is None:
                return {"count": count, "ids": ids, "at_limit_count": at_limit_count}
            await asyncio.sleep(0)

    def start(self, wanted: Filter, rate_per_s: float | None, by: str) -> Run:
        """Start a run. Raises `RunUnderWay`."""
        if self._task is not None and not self._task.done():
            raise RunUnderWay(self.runs[-1])
        run = Run(wanted._replace(state=LetterState.DEAD), rate_per_s, by, self._clock_ms())
        self.runs.append(run)
        self._task = asyncio.create_task(self._run(run))
        return run

    def find(self, run_id: str) -> Run | None:
        """Return a run of this process."""
        return next((run for run in self.runs if run.run_id == run_id), None)

    async def close(self) -> None:
        """End the run that is under way, after the chunk that it writes."""
        if self._task is not None:
            self.runs[-1].stopping.set()
            await asyncio.wait([self._task])

    async def _run(self, run: Run) -> None:
        ends: dict[int, int] = {}
        state = RunState.FAILED
        try:
            await self._follow(run, ends)
            state = RunState.CANCELLED if run.stopping.is_set() else RunState.DONE
        except (BrokerError, ViewBehind) as error:
            run.error = f"{error}; the same request goes on where this one ended"
        except Exception as error:  # noqa: BLE001  # a bug must not leave a run that is under way for ever
            run.error = f"{type(error).__name__}: {error}"
            _log.exception("redrive %s failed", run.run_id)
        # Whoever hears of the end finds the letters redriven.
        await self._view.wait_for(DEAD_LETTERS, ends)
        run.state, run.ended_at_ms = state, self._clock_ms()

    async def _follow(self, run: Run, ends: dict[int, int]) -> None:
        began_at_s = asyncio.get_running_loop().time()
        taken_count = 0
        place = None
        chunk: dict[LetterId, Plan] = {}
        while True:
            listed, place = self._view.dead_letters.turn(run.wanted, place)
            while listed and not run.stopping.is_set():
                if run.rate_per_s is not None:
                    await self._pause(run, began_at_s + taken_count / run.rate_per_s)
                chunk, listed = self._next_chunk(run, listed)
                taken_count += len(chunk)
                if chunk and not run.stopping.is_set():
                    with self._redriver.taking(chunk):
                        ends.update(await self._write(run, chunk))
            if place is None or run.stopping.is_set():
                return
            await asyncio.sleep(0)

    def _next_chunk(self, run: Run, listed: list[Listed]) -> tuple[dict[LetterId, Plan], list[Listed]]:
        """Plan the next letters; returns the plans and the letters that are left."""
        most = _CHUNK_COUNT if run.rate_per_s is None else min(_CHUNK_COUNT, max(1, round(run.rate_per_s * _BURST_S)))
        at_ms = self._clock_ms()
        chunk: dict[LetterId, Plan] = {}
        size_bytes = 0
        for number, (letter_id, _) in enumerate(listed):
            if len(chunk) == most or size_bytes >= _CHUNK_BYTES:
                return chunk, listed[number:]
            plan = self._redriver.plan(letter_id, at_ms)
            if plan is None:
                run.skipped_count += 1
            elif isinstance(plan, Refusal):
                run.refuse(letter_id, plan.reason)
            else:
                chunk[letter_id] = plan
                size_bytes += len(plan.request.value or b"")
        return chunk, []

    async def _write(self, run: Run, chunk: dict[LetterId, Plan]) -> dict[int, int]:
        by = f"{run.by}, redrive {run.run_id}"
        at_ms = self._clock_ms()
        acts = [
            act_record(DEAD_LETTERS, letter_id, LetterState.REDRIVEN, Act(at_ms, by, redrive=plan.redrive))
            for letter_id, plan in chunk.items()
        ]
        loop = asyncio.get_running_loop()
        gives_up_at_s = loop.time() + self._patience_s
        ends: dict[int, int] = {}
        for wave in waves_of(chunk.values(), acts):
            while True:
                try:
                    ends = ends_of_letters(await self._publisher.publish_to(wave))
                except RecordRefused:
                    raise
                except BrokerError as error:
                    # The wave is sent again as it is: the same ids, so that one run of each task counts.
                    run.error = str(error)
                    if run.stopping.is_set() or loop.time() >= gives_up_at_s:
                        raise
                    await self._pause(run, loop.time() + _RETRY_PAUSE_S)
                else:
                    break
        run.error = None
        run.redriven_count += len(chunk)
        return ends

    async def _pause(self, run: Run, until_s: float) -> None:
        """Wait until a time of the event loop, or until the run is to stop."""
        try:
            async with asyncio.timeout_at(until_s):
                await run.stopping.wait()
        except TimeoutError:
            pass
