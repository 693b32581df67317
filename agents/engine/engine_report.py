"""The engine's report: which kinds hold up partitions, and which work could continue but does not."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from app.rules.worker_heartbeats import MAX_RUNNING_SHOWN, HeldUp

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.admission import Admission
    from agents.engine.intake import Intake
    from agents.engine.pool import Pool
    from agents.engine.waiting_tasks import WaitingTasks
    from agents.engine.worker_lanes import WorkerLanes


class EngineReport:
    """Looks at the parts of an engine; it changes nothing."""

    def __init__(
        self,
        lanes: WorkerLanes,
        intake: Intake,
        admission: Admission,
        pool: Pool,
        *,
        waiting: WaitingTasks,
        is_draining: Callable[[], bool],
    ) -> None:
        self._waiting = waiting
        self._lanes = lanes
        self._intake = intake
        self._admission = admission
        self._pool = pool
        self._is_draining = is_draining

    def held_up(self) -> list[HeldUp]:
        """Return which kinds fill partitions with tasks that may not start now, those with most tasks first."""
        full = {lane for lane in self._lanes if lane.waiting and lane.parked_count and not lane.may_start()}
        if not full:
            return []
        counts = Counter((why, ready.task.kind, ready.lane) for why, ready in self._admission.parked())
        found: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
        for (why, kind, lane), count in counts.items():
            if lane in full:
                found[kind, why][lane.partition.number] = count
        held = [HeldUp(kind, why, sum(by.values()), sorted(by)) for (kind, why), by in found.items()]
        return sorted(held, key=lambda one: -one.waiting_count)[:MAX_RUNNING_SHOWN]

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
        if self._admission.released or self._intake.may_start:
            return "records wait that could start"
        if self._waiting.may_start:
            return "tasks are due that could start"
        parked = self._admission.forgotten()
        if parked:
            return f"tasks of {parked} wait although nothing holds them back"
        locked = self._intake.locked()
        return locked and f"records of {locked} wait although nothing holds them back"
