"""One example of each record, made with the code that makes the real ones: one object's life, seen on the topics."""

from __future__ import annotations

from typing import Any

import msgspec

from app.events import (
    CancelledObject,
    FailedObject,
    FinishedObject,
    ObjectCreated,
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    object_created_id,
    task_id_of,
    tasks_created_id,
)
from app.names import BARE
from app.rules.commands import (
    Cancel,
    CancelWaiting,
    Drain,
    EndSession,
    LimitKind,
    LimitRate,
    Pause,
    SetConcurrency,
    StartTask,
    StartWaiting,
)
from app.rules.dead_letters import Origin, dead_letter_headers, event_stack_of
from app.rules.fingerprint import fingerprint
from app.rules.idempotency import object_id_of
from app.rules.letter_acts import LetterAct
from app.rules.schedules import Schedule
from app.rules.waiting_rows import timed_key
from app.rules.worker_heartbeats import Heartbeat, RunningTask
from app.topics.ownership import TopicClaim

_AT_MS = 1_795_489_276_303
_ERROR = ValueError("page 17 of the report is not there")
OBJECT_ID = object_id_of("order-17")
TASK_ID = task_id_of(OBJECT_ID, 0)

_TASK = (OBJECT_ID, TASK_ID, 3, "mail", 0, 3)
_FAILURE = (1, _AT_MS + 3_020, "processing-1", 12, 3_001, f"ValueError: {_ERROR}")
_END = (OBJECT_ID, "mail", _AT_MS + 3_020, _AT_MS)
_CAUSE: dict[str, Any] = {"error_type": "ValueError", "fingerprint": fingerprint("ValueError", str(_ERROR))}

_CONTENT = msgspec.Raw(b'{"day":"2026-11-24"}')
REQUEST = TaskCreated(f"c-{TASK_ID}", *_TASK, 1, _AT_MS + 7, name="report", content=_CONTENT)
RECORDS: tuple[msgspec.Struct, ...] = (
    ObjectCreated(
        id=object_created_id(OBJECT_ID),
        object_id=OBJECT_ID,
        kind="mail",
        task_count=3,
        name="report",
        content=_CONTENT,
        at_ms=_AT_MS,
    ),
    REQUEST,
    TasksCreated(tasks_created_id(OBJECT_ID), OBJECT_ID, 3, "mail", 0, 3, 3, _AT_MS + 7),
    TaskStarted(f"s-{TASK_ID}-1", *_TASK, 1, _AT_MS + 19, "processing-1", 12),
    TaskFinished(f"f-{TASK_ID}-1", *_TASK, 1, _AT_MS + 3_020, "processing-1", 12, 3_001, msgspec.Raw(b'{"pages":17}')),
    TaskFailed(f"x-{TASK_ID}-1", *_TASK, *_FAILURE, **_CAUSE, stack_trace=event_stack_of(_ERROR)),
    TaskRetried(f"r-{TASK_ID}-1", *_TASK, *_FAILURE, **_CAUSE, due_at_ms=_AT_MS + 4_140),
    TaskDead(f"d-{TASK_ID}-5", *_TASK, 5, *_FAILURE[1:], **_CAUSE),
    TaskCancelled(f"k-{TASK_ID}", *_TASK, 1, _AT_MS + 900),
    FinishedObject(f"e-{OBJECT_ID}-1", *_END, 3, 3, 0, 0, 1, msgspec.Raw(b'{"pages":51}')),
    FailedObject(f"e-{OBJECT_ID}-1", *_END, 3, 2, 1, 0, 1),
    CancelledObject(f"e-{OBJECT_ID}-1", *_END, 3, 2, 0, 1, 1),
    Pause(_AT_MS, "the mail server is being moved"),
    LimitRate("mail", 20.0, _AT_MS),
    LimitKind("mail", 50, 1, _AT_MS),
    SetConcurrency(128, _AT_MS),
    Cancel(object_id=OBJECT_ID, at_ms=_AT_MS, reason="sent by mistake"),
    Drain(_AT_MS, "is to be moved"),
    CancelWaiting(_AT_MS, kind="mail", reason="retry"),
    StartTask(TASK_ID, 3, timed_key(_AT_MS + 3_600_000, 17, 1), _AT_MS),
    StartWaiting(_AT_MS, kind="mail"),
    EndSession(_AT_MS + 43_200_000, _AT_MS),
    Schedule(
        name="nightly-report",
        cron="30 6 * * 1-5",
        time_zone="Europe/Berlin",
        kind="mail",
        content=_CONTENT,
        at_ms=_AT_MS,
    ),
    Heartbeat(
        worker="processing-1",
        role="processing",
        at_ms=_AT_MS,
        started_at_ms=_AT_MS - 60_000,
        partitions=[0, 1, 2, 3],
        in_flight=1,
        oldest_running_ms=1_200,
        last_progress_at_ms=_AT_MS - 40,
        version="0.1.0",
        host="worker-a",
        pid=4_711,
        running=[RunningTask(TASK_ID, 1_200, 0.5, "page 9 of 17")],
    ),
    TopicClaim("5d1f0c52a9b04c1e8f6a3b7d2c4e9f10", _AT_MS - 86_400_000),
    LetterAct(_AT_MS + 60_000, "ann", "the page is there now", redrive=1),
)

LETTER_HEADERS = {
    name: value.decode("utf-8", "replace")
    for name, value in dead_letter_headers(
        Origin(BARE.task_requests, 3, 1_234, _AT_MS), _ERROR, attempts=5, headers=(), task=REQUEST
    )
}


def payload_of(record: msgspec.Struct) -> Any:
    """Return a record's value as it is read from the topic."""
    return msgspec.json.decode(msgspec.json.encode(record))
