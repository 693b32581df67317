"""What people see of a waiting task: which task it is, why it waits, and when it is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from app.rules.waiting_rows import MAX_ERROR_CHARS, TIMED_REASONS, decode_row, due_at_ms_of, reason_of

if TYPE_CHECKING:
    from typing import Self


class WaitingSummary(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A waiting task. `due_at_ms` is 0 for a row in a line; `since_ms` is 0 if it is not known.

    `error` is the error of the last attempt, "" before the first attempt.
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
    """The fields of a request that are shown; the content, which may be large, is not decoded."""

    task_id: str
    object_id: str
    kind: str
    attempt: int = 1
    first_error: str | UnsetType = UNSET


_decode_request = msgspec.json.Decoder(_Request).decode


def summary_of(key: bytes, value: bytes) -> WaitingSummary | None:
    """Return the summary of a row, None if its request cannot be read."""
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
    """A filter for waiting tasks: a task must match all conditions; None matches every task."""

    kind: str | None = None
    reason: str | None = None
    object_id: str | None = None

    @classmethod
    def of(cls, asked: object) -> Self:
        """Return the filter in a query or a body, which has fields with the same names."""
        return msgspec.convert(asked, cls, from_attributes=True)

    def takes(self, task: WaitingSummary) -> bool:
        """Return whether a task matches."""
        return (
            self.kind in {None, task.kind}
            and self.reason in {None, task.reason}
            and self.object_id in {None, task.object_id}
        )


def why_not_started(kind: str, reason: str) -> str:
    """Return why a command cannot start tasks that wait in a line, for their kind or key, and what to do instead."""
    if reason == "kind":
        why = f"kind {kind} is paused or at a limit (see `ebs control`)"
        what_to_do = f"`ebs resume --kind {kind}` ends a pause, `ebs limit {kind}` sets limits"
    else:
        why, what_to_do = "others wait for tasks of their key", "they start when these have ended"
    return f"only retries and delayed tasks can be started now; {why}: {what_to_do}"
