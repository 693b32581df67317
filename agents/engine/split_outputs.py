"""What leaves with the end of a split: the requests of the object's tasks, and the fact that they exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.events import TaskCreated, TasksCreated, encode, task_id_of, tasks_created_id
from app.rules.outgoing import Outgoing
from ebs.errors import Reject

if TYPE_CHECKING:
    from agents.engine.attempt import Attempt
    from app.names import Names


class Piece(msgspec.Struct, gc=False):
    """One item as `ebs.pieces` writes it."""

    content: msgspec.Raw
    name: str | None = None


_decode = msgspec.json.Decoder(list[Piece]).decode


class SplitOutputs:
    """Makes the records of the tasks that objects are split into, by the settings of one worker."""

    def __init__(self, names: Names, *, partition_count: int, max_task_count: int, spread: bool) -> None:
        self._names = names
        self._partition_count = partition_count
        self._max_task_count = max_task_count
        self._spread = spread

    def records(self, attempt: Attempt, pieces: msgspec.Raw, at_ms: int) -> list[Outgoing]:
        """Return the records for the items of a split; raises `Reject` if they are too many."""
        found = _decode(pieces)
        split, count = attempt.task, len(found)
        if count > self._max_task_count:
            raise Reject(
                f"the split {attempt.loaded.name} returned {count:,} items, at most {self._max_task_count:,} are "
                "allowed (EBS_MAX_TASKS_PER_OBJECT)"
            )
        object_id, partition, kind = split.object_id, split.object_partition, split.kind
        headers = [] if attempt.traced is None else attempt.traced.headers
        made = [
            self._outgoing(_request(split, sequence, count, piece, at_ms=at_ms), headers)
            for sequence, piece in enumerate(found)
        ]
        joins = attempt.loaded.joins or msgspec.UNSET
        fact = TasksCreated(
            tasks_created_id(object_id),
            object_id,
            partition,
            kind,
            0,
            count,
            count,
            at_ms,
            joins=joins,
        )
        return [*made, Outgoing(self._names.task_events, partition, attempt.key, encode(fact))]

    def _outgoing(self, request: TaskCreated, headers: list[tuple[str, bytes]]) -> Outgoing:
        partition = (request.object_partition + request.sequence * self._spread) % self._partition_count
        return Outgoing(self._names.task_requests, partition, request.task_id.encode(), encode(request), headers)


def _request(split: TaskCreated, sequence: int, count: int, piece: Piece, *, at_ms: int) -> TaskCreated:
    task_id = task_id_of(split.object_id, sequence)
    return TaskCreated(
        f"c-{task_id}",
        split.object_id,
        task_id,
        split.object_partition,
        split.kind,
        sequence,
        count,
        1,
        at_ms,
        name=split.name if piece.name is None else piece.name,
        content=piece.content,
    )
