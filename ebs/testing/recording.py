"""Keeps what happens to attempts, for whoever wants to look at them afterwards; the workers' code decides what does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from agents.engine.attempt_outcomes import AttemptOutcomes
from app.events import FinishedObject, encode, role_of
from app.rules.dead_letters import message_of, type_name_of
from app.rules.stack_trace import stack_trace_of
from ebs.testing.object_run import AttemptRun, Failure, ObjectRun, TaskRun

if TYPE_CHECKING:
    from agents.engine.attempt import Attempt
    from app.events import ObjectCreated, TaskCreated
    from ebs.testing.ledger import MemoryLedger
    from ebs.testing.produced import Produced

_decode = msgspec.json.decode


class RecordingOutcomes(AttemptOutcomes):
    """Notes each attempt with its error; `told` makes a run of it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._tasks: dict[int, tuple[TaskCreated, list[AttemptRun]]] = {}

    def start(self, attempt: Attempt, now_ms: int) -> bool:
        """Note that an attempt begins."""
        task = attempt.task
        _, attempts = self._tasks.setdefault(task.sequence, (task, []))
        attempts.append(AttemptRun(task.attempt, now_ms / 1_000))
        return super().start(attempt, now_ms)

    def finish(self, attempt: Attempt, result: object) -> None:
        """Note what an attempt said of its progress."""
        self._note(attempt)
        super().finish(attempt, result)

    def fail(self, attempt: Attempt, error: BaseException) -> None:
        """Note why an attempt failed."""
        self._note(attempt, Failure(type_name_of(error), message_of(error), stack_trace_of(error), error))
        super().fail(attempt, error)

    def told(self, event: ObjectCreated, ledger: MemoryLedger, produced: Produced) -> ObjectRun:
        """Return what became of an object that has ended."""
        end = ledger.end
        by_role: dict[str, list[TaskRun]] = {"split": [], "task": [], "join": []}
        for sequence in sorted(self._tasks):
            task = self._told_task(sequence, event, ledger)
            by_role[task.role].append(task)
        return ObjectRun(
            object_id=event.object_id,
            kind=event.kind,
            state="FINISHED" if isinstance(end, FinishedObject) else "FAILED",
            result=_decode(end.result),
            results=[task.result for task in by_role["task"]],
            tasks=by_role["task"],
            split=next(iter(by_role["split"]), None),
            join=next(iter(by_role["join"]), None),
            submitted=produced.submitted,
            sent=produced.sent,
            end=_decode(encode(end)),
        )

    def _told_task(self, sequence: int, event: ObjectCreated, ledger: MemoryLedger) -> TaskRun:
        task, attempts = self._tasks[sequence]
        role = role_of(sequence) or "task"
        return TaskRun(
            task_id=task.task_id,
            role=role,
            sequence=sequence if role == "task" else None,
            name=task.name if isinstance(task.name, str) else "",
            content=_decode(task.content),
            state="DEAD" if attempts[-1].error else "FINISHED",
            result=_decode(ledger.result_of(event.object_id, sequence)),
            attempts=[replace(one, started_s=round(one.started_s - event.at_ms / 1_000, 3)) for one in attempts],
        )

    def _note(self, attempt: Attempt, error: Failure | None = None) -> None:
        _, attempts = self._tasks[attempt.task.sequence]
        said = attempt.context.last_progress
        progress = None if said is None else (said.fraction, said.message)
        attempts[-1] = replace(attempts[-1], error=error, progress=progress)
