"""An object whose events a test writes one by one, as workers do; the ledger's rows follow."""

from __future__ import annotations

import msgspec
from fake_steps import no_rows
from plain_names import TASK_EVENTS, TASK_REQUESTS

from app.events import (
    ObjectCreated,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    encode,
    role_of,
    task_id_of,
)
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.placement import partition_of
from app.rules.results import Results
from app.rules.tally import Tally

NOW_MS = 1_795_489_276_303
AT_MS = NOW_MS - 100_000
PARTITIONS = 4
CAUSE = {"error_type": "ValueError", "fingerprint": "f"}


class TaskStory:
    """An object whose events a test writes; the ledger's rows follow at `count`."""

    def __init__(self, api, object_id: str = "a1", **fields) -> None:
        self.api, self.id = api, object_id
        self.partition = partition_of(object_id.encode(), PARTITIONS)
        record = ObjectCreated(**{"object_id": object_id, "at_ms": AT_MS, "kind": "mail", "name": "report"} | fields)
        self.kind = record.kind
        self.row, self.results = ObjectRow(), Results(no_rows)
        apply_object_created(self.row, record, Tally())
        api.topics.write_object(record)
        self.task_count = record.asked_tasks or 1

    def common(self, sequence: int, attempt: int, at_ms: int) -> tuple:
        """Return the fields that all events of a task have."""
        task_id = task_id_of(self.id, sequence)
        return (self.id, task_id, self.partition, self.kind, sequence, self.task_count, attempt, AT_MS + at_ms)

    def write(self, *events) -> None:
        """Write events, and let the ledger count them."""
        for event in events:
            self.api.topics.write(
                TASK_EVENTS, self.partition, self.id.encode(), encode(event), timestamp_ms=event.at_ms
            )
            apply_task_event(self.row, event, Tally(), self.results)
        self.api.topics.write_row(self.id, self.row, self.partition, self.results)

    def made(self, first: int = 0, count: int = 1, at_ms: int = 10, **more) -> None:
        """Create tasks."""
        fact = TasksCreated(
            f"c{first}", self.id, self.partition, self.kind, first, count, self.task_count, AT_MS + at_ms
        )
        self.write(msgspec.structs.replace(fact, **more))

    def ask(
        self, sequence: int, content: bytes, partition: int, at_ms: int = 10, *, topic: str = TASK_REQUESTS, **more
    ) -> None:
        """Write a task's request."""
        common = self.common(sequence, 1, at_ms)
        request = TaskCreated("c", *common, role=role_of(sequence), content=msgspec.Raw(content), **more)
        key = task_id_of(self.id, sequence).encode()
        self.api.topics.write(topic, partition, key, encode(request), timestamp_ms=AT_MS + at_ms)

    def fail(self, sequence: int, attempt: int, at_ms: int, *, due_at_ms: int | None = None, redrive: int = 0) -> None:
        """Start an attempt and let it fail: for good, or until the next one is due."""
        common = self.common(sequence, attempt, at_ms + 50)
        failure = (*common, "w-1", 10, 50, f"ValueError: no {attempt}", redrive or msgspec.UNSET)
        name = f"{sequence}-{attempt}-{redrive}"
        start = TaskStarted(f"s{name}", *self.common(sequence, attempt, at_ms), "w-1", 10, failure[-1])
        failed = TaskFailed(f"x{name}", *failure, **CAUSE, stack_trace=f"Traceback {attempt}")
        if due_at_ms is None:
            self.write(start, failed, TaskDead(f"d{name}", *failure, **CAUSE))
        else:
            self.write(start, failed, TaskRetried(f"t{name}", *failure, **CAUSE, due_at_ms=AT_MS + due_at_ms))

    def finish(self, sequence: int, attempt: int, at_ms: int, result: bytes = b"7") -> None:
        """Start an attempt and let it finish."""
        role = role_of(sequence)
        start = TaskStarted(f"s{sequence}-{attempt}", *self.common(sequence, attempt, at_ms), "w-2", 5, role=role)
        common = self.common(sequence, attempt, at_ms + 200)
        self.write(start, TaskFinished(f"f{sequence}", *common, "w-2", 5, 200, msgspec.Raw(result), role=role))

    def get(self, task: object, status: int = 200) -> dict:
        """GET a task."""
        answer = self.api.get(f"/api/objects/{self.id}/tasks/{task}")
        assert status == answer.status_code, answer.text
        return answer.json()
