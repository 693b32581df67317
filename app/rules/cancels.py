"""What can be cancelled: a task that has not ended, or all tasks of a filter that were created before an instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from app.events import JOIN_SEQUENCE, MAX_TASKS, SPLIT_SEQUENCE
from app.rules.commands import Cancel, CommandKey, Family
from app.rules.ledger_rows import JOINS, TOLD, task_of
from app.rules.ledger_states import TaskState, state_of_task

if TYPE_CHECKING:
    from app.rules.ledger_rows import ObjectRow


class BadFilter(Exception):
    """Nothing can be cancelled by it; `str()` of one says why, `field` is the one at fault ("": all of them)."""

    def __init__(self, reason: str, field: str = "") -> None:
        super().__init__(reason)
        self.field = field


def task_in(row: ObjectRow, sequence: int) -> TaskState | None:
    """Return the state of an object's task; UNKNOWN before its first event, None if there is no such task."""
    task = task_of(row, sequence)
    if task is not None:
        return state_of_task(task)
    return TaskState.UNKNOWN if _may_come(row, sequence) else None


def _may_come(row: ObjectRow, sequence: int) -> bool:
    if sequence == SPLIT_SEQUENCE:
        return not row.facts & TOLD
    if sequence == JOIN_SEQUENCE:
        return not row.facts & TOLD or bool(row.facts & JOINS)
    return sequence < MAX_TASKS and (not row.task_count or sequence < row.task_count)


def cancel_by_filter(
    kind: str | None, created_before_ms: int | None, *, at_ms: int, reason: str
) -> tuple[CommandKey, Cancel]:
    """Return the command that cancels tasks of a kind (None: all), from before an instant (None: from before now).

    Raises `BadFilter`. The same filter again has the same place, so it is the same command.
    """
    if created_before_ms is None and kind is None:
        raise BadFilter("Name what to cancel: task_id, kind, or created_before_ms for tasks of all kinds")
    before_ms = at_ms if created_before_ms is None else created_before_ms
    if before_ms > at_ms:
        detail = f"Input should not lie in the future (it is {at_ms} now): pause a kind to hold what is yet to come"
        raise BadFilter(detail, "created_before_ms")
    place = CommandKey(Family.CANCEL_FILTER, f"{kind or '*'}-{before_ms}")
    return place, Cancel(kind=kind or UNSET, created_before_ms=before_ms, at_ms=at_ms, reason=reason)
