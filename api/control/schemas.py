"""What goes in and out over HTTP about control and workers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from api.server.documented import Documented, RequestBody, field_of
from api.server.schemas import EpochMs, Kind, ViewAnswer
from app import events
from app.rules.commands import Concurrency, Limit, PerS
from app.rules.worker_heartbeats import Heartbeat

Role = Literal["distribution", "processing", "statistics"]
_WORKER = Meta(min_length=1, max_length=240, pattern=r"^[A-Za-z0-9._-]+\Z")
_REASON = Meta(max_length=500, description="Shown to people, and written to the events of cancelled tasks")

Worker = Annotated[str, _WORKER, field_of(_WORKER)]
Reason = Annotated[str, _REASON, field_of(_REASON)]


class PauseAsked(RequestBody, frozen=True):
    """Pause all kinds, or one kind."""

    kind: Annotated[Kind | None, Meta(description="Default: all kinds")] = None
    reason: Reason = ""


class ResumeAsked(RequestBody, frozen=True):
    """Undo the pause of all kinds, or of one kind. Each is undone separately."""

    kind: Annotated[Kind | None, Meta(description="Default: the pause of all kinds")] = None


class RateAsked(RequestBody, frozen=True):
    """How many tasks may start per second."""

    per_s: Annotated[PerS, Meta(description="Tasks per second in the whole system")]


class LimitsAsked(RequestBody, frozen=True):
    """How many tasks of a kind run at once. What is left out is as the project says."""

    concurrency: Annotated[
        Limit | None, Meta(description="Tasks of the kind that run at once, in the whole system")
    ] = None
    per_key: Annotated[
        Limit | None, Meta(description="Tasks of one key that run at once, in the whole system; 1: one after another")
    ] = None


class ConcurrencyAsked(RequestBody, frozen=True):
    """How many tasks a worker runs at once."""

    count: Concurrency
    worker: Annotated[Worker | None, Meta(description="Default: all workers without a number of their own")] = None


class CancelAsked(RequestBody, frozen=True):
    """One task, or all tasks of a kind (or of all kinds) that were created before an instant."""

    task_id: events.TaskId | None = None
    kind: Kind | None = None
    created_before_ms: Annotated[
        events.Instant | None, Meta(description="UTC epoch milliseconds, exclusive. With a kind the default is now")
    ] = None
    reason: Reason = ""


class Stated(Documented, frozen=True, kw_only=True):
    """Time and reason of a command."""

    at_ms: EpochMs
    reason: str


class PauseOfKind(Stated, frozen=True, kw_only=True):
    """Time and reason of a kind's pause, and whether a breaker paused it."""

    breaker: Annotated[
        str | None, Meta(description="The worker whose breaker paused the kind; left out: a person paused it")
    ] = None


class CancelInForce(Stated, frozen=True, kw_only=True):
    """One cancel. Only the fields of what it cancels are set; the others are null."""

    key: Annotated[str, Meta(examples=["cancel:object:7f3a"])]
    object_id: str | None
    task_id: str | None
    kind: str | None
    created_before_ms: int | None


class LimitsInForce(Documented, frozen=True, kw_only=True):
    """How many tasks of a kind run at once; null: as the project says."""

    concurrency: int | None
    per_key: int | None


class InForce(Documented, frozen=True, kw_only=True):
    """All commands in force."""

    paused: Annotated[Stated | None, Meta(description="The pause of all kinds")]
    paused_kinds: dict[str, PauseOfKind]
    rates: Annotated[dict[str, float], Meta(description="Tasks per second by kind")]
    limits: Annotated[dict[str, LimitsInForce], Meta(description="Tasks at once by kind")]
    concurrency: Annotated[
        int | None, Meta(description="Override for all workers; null: EBS_CONCURRENCY of each worker")
    ]
    concurrency_of_workers: dict[str, int]
    draining: Annotated[dict[str, Stated], Meta(description="By worker")]
    cancel_count: int
    cancels: Annotated[list[CancelInForce], Meta(description="The newest 100 cancels")]


class LimitsOfProject(Documented, frozen=True, kw_only=True):
    """The limits that the project gives the tasks of a kind; null: none. A command overrides each for itself."""

    rate_per_s: float | None
    concurrency: int | None
    per_key: int | None


class ControlAnswer(InForce, frozen=True, kw_only=True):
    """All commands that are in force now, and the limits of the project."""

    project_limits: Annotated[
        dict[str, LimitsOfProject], Meta(description="By kind; `*` stands for each kind that is not listed")
    ]
    view: ViewAnswer


class CommandAccepted(Documented, frozen=True, kw_only=True):
    """Kafka has stored the command. Workers apply it within a second; stopped workers apply it when they start."""

    key: Annotated[str, Meta(description="Key of the command on the topic `control`", examples=["pause:mail"])]
    status: Literal["accepted"]
    seen: Annotated[
        bool,
        Meta(description="Whether this process has read the command back; if false, `control` is older than it"),
    ]
    warnings: Annotated[list[str], Meta(description="Likely mistakes, such as a kind that no task has")]
    control: InForce


class QueueAnswer(Documented, frozen=True, kw_only=True):
    """A queue: the kinds whose tasks it has, its running workers, and its tasks by state."""

    name: str
    topic: Annotated[str, Meta(description="Topic of its requests")]
    kinds: Annotated[list[str], Meta(description="Kinds that have functions, and others that were ever seen")]
    workers_count: Annotated[int, Meta(description="Workers with a heartbeat within 10 s")]
    in_flight: Annotated[int, Meta(description="Tasks that these workers run now")]
    tasks_queued: int
    tasks_in_progress: int
    tasks_waiting_retry: int


class QueueList(Documented, frozen=True):
    """Queues that kinds have or workers work, the default queue first."""

    queues: list[QueueAnswer]
    view: ViewAnswer


class WorkerList(Documented, frozen=True):
    """Workers by role and name. A worker without a heartbeat for 10 s is left out."""

    namespace: Annotated[str, Meta(description="EBS_NAMESPACE of this system; empty if unset")]
    workers: list[Heartbeat]
    view: ViewAnswer
