"""Ledger rows as answers show them: plain names, states in words, None for what has not happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.events import role_of, task_id_of
from app.rules.counts import MAX_SUM
from app.rules.ledger_rows import all_tasks, known_task
from app.rules.ledger_states import ENDED_OBJECT_STATES, ENDED_STATES, TaskState, state_of_object, state_of_task

if TYPE_CHECKING:
    from app.rules.ledger_rows import ObjectRow
    from app.rules.results import ResultRow


def describe_object(object_id: str, row: ObjectRow) -> dict[str, Any]:
    """Return a row as answers show it; instants are epoch ms, None if they are not known yet."""
    states = [state_of_task(task) for task in row.tasks]
    state = state_of_object(row)
    last_end_ms = row.finished_at_ms or max((task.ended_at_ms for task in all_tasks(row)), default=0) or 1
    return {
        "id": object_id,
        "kind": row.kind,
        "state": state.value,
        "tasks_total": row.task_count,
        "tasks_done": states.count(TaskState.FINISHED),
        "tasks_in_progress": states.count(TaskState.IN_PROGRESS),
        "tasks_dead": states.count(TaskState.DEAD),
        "tasks_cancelled": states.count(TaskState.CANCELLED),
        "time_spent_ms": min(sum(task.spent_ms for task in all_tasks(row)), MAX_SUM),
        "created_at_ms": row.created_at_ms or None,
        "distributed_at_ms": min((task.created_at_ms for task in all_tasks(row) if task.created_at_ms), default=None),
        "finished_at_ms": row.finished_at_ms or None,
        "ended_at_ms": last_end_ms if state in ENDED_OBJECT_STATES else None,
    }


def describe_task(object_id: str, row: ObjectRow, sequence: int, result: ResultRow) -> dict[str, Any]:
    """Return one task of a row as answers show it, without its result (JSON bytes)."""
    task = known_task(row, sequence)
    state = state_of_task(task)
    return {
        "id": task_id_of(object_id, sequence),
        "sequence": sequence,
        "role": role_of(sequence) or "task",
        "state": state.value,
        "attempts": task.started.bit_count(),
        "created_at_ms": task.created_at_ms or None,
        "started_at_ms": task.started_at_ms or None,
        # A redriven task had an end, and has none now.
        "ended_at_ms": task.ended_at_ms if state in ENDED_STATES else None,
        "wait_ms": task.wait_ms,
        "spent_ms": task.spent_ms,
        "error": result.error or None,
    }
