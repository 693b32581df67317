"""The figures of a processing worker in each heartbeat."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agents.failure_story import describe
from app.rules.worker_heartbeats import MAX_RUNNING_SHOWN, RunningTask, WorkerFigures
from ebs.context import ReportedProgress

if TYPE_CHECKING:
    from agents.engine.attempt import Attempt
    from agents.engine.engine import Engine
    from app.streaming.progress_monitor import ProgressMonitor
    from app.streaming.transactions import Transactions


_NAMED = 5
"""Of the tasks in the last line of a worker."""


class ProcessingFigures:
    """The figures of the engine: what runs and waits, for how long, and when something was last finished."""

    def __init__(self, transactions: Transactions, progress: ProgressMonitor, engine: Engine) -> None:
        self._transactions = transactions
        self._progress = progress
        self._engine = engine

    def __call__(self) -> WorkerFigures:
        """Return the figures now; the tasks that run longest are named."""
        now_s = time.perf_counter()
        oldest_first = sorted(self._engine.running, key=lambda attempt: attempt.began_at_s)
        partitions = self._transactions.ownership.partitions
        return WorkerFigures(
            partitions=sorted(number for number, one in partitions.items() if one.active),
            in_flight=len(oldest_first),
            oldest_running_ms=_age_ms(oldest_first[0], now_s) if oldest_first else None,
            last_progress_at_ms=self._engine.last_progress_at_ms,
            draining=self._engine.is_draining,
            waiting=self._engine.report.waiting_counts(),
            abandoned=self._engine.abandoned_count,
            standing_still=self._progress.verdict or "",
            refused="; ".join(self._progress.refused().values()),
            running=[_describe(attempt, now_s) for attempt in oldest_first[:MAX_RUNNING_SHOWN]],
        )


def describe_running(engine: Engine) -> str:
    """Return in words what runs, those first that run longest; may be called from any thread."""
    running = sorted(engine.pool.in_hand(), key=lambda attempt: attempt.began_at_s)
    if not running:
        return ""
    named = "; ".join(describe(attempt.task) for attempt in running[:_NAMED])
    return f"{len(running)} in hand: {named}{' ...' if len(running) > _NAMED else ''}"


def _age_ms(attempt: Attempt, now_s: float) -> int:
    return round((now_s - attempt.began_at_s) * 1_000)


def _describe(attempt: Attempt, now_s: float) -> RunningTask:
    said = attempt.context.last_progress
    age_ms = _age_ms(attempt, now_s)
    if not isinstance(said, ReportedProgress):  # a handler can put anything there
        return RunningTask(attempt.task.task_id, age_ms)
    return RunningTask(attempt.task.task_id, age_ms, said.fraction, said.message)
