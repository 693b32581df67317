"""What people see of a waiting task: what it is, why it waits, and when it is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from app.rules.waiting_rows import MAX_ERROR_CHARS, TIMED_REASONS, decode_row, due_at_ms_of, reason_of

if TYPE_CHECKING:
    from typing import Self


class WaitingSummary(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A waiting task. `due_at_ms` is 0 if it does not wait for an instant; `since_ms` is 0 if it is not known.

    `error` is what the last attempt failed with, "" before the first attempt.
    """

    task_id: str
    object_id: str
    kind: str
    reason: str
    due_at_ms: int
    attempt: int
    since_ms: int
    error: str


class _Request(msgspec.Struct, gc=False):
    """The fields of a request that matter here; its content, which may be large, is not decoded."""

    task_id: str
    object_id: str
    kind: str
    attempt: int = 1
    first_error: str | UnsetType = UNSET


_decode_request = msgspec.json.Decoder(_Request).decode


def summary_of(key: bytes, value: bytes) -> WaitingSummary | None:
    """Return what is shown of a row; None of a request that cannot be read."""
    row = decode_row(value)
    try:
        task = _decode_request(row.value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    reason = reason_of(key)
    due_at_ms = due_at_ms_of(key) if reason in TIMED_REASONS else 0
    error = row.error or ("" if task.first_error is UNSET else task.first_error[:MAX_ERROR_CHARS])
    return WaitingSummary(task.task_id, task.object_id, task.kind, reason, due_at_ms, task.attempt, row.since_ms, error)


class WaitingFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which waiting tasks are meant: all conditions must hold; None: whatever."""

    kind: str | None = None
    reason: str | None = None
    object_id: str | None = None

    @classmethod
    def of(cls, asked: object) -> Self:
        """Return the filter of a query or a body that has fields of these names."""
        return msgspec.convert(asked, cls, from_attributes=True)

    def takes(self, task: WaitingSummary) -> bool:
        """Return whether a task matches."""
        return (
            self.kind in {None, task.kind}
            and self.reason in {None, task.reason}
            and self.object_id in {None, task.object_id}
        )


_WHAT_ENDS_THE_WAIT = {
    "kind": (
        "its kind, which is paused or at a limit: `ebs resume --kind {kind}` ends a pause, "
        "`ebs limit {kind}` sets limits"
    ),
    "key": "other tasks of its key: it starts when they have ended",
}


def why_not_started(kind: str, reason: str) -> str:
    """Return in words why what waits for this reason cannot be started by a command, and what to do instead."""
    what = _WHAT_ENDS_THE_WAIT.get(reason, f"{reason}, and not for its time")
    return f"only a retry or a delay can be started now, and this waits for {what.format(kind=kind)}"
