"""What goes in and out over HTTP about control and workers (see `api.server.schemas`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.server.schemas import EpochMs, Kind, MaybeEpochMs, Ms, ObjectLinks, ViewAnswer  # noqa: TC001  # pydantic reads them
from app.rules.commands import MAX_CONCURRENCY, MAX_PER_S

Role = Literal["distribution", "processing", "statistics"]
Worker = Annotated[str, Field(min_length=1, max_length=240, pattern=r"^[A-Za-z0-9._-]+$")]
Reason = Annotated[
    str, Field(max_length=500, description="Shown to people, and written to the events of cancelled tasks")
]
TaskId = Annotated[str, Field(min_length=1, max_length=220)]


class _Asked(BaseModel):
    """A request body. Unknown fields are refused, so that a typing error does not go unnoticed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PauseAsked(_Asked):
    """Pause all kinds, or one kind."""

    kind: Kind | None = Field(None, description="Default: all kinds")
    reason: Reason = ""


class ResumeAsked(_Asked):
    """Undo the pause of all kinds, or of one kind. Each is undone separately."""

    kind: Kind | None = Field(None, description="Default: the pause of all kinds")


class RateAsked(_Asked):
    """How many tasks may start per second."""

    per_s: float = Field(gt=0, le=MAX_PER_S, allow_inf_nan=False, description="Tasks per second in the whole system")


class ConcurrencyAsked(_Asked):
    """How many tasks a worker runs at once."""

    count: int = Field(ge=1, le=MAX_CONCURRENCY)
    worker: Worker | None = Field(None, description="Default: all workers without a number of their own")


class CancelAsked(_Asked):
    """One task, or all tasks of a kind (or of all kinds) that were created before an instant."""

    task_id: TaskId | None = None
    kind: Kind | None = None
    created_before_ms: int | None = Field(
        None, ge=0, description="UTC epoch milliseconds, exclusive. With a kind the default is now"
    )
    reason: Reason = ""


class Stated(BaseModel):
    """Time and reason of a command."""

    at_ms: EpochMs
    reason: str


class PauseOfKind(Stated):
    """Time and reason of a kind's pause, and whether a breaker paused it."""

    breaker: str | None = Field(None, description="The worker whose breaker paused the kind; null: a person paused it")


class CancelInForce(Stated):
    """One cancel. Only the fields of what it cancels are set; the others are null."""

    key: str = Field(examples=["cancel:object:7f3a"])
    object_id: str | None
    task_id: str | None
    kind: str | None
    created_before_ms: int | None


class InForce(BaseModel):
    """All commands in force."""

    paused: Stated | None = Field(description="The pause of all kinds")
    paused_kinds: dict[str, PauseOfKind]
    rates: dict[str, float] = Field(description="Tasks per second by kind")
    concurrency: int | None = Field(description="Override for all workers; null: EBS_CONCURRENCY of each worker")
    concurrency_of_workers: dict[str, int]
    draining: dict[str, Stated] = Field(description="By worker")
    cancel_count: int
    cancels: list[CancelInForce] = Field(description="The newest 100 cancels")


class ControlAnswer(InForce):
    """All commands that are in force now."""

    view: ViewAnswer


class CommandAccepted(BaseModel):
    """Kafka has stored the command. Workers apply it within a second; stopped workers apply it when they start."""

    key: str = Field(description="Key of the command on the topic `control`", examples=["pause:mail"])
    status: Literal["accepted"]
    seen: bool = Field(
        description="Whether this process has read the command back; if false, `control` is older than the command"
    )
    warnings: list[str] = Field(description="Likely mistakes, such as a kind that no task has")
    control: InForce


class CancelAccepted(BaseModel):
    """Kafka has stored the cancel: waiting tasks of the object never start, and running ones are cancelled."""

    id: str
    status: Literal["CANCELLING"]
    seen: bool
    links: ObjectLinks


class RunningTask(BaseModel):
    """A task that is running now."""

    task_id: str
    for_ms: Ms
    progress: float | None = Field(description="0 to 1, as reported by the handler; null: not reported")
    message: str


class RetryTierAnswer(BaseModel):
    """Retries of one tier in a worker's memory. More than 10,000 per partition wait on the topic instead."""

    topic: str
    waiting_count: int
    next_due_at_ms: MaybeEpochMs


class HeldUpAnswer(BaseModel):
    """A kind whose waiting tasks block partitions: tasks behind them cannot start."""

    kind: str
    why: Literal["paused", "rate", "order"]
    waiting_count: int
    partitions: list[int]


class WorkerAnswer(BaseModel):
    """A live worker, as its last heartbeat says."""

    worker: str
    role: str
    at_ms: EpochMs
    started_at_ms: EpochMs
    partitions: list[int]
    in_flight: int
    oldest_running_ms: int | None
    last_progress_at_ms: MaybeEpochMs
    draining: bool
    version: str
    host: str
    pid: int
    running: list[RunningTask] = Field(description="The 20 tasks that have been running longest")
    retry_tiers: list[RetryTierAnswer] = Field(description="Only of processing workers")
    abandoned: int = Field(
        description="Handlers that did not stop when asked to; each still occupies a slot of the pool"
    )
    held_up: list[HeldUpAnswer] = Field(description="Kinds that block partitions because they are paused or limited")
    standing_still: str = Field(
        description="Why the worker makes no progress; it will exit soon. Empty: it makes progress"
    )
    refused: str = Field(description="Partitions that the broker cannot read. Empty: it reads all")


class WorkerList(BaseModel):
    """Workers by role and name. A worker without a heartbeat for 10 s is left out."""

    namespace: str = Field(description="EBS_NAMESPACE of this system; empty if unset")
    workers: list[WorkerAnswer]
    view: ViewAnswer
