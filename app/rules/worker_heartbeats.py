"""What workers say of themselves on `workers`, and when one counts as gone.

The key is `<role>/<worker>` (one EBS_WORKER_ID may serve a worker of each role on a machine), for workers of another
queue than the default one `<role>.<queue>/<worker>`; the value is JSON; a
tombstone says that the worker stopped as it should. Times are UTC epoch milliseconds, durations milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from app.events import MAX_INSTANT_MS, Instant, Ordinal, TaskId
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable

HEARTBEAT_EVERY_S = 2.0
GONE_AFTER_MS = 10_000
"""Five heartbeats: a worker that is busy for a moment is not gone, one that was killed soon is."""
MAX_RUNNING_SHOWN = 20
_MAX_MESSAGE_CHARS = 200
_MAX_REFUSED_CHARS = 2_000


Name = Annotated[str, Meta(max_length=1_000)]
Figure = Annotated[int, Meta(ge=-MAX_INSTANT_MS, le=MAX_INSTANT_MS)]
"""A count or a duration; bounded, as it is shown by all who read heartbeats."""


class RunningTask(msgspec.Struct, frozen=True, gc=False):
    """A task whose handler runs now, for how long, and what it last said of its progress (0 to 1)."""

    task_id: TaskId
    for_ms: Figure
    progress: float | None = None
    message: str = ""


WAITING_REASONS = ("retry", "delay", "paused", "rate", "concurrency", "key")


class WaitingCount(msgspec.Struct, frozen=True, gc=False):
    """How many tasks wait in the partitions of a worker for a reason, and when the first of them is due.

    `reason` is one of `WAITING_REASONS`. Only what waits for its time ("retry": an attempt has failed; "delay": the
    object asks for it) is due at some time. The others wait for their kind ("paused", "rate", "concurrency") or for
    other tasks of their key ("key").
    """

    reason: Name
    waiting_count: Figure
    next_due_at_ms: Instant | None = None


class WorkerFigures(msgspec.Struct, frozen=True, gc=False):
    """How a worker of any role is doing; `last_progress_at_ms` is when it last committed or finished something.

    `abandoned`: handlers that did not end when they had to and run on; each takes a place of the worker's concurrency.
    `standing_still`: what the watchdog has found, after which the worker soon ends; "" if nothing. `refused`: which
    partitions the broker cannot read; "" if it reads all.
    """

    partitions: list[int] = []
    in_flight: int = 0
    oldest_running_ms: int | None = None
    last_progress_at_ms: int | None = None
    draining: bool = False
    running: list[RunningTask] = []
    waiting: list[WaitingCount] = []
    abandoned: int = 0
    standing_still: str = ""
    refused: str = ""


class WorkerIdentity(msgspec.Struct, frozen=True, gc=False):
    """What a worker's life does not change."""

    worker: str
    role: str
    version: str
    host: str
    pid: int
    started_at_ms: int
    queue: str = ""

    def key(self) -> bytes:
        """Return the key of its records."""
        return f"{shown_role(self.role, self.queue, '.')}/{self.worker}".encode()


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """A worker is alive: its state, sent on `workers`."""

    worker: Name
    role: Name
    at_ms: Instant
    started_at_ms: Instant
    partitions: Annotated[list[Ordinal], Meta(max_length=1_000)] = []
    in_flight: Figure = 0
    oldest_running_ms: Figure | None = None
    last_progress_at_ms: Instant | None = None
    draining: bool = False
    version: Name = ""
    host: Name = ""
    pid: Figure = 0
    running: Annotated[
        list[RunningTask], Meta(max_length=1_000, description="The 20 tasks that have been running longest")
    ] = []
    waiting: Annotated[list[WaitingCount], Meta(max_length=1_000, description="Only of processing workers")] = []
    abandoned: Annotated[
        Figure, Meta(description="Handlers that did not stop when asked to; each still occupies a slot of the pool")
    ] = 0
    standing_still: Annotated[
        str,
        Meta(
            max_length=2_000,
            description="Why the worker makes no progress; it will exit soon. Empty: it makes progress",
        ),
    ] = ""
    refused: Annotated[
        str,
        Meta(max_length=_MAX_REFUSED_CHARS, description="Partitions that the broker cannot read. Empty: it reads all"),
    ] = ""
    queue: Annotated[Name, Meta(description="The queue whose tasks it runs. Empty: it runs no tasks")] = ""


def shown_role(role: str, queue: str, separator: str = " ") -> str:
    """Return a worker's role, with its queue if that is not the default one."""
    return role if queue in {"", DEFAULT_QUEUE} else f"{role}{separator}{queue}"


def waiting_of(told: Iterable[WaitingCount]) -> list[WaitingCount]:
    """Return each reason once, from what is said of parts: of workers, or of partitions."""
    by_reason: dict[str, WaitingCount] = {}
    for one in told:
        known = by_reason.get(one.reason)
        if known is not None:
            dues = [due for due in (known.next_due_at_ms, one.next_due_at_ms) if due is not None]
            total = known.waiting_count + one.waiting_count
            one = WaitingCount(one.reason, total, min(dues, default=None))  # noqa: PLW2901
        by_reason[one.reason] = one
    return list(by_reason.values())


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Heartbeat).decode


def heartbeat_of(identity: WorkerIdentity, figures: WorkerFigures, at_ms: int) -> bytes:
    """Return the value to write: the tasks that run longest, each with a bounded message."""
    longest = sorted(figures.running, key=lambda task: -task.for_ms)[:MAX_RUNNING_SHOWN]
    shown = [msgspec.structs.replace(task, message=_printable(task.message)) for task in longest]
    refused = figures.refused[:_MAX_REFUSED_CHARS]
    fields: dict[str, Any] = msgspec.structs.asdict(figures) | msgspec.structs.asdict(identity)
    return _encode(Heartbeat(**(fields | {"at_ms": at_ms, "running": shown, "refused": refused})))


def _printable(message: str) -> str:
    # Half of a character, from a handler, cannot be encoded: the heartbeat would fail, and the worker count as gone.
    return message[:_MAX_MESSAGE_CHARS].encode("utf-8", "backslashreplace").decode()


def decode_heartbeat(value: bytes) -> Heartbeat | None:
    """Return what a worker said; None for bytes that say nothing, which are nobody's heartbeat."""
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_gone(heard_at_ms: int, now_ms: int) -> bool:
    """Return whether a worker that was last heard at an instant counts as gone."""
    return now_ms - heard_at_ms > GONE_AFTER_MS
