"""Redrives all dead letters that match a filter: one run at a time, in the background, with an optional rate.

Letters that arrive later are not part of a run. Its progress is on `dead-letters`, so every API process knows it and
can cancel the run. A run is executed by one process. If this process ends, the others report it after
`SILENT_AFTER_S`, and the same request continues with the letters that are still dead.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from api.redrive.redrive_run import Patience, Run
from app.rules.ledger_rows import MAX_REDRIVES
from app.rules.letter_acts import LetterState
from app.rules.redrive_runs import MAX_REFUSED_SHOWN, SIGN_EVERY_S, RunProgress, RunState, run_progress_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api.redrive.redrive import Redriver
    from api.view.view import View
    from app.rules.letter_filter import LetterFilter
    from app.rules.outgoing import Outgoing


class RunUnderWay(Exception):
    """There is a run already, in whichever process."""

    def __init__(self, progress: RunProgress, silent_s: float) -> None:
        heard = f", last heard of {silent_s:.0f} s ago" if silent_s > SIGN_EVERY_S else ""
        super().__init__(f"redrive {progress.run_id} is running{heard}: wait for it, or cancel it")
        self.progress = progress


class BulkRedriver:
    """Starts runs, ends them, and knows them."""

    def __init__(
        self, redriver: Redriver, view: View, clock_ms: Callable[[], int], patience: Patience | None = None
    ) -> None:
        self._redriver = redriver
        self._view = view
        self._clock_ms = clock_ms
        self._patience = patience or Patience()
        self._runs = view.dead_letters.runs
        self._own: Run | None = None
        self._task: asyncio.Task[None] | None = None

    def runs(self) -> list[RunProgress]:
        """Return the last runs of all processes, the newest first."""
        return [self._told(progress) for progress in self._runs.newest_first()]

    def find(self, run_id: str) -> RunProgress | None:
        """Return how far a run is."""
        progress = self._runs.find(run_id)
        return None if progress is None else self._told(progress)

    async def count(self, wanted: LetterFilter) -> dict[str, Any]:
        """Return what a run would do: the number of letters, the first ids, and how many have no redrive left."""
        count, at_limit_count = 0, 0
        ids: list[str] = []
        position = None
        while True:
            listed, position = self._view.dead_letters.turn(wanted.only(LetterState.DEAD), position)
            for one in listed:
                if one.summary.redrive >= MAX_REDRIVES:
                    at_limit_count += 1
                    continue
                count += 1
                if len(ids) < MAX_REFUSED_SHOWN:
                    ids.append(str(one.letter_id))
            if position is None:
                return {"count": count, "ids": ids, "at_limit_count": at_limit_count}
            await asyncio.sleep(0)

    async def start(self, wanted: LetterFilter, rate_per_s: float | None, by: str) -> RunProgress:
        """Start a run. Raises `RunUnderWay`, `BrokerError`, `ViewBehind`."""
        at_ms = self._clock_ms()
        progress = RunProgress(uuid.uuid4().hex, 1, RunState.RUNNING, wanted, at_ms, at_ms, by, rate_per_s)

        def decide() -> Sequence[Outgoing]:
            if self._runs.recorded(progress.run_id) is not None:
                return ()  # a try of unknown outcome came through
            runs = self.runs()
            under_way = next((one for one in runs if one.state is RunState.RUNNING), None)
            if under_way is not None:
                raise RunUnderWay(under_way, self._runs.silent_for_s(under_way.run_id))
            # One that only seemed to have ended must know, or there would be two.
            silent = [one for one in runs if self._runs.recorded(one.run_id) != one]
            return [run_progress_record(self._redriver.topic, one) for one in (*silent, progress)]

        decide()  # what is refused anyway need not take over from another process
        await self._redriver.act(decide)
        self._own = Run(progress, self._redriver, self._view, self._clock_ms, self._patience)
        self._task = asyncio.create_task(self._own.go())
        return progress

    async def cancel(self, run_id: str) -> RunProgress | None:
        """End a run of any process after the chunk that it writes; None if there is none. Raises as `start`."""
        own = self._own
        if own is not None and own.progress.run_id == run_id:
            own.stop(RunState.CANCELLED)
            return self._told(own.progress)

        def decide() -> Sequence[Outgoing]:
            progress = self._runs.recorded(run_id)
            if progress is None or progress.state is not RunState.RUNNING:
                return ()
            return [run_progress_record(self._redriver.topic, progress.ended(RunState.CANCELLED, self._clock_ms()))]

        if decide():
            await self._redriver.act(decide)
        return self.find(run_id)

    async def close(self) -> None:
        """End the run that is under way, after the chunk that it writes."""
        if self._own is not None and self._task is not None:
            reason = "its API process was stopped; send the same request again to continue"
            self._own.stop(RunState.INTERRUPTED, reason)
            await asyncio.wait([self._task])

    def _told(self, progress: RunProgress) -> RunProgress:
        """Return a run as this process knows it: it knows more of its own."""
        own = self._own
        if own is None or own.progress.run_id != progress.run_id:
            return progress
        return msgspec.structs.replace(own.progress, error=own.progress.error or own.trouble)
