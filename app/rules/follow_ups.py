"""What follows the end of an object's tasks: the request of its join, or the event that the object has ended.

If the object has a callback URL, the request of the callback follows, too. The ledger reports each of them once, even
if events are repeated, and the statistics write them in the step that writes the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from app.events import JOIN_SEQUENCE, CancelledObject, FailedObject, FinishedObject
from app.json_text import NULL
from app.rules.callbacks import callback_of, is_due, url_of
from app.rules.ledger_rows import has_result, redrive_count_of
from app.rules.ledger_states import CANCELLED, DEAD, OBJECT_STATES, ObjectState, ended_at_ms, state_number_of
from app.rules.new_tasks import Owner, task_with_role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.events import ObjectEnd
    from app.rules.ledger_rows import ObjectRow
    from app.rules.new_tasks import NewTasks

MAX_JOINED_BYTES = 1_000_000
"""Of all results of an object's tasks, as one JSON list: they travel in one request."""
FULL_BYTES = 16 << 20
"""Of the results to be joined, after which a step takes no more events: few of them may make many joins due."""

_TOO_LARGE = (
    f"the results of the tasks have more than {MAX_JOINED_BYTES:,} bytes together, and cannot be joined: return "
    "references instead of the data"
)

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
        self.is_full = False
        self._joins: list[tuple[str, ObjectRow, msgspec.Raw | None]] = []
        self._joined_bytes = 0
        self._callbacks: list[tuple[ObjectEnd, str]] = []

    def ended(self, object_id: str, row: ObjectRow) -> None:
        """Record the end of an object with its current state: a redrive may revive the object in the same step."""
        # Most objects finish: then no task has to be looked at.
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
                result=msgspec.Raw(self._result_of(object_id, JOIN_SEQUENCE)) if has_joined else NULL,
                name="" if row.about is None else row.about.name,
                parent=None if row.about is None else row.about.parent,
            )
        )
        if is_due(row):
            self._callbacks.append((self.ends[-1], url_of(row)))

    def has_all_results(self, object_id: str, row: ObjectRow) -> None:
        """Note that the results of an object's tasks can be joined."""
        results = self._results(object_id, row)
        self._joins.append((object_id, row, results))
        self._joined_bytes += len(results or b"")
        self.is_full = self._joined_bytes >= FULL_BYTES

    def new_tasks(self, object_partition: int, at_ms: int) -> Iterator[NewTasks]:
        """Yield each task that has become due."""
        yield from self._new_joins(object_partition, at_ms)
        for end, url in self._callbacks:
            yield callback_of(end, url, object_partition, at_ms)

    def _new_joins(self, object_partition: int, at_ms: int) -> Iterator[NewTasks]:
        """Yield each join, whose content are the results in the order of the tasks.

        Results that are too many for one record are left out: the worker that gets the request says so.
        """
        for object_id, row, results in self._joins:
            yield task_with_role(
                Owner(object_id, object_partition, row.kind, UNSET if row.about is None else row.about.depth or UNSET),
                JOIN_SEQUENCE,
                NULL if results is None else results,
                at_ms=at_ms,
                name=UNSET if row.about is None else row.about.name,
                task_count=max(1, row.task_count),
                refusal=_TOO_LARGE if results is None else UNSET,
            )

    def _results(self, object_id: str, row: ObjectRow) -> msgspec.Raw | None:
        """Return the results as a JSON list, None if they are too large; no more is read than may be joined."""
        results, size = [], 1
        for sequence, task in enumerate(row.tasks):
            result = self._result_of(object_id, sequence) if has_result(task) else b"null"
            size += len(result) + 1
            if size > MAX_JOINED_BYTES:
                return None
            results.append(result)
        return msgspec.Raw(b"[" + b",".join(results) + b"]")
