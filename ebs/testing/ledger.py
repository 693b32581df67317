"""The ledger of one object in memory, by the rules of the statistics: it knows when to join, and when all has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.events import decode_task_event
from app.rules.follow_ups import FollowUps
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.events import ObjectCreated, ObjectEnd
    from app.rules.new_tasks import NewTasks


class MemoryLedger:
    """One object's row, its results, and what they make due."""

    def __init__(self) -> None:
        self._row = ObjectRow()
        self._tally = Tally()
        self._results = Results(lambda _key: None)
        self._follow_ups = FollowUps(self._results.result_of)

    def created(self, event: ObjectCreated) -> None:
        """Hear that the object was created."""
        apply_object_created(self._row, event, self._tally)

    def apply(self, value: bytes | None) -> None:
        """Hear of an event of a task."""
        event = decode_task_event(value or b"")
        apply_task_event(self._row, event, self._tally, self._results, self._follow_ups)

    def new_tasks(self, now_ms: int) -> Iterator[NewTasks]:
        """Yield what has become due: the join."""
        due, self._follow_ups = self._follow_ups, FollowUps(self._results.result_of)
        self._follow_ups.ends = due.ends
        yield from due.new_tasks(0, now_ms)

    @property
    def end(self) -> ObjectEnd:
        """How the object ended."""
        return self._follow_ups.ends[-1]

    def result_of(self, object_id: str, sequence: int) -> bytes:
        """Return a task's result as JSON."""
        return self._results.result_of(object_id, sequence)
