"""The engine's report: what waits and why, and which work could continue but does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.rules.worker_heartbeats import WAITING_REASONS, WaitingCount, waiting_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.intake import Intake
    from agents.engine.line_releases import LineReleases
    from agents.engine.pool import Pool
    from agents.engine.waiting_tasks import WaitingTasks
    from agents.engine.worker_lanes import WorkerLanes


class EngineReport:
    """Looks at the parts of an engine; it changes nothing."""

    def __init__(
        self,
        lanes: WorkerLanes,
        intake: Intake,
        releases: LineReleases,
        pool: Pool,
        *,
        waiting: WaitingTasks,
        is_draining: Callable[[], bool],
    ) -> None:
        self._waiting = waiting
        self._lanes = lanes
        self._intake = intake
        self._releases = releases
        self._pool = pool
        self._is_draining = is_draining

    def waiting_counts(self) -> list[WaitingCount]:
        """Return how many tasks wait by reason, and when the first is due of those that wait for their time."""
        none = [WaitingCount(reason, 0) for reason in WAITING_REASONS]
        in_lines = [WaitingCount(why, count) for why, count in self._releases.waiting()]
        return waiting_of([*none, *self._waiting.counts(), *in_lines])

    def could_go_on(self) -> str:
        """Return the work that could be started, committed or fetched now, "" if there is none.

        For the watchdog: if the same answer remains while nothing is committed, work stands still. Work may wait for a
        running task, a full pool, a drain, a pause, a rate or the turn of its object: those are not returned.
        """
        if not self._lanes.is_settled:
            return "records are in hand"
        if self._pool.has_overdue:
            return "a handler still runs long after its time limit"
        if self._is_draining():
            return ""
        if self._pool.executor is None:
            return f"no task may start, as {self._lanes.names.control} was not read yet"
        if self._pool.is_stuck:
            return "abandoned handlers occupy all slots"
        return self._held_for_nothing() or ("" if self._pool.is_full else self._could_start())

    def _held_for_nothing(self) -> str:
        if self._pool.could_call:
            return "calls of batch functions are ready that could start"
        held = self._lanes.holds.needless()
        return held and f"{held} is not fetched although it has room"

    def _could_start(self) -> str:
        if self._releases.released or self._releases.moved or self._intake.may_start:
            return "records wait that could start"
        if self._waiting.may_start:
            return "tasks are due that could start"
        parked = self._releases.forgotten()
        if parked:
            return f"tasks of {parked} wait although nothing holds them back"
        locked = self._intake.locked()
        return locked and f"records of {locked} wait although nothing holds them back"
