"""The last redrives of many letters, as the view knows them: each one's last record, in memory and in the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.redrive_runs import MAX_RUNS_KEPT, RunProgress, newest_first, read_run_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.view.store import ViewStore

RUN_PREFIX = b"Dr"


class HeardRun(NamedTuple):
    """The last record of a redrive, and when this process read it, by its own clock (s)."""

    at_s: float
    progress: RunProgress


class RedriveRuns:
    """The redrives by filter; `View` feeds it. `clock_s` is this process's clock: clocks of other hosts may differ."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._heard: dict[str, HeardRun] = {}

    def load(self, store: ViewStore) -> None:
        """Start with the rows of a store."""
        self._heard.clear()
        for _, row in store.newest_first(RUN_PREFIX):
            self._hear(row)

    def add(self, batch: Any, value: bytes | None) -> None:
        """Take in a record, and put it into the batch that moves the view's offset."""
        run_id = self._hear(value)
        if run_id is None:
            return
        batch.put(RUN_PREFIX + run_id.encode(), value)
        for one in newest_first(heard.progress for heard in reversed(self._heard.values()))[MAX_RUNS_KEPT:]:
            del self._heard[one.run_id]
            batch.delete(RUN_PREFIX + one.run_id.encode())

    def newest_first(self) -> list[RunProgress]:
        """Return the redrives, newest first."""
        return newest_first(map(self._as_of_now, reversed(self._heard.values())))

    def find(self, run_id: str) -> RunProgress | None:
        """Return the progress of a redrive."""
        heard = self._heard.get(run_id)
        return None if heard is None else self._as_of_now(heard)

    def recorded(self, run_id: str) -> RunProgress | None:
        """Return the last record of a run, however long ago that was."""
        heard = self._heard.get(run_id)
        return None if heard is None else heard.progress

    def silent_for_s(self, run_id: str) -> float:
        """Return how long nothing has been heard of a run that is known."""
        return self._clock_s() - self._heard[run_id].at_s

    def _as_of_now(self, heard: HeardRun) -> RunProgress:
        return heard.progress.heard_of(self._clock_s() - heard.at_s)

    def _hear(self, value: bytes | None) -> str | None:
        progress = read_run_progress(value)
        if progress is None:
            return None
        self._heard[progress.run_id] = HeardRun(self._clock_s(), progress)
        return progress.run_id
