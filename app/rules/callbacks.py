"""The callback of an object's end: a task of its own that sends the end event to the object's `callback_url`.

A callback is not part of the object: an object whose callback is dead is still FINISHED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from app.events import CALLBACK_KIND, CALLBACK_SEQUENCE, encode, task_id_of
from app.rules.ledger_rows import redrive_count_of, task_of
from app.rules.ledger_states import TaskState, state_of_task
from app.rules.new_tasks import Owner, task_with_role

if TYPE_CHECKING:
    from app.events import ObjectEnd
    from app.rules.ledger_rows import ObjectRow
    from app.rules.new_tasks import NewTasks

MAX_CALLBACKS = 1_000
"""Maximum number of callbacks of an object: its row has no room for more. Later ends are not sent."""
CallbackState = Literal["waiting", "delivered", "retrying", "dead", "cancelled"]
"""Where an object's callback stands. It waits until the object has ended, and until its first attempt has ended."""


class Callback(msgspec.Struct, frozen=True):
    """The content of a callback's request: the URL, and the end event as on `object-events`."""

    url: str
    event: msgspec.Raw


decode_callback = msgspec.json.Decoder(Callback).decode
"""Read the content of a callback's request."""


def url_of(row: ObjectRow) -> str:
    """Return where the ends of an object are sent, "" if nowhere."""
    return "" if row.about is None else row.about.callback_url


def is_due(row: ObjectRow) -> bool:
    """Return whether an end of an object is to be sent."""
    return url_of(row) != "" and len(row.callbacks or ()) < MAX_CALLBACKS


def callback_of(end: ObjectEnd, url: str, object_partition: int, at_ms: int) -> NewTasks:
    """Return the callback of an end. It has the number of the end, so a repeated request is for the same task."""
    return task_with_role(
        Owner(end.object_id, object_partition, CALLBACK_KIND),
        CALLBACK_SEQUENCE + end.end - 1,
        msgspec.Raw(encode(Callback(url, msgspec.Raw(encode(end))))),
        at_ms=at_ms,
    )


def callback_sequence_of(row: ObjectRow) -> int:
    """Return the sequence of the callback of an object's latest end, or of its next end if it has not ended."""
    return CALLBACK_SEQUENCE + redrive_count_of(row)


def state_of_callback(row: ObjectRow) -> CallbackState:
    """Return where the callback of an object's latest end stands."""
    task = task_of(row, callback_sequence_of(row))
    if task is None:
        return "waiting"
    state = state_of_task(task)
    if state is TaskState.IN_PROGRESS and task.failed:
        return "retrying"
    return _STATES.get(state, "waiting")


def describe_callback(object_id: str, row: ObjectRow, error: str) -> dict[str, Any] | None:
    """Return the callback of an object's latest end as people read it, None if the object has none.

    `error` is the last one of its task.
    """
    url = url_of(row)
    if not url:
        return None
    sequence = callback_sequence_of(row)
    task = task_of(row, sequence)
    return {
        "url": url,
        "state": state_of_callback(row),
        "task_id": task_id_of(object_id, sequence),
        "attempts": 0 if task is None else task.started.bit_count(),
        "error": error or None,
    }


_STATES: dict[TaskState, CallbackState] = {
    TaskState.FINISHED: "delivered",
    TaskState.RETRYING: "retrying",
    TaskState.DEAD: "dead",
    TaskState.CANCELLED: "cancelled",
}
