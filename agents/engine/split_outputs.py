"""What leaves with the end of a split: the requests of the object's tasks, and the fact that they exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.events import encode
from app.rules.distribution import MAX_COPIED_BYTES
from app.rules.new_tasks import Owner, copied_bytes_of, decode_items, tasks_of, tasks_of_items
from app.rules.outgoing import Outgoing
from ebs.errors import Reject

if TYPE_CHECKING:
    import msgspec

    from agents.engine.attempt import Attempt
    from app.names import Names
    from app.rules.routing import Routes


class SplitOutputs:
    """Makes the records of the tasks that objects are split into, by the settings of one worker."""

    def __init__(self, names: Names, routes: Routes, *, max_task_count: int) -> None:
        self._names = names
        self._routes = routes
        self._max_task_count = max_task_count

    def records(self, attempt: Attempt, pieces: msgspec.Raw, at_ms: int) -> list[Outgoing]:
        """Return the records for the items of a split; raises `Reject` if they are too many."""
        found = decode_items(pieces)
        split, count = attempt.task, len(found)
        if count > self._max_task_count:
            raise Reject(
                f"the split {attempt.loaded.name} returned {count:,} items, at most {self._max_task_count:,} are "
                "allowed (EBS_MAX_TASKS_PER_OBJECT)"
            )
        wanted = tasks_of_items(found, split.name, at_ms, key=split.key)
        copied_bytes = copied_bytes_of(wanted)
        if copied_bytes > MAX_COPIED_BYTES:
            raise Reject(
                f"the {count:,} items of the split {attempt.loaded.name} have {copied_bytes:,} bytes with their names, "
                f"at most {MAX_COPIED_BYTES:,} are allowed: an item without a name has that of the object, so give the "
                "items shorter ones"
            )
        made = tasks_of(
            Owner(split.object_id, split.object_partition, split.kind, split.depth),
            wanted,
            joins=attempt.loaded.joins,
            at_ms=at_ms,
        )
        headers = [] if attempt.traced is None else attempt.traced.headers
        return [
            *(
                Outgoing(*self._routes.of(request), request.task_id.encode(), encode(request), headers)
                for request in made.requests
            ),
            Outgoing(self._names.task_events, split.object_partition, attempt.key, encode(made.fact)),
        ]
