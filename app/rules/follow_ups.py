"""What the end of an object's tasks makes due: the event that the object has ended, or the request to join its results.

The ledger tells each once, whatever is repeated, and the statistics write it in the step that writes the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from app.events import (
    JOIN_SEQUENCE,
    CancelledObject,
    FailedObject,
    FinishedObject,
    TaskCreated,
    TasksCreated,
    task_id_of,
)
from app.rules.ledger_rows import has_result, redrive_count_of
from app.rules.ledger_states import CANCELLED, DEAD, OBJECT_STATES, ObjectState, ended_at_ms, state_number_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.events import ObjectEnd
    from app.rules.ledger_rows import ObjectRow

MAX_JOINED_BYTES = 1_000_000
"""Of all results of an object's tasks, as one JSON list: they travel in one request."""

_EVENTS: dict[ObjectState, type[FinishedObject | FailedObject | CancelledObject]] = {
    ObjectState.FINISHED: FinishedObject,
    ObjectState.FAILED: FailedObject,
    ObjectState.CANCELLED: CancelledObject,
}


class FollowUps:
    """What became due in a step, in the order in which it did.

    `result_of` returns a task's result as JSON by the id of its object and its sequence.
    """

    def __init__(self, result_of: Callable[[str, int], bytes]) -> None:
        self._result_of = result_of
        self.ends: list[ObjectEnd] = []
        self._joins: list[tuple[str, ObjectRow]] = []

    def ended(self, object_id: str, row: ObjectRow) -> None:
        """Note that an object has ended, as it stands now: a redrive may revive it in the same step."""
        # Most objects finish: then nobody has to look at each task.
        states = [] if row.finished_count == row.task_count else list(map(state_number_of, row.tasks))
        number = redrive_count_of(row) + 1
        has_joined = row.join is not None and has_result(row.join)
        self.ends.append(
            _EVENTS[OBJECT_STATES[row.ended]](
                id=f"e-{object_id}-{number}",
                object_id=object_id,
                kind=row.kind,
                at_ms=ended_at_ms(row) or 0,
                created_at_ms=row.created_at_ms or None,
                tasks_total=row.task_count,
                tasks_finished=row.finished_count,
                tasks_dead=states.count(DEAD),
                tasks_cancelled=states.count(CANCELLED),
                end=number,
                result=msgspec.Raw(self._result_of(object_id, JOIN_SEQUENCE) if has_joined else b"null"),
            )
        )

    def has_all_results(self, object_id: str, row: ObjectRow) -> None:
        """Note that the results of an object's tasks can be joined."""
        self._joins.append((object_id, row))

    def joins(self, object_partition: int, at_ms: int) -> Iterator[tuple[TaskCreated, TasksCreated]]:
        """Yield the request of each join, with the results in the order of the tasks, and the fact that it exists.

        Results that are too many for one record are left out: the worker that gets the request says so.
        """
        for object_id, row in self._joins:
            results = [
                self._result_of(object_id, sequence) if has_result(task) else b"null"
                for sequence, task in enumerate(row.tasks)
            ]
            size = sum(map(len, results)) + len(results) + 1
            joined = b"[" + b",".join(results) + b"]" if size <= MAX_JOINED_BYTES else b"null"
            task_id, kind = task_id_of(object_id, JOIN_SEQUENCE), row.kind
            event_id = f"c-{task_id}"
            yield (
                TaskCreated(
                    event_id,
                    object_id,
                    task_id,
                    object_partition,
                    kind,
                    JOIN_SEQUENCE,
                    max(1, row.task_count),
                    1,
                    at_ms,
                    content=msgspec.Raw(joined),
                    role="join",
                    refusal=UNSET if size <= MAX_JOINED_BYTES else _too_large(size),
                ),
                TasksCreated(event_id, object_id, object_partition, kind, JOIN_SEQUENCE, 1, 1, at_ms, role="join"),
            )


def _too_large(size: int) -> str:
    return (
        f"the results of the tasks have {size:,} bytes, at most {MAX_JOINED_BYTES:,} can be joined: return references "
        "instead of the data"
    )
