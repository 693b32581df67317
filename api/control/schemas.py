"""What goes in and out over HTTP about control and workers (see `api.server.schemas`)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.server.schemas import EpochMs, Kind, MaybeEpochMs, Ms, ObjectLinks, ViewAnswer  # noqa: TC001  # pydantic reads them
from app.rules.commands import MAX_CONCURRENCY, MAX_PER_S

Role = Literal["distribution", "processing", "statistics"]
Worker = Annotated[str, Field(min_length=1, max_length=240, pattern=r"^[A-Za-z0-9._-]+$")]
Reason = Annotated[str, Field(max_length=500, description="For people, and in the events of cancelled tasks")]
TaskId = Annotated[str, Field(min_length=1, max_length=220)]


class _Asked(BaseModel):
    """A body; unknown fields are refused, so that a typo is not lost."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PauseAsked(_Asked):
    """Start no task, or none of a kind."""

    kind: Kind | None = Field(None, description="Left out: all kinds")
    reason: Reason = ""


class ResumeAsked(_Asked):
    """Undo a pause; that of all and those of kinds are undone by themselves."""

    kind: Kind | None = Field(None, description="Left out: the pause of all kinds")


class RateAsked(_Asked):
    """How many tasks may start."""

    per_s: float = Field(gt=0, le=MAX_PER_S, allow_inf_nan=False, description="Tasks a second in the whole system")


class ConcurrencyAsked(_Asked):
    """How many tasks a worker works on at once."""

    count: int = Field(ge=1, le=MAX_CONCURRENCY)
    worker: Worker | None = Field(None, description="Left out: all workers that have no number of their own")


class CancelAsked(_Asked):
    """One task, or all tasks of a kind (or of all kinds) that were created before an instant."""

    task_id: TaskId | None = None
    kind: Kind | None = None
    created_before_ms: int | None = Field(
        None, ge=0, description="UTC epoch milliseconds, exclusive; left out beside a kind: now"
    )
    reason: Reason = ""


class Stated(BaseModel):
    """Since when, and why."""

    at_ms: EpochMs
    reason: str


class PauseOfKind(Stated):
    """Since when and why a kind is paused, and whether a worker's breaker did it."""

    breaker: str | None = Field(None, description="The worker that paused it as too many of its tasks died")


class CancelInForce(Stated):
    """One cancel; which of the fields are null depends on what it cancels."""

    key: str = Field(examples=["cancel:object:7f3a"])
    object_id: str | None
    task_id: str | None
    kind: str | None
    created_before_ms: int | None


class InForce(BaseModel):
    """All commands in force."""

    paused: Stated | None = Field(description="The pause of all kinds")
    paused_kinds: dict[str, PauseOfKind]
    rates: dict[str, float] = Field(description="Tasks a second by kind")
    concurrency: int | None = Field(description="Of all workers; null: as each is set (EBS_CONCURRENCY)")
    concurrency_of_workers: dict[str, int]
    draining: dict[str, Stated] = Field(description="By worker")
    cancel_count: int
    cancels: list[CancelInForce] = Field(description="The newest 100")


class ControlAnswer(InForce):
    """What is in force now."""

    view: ViewAnswer


class CommandAccepted(BaseModel):
    """The broker has the command; workers follow within a second, those that are away when they come back."""

    key: str = Field(description="What it rules", examples=["pause:mail"])
    status: Literal["accepted"]
    seen: bool = Field(description="Whether this process has read it back; `control` is from before if not")
    warnings: list[str] = Field(description="Possible mistakes, such as a kind that no task ever had")
    control: InForce


class CancelAccepted(BaseModel):
    """The broker has the cancel: none of the object's tasks starts any more, running ones are cancelled."""

    id: str
    status: Literal["CANCELLING"]
    seen: bool
    links: ObjectLinks


class RunningTask(BaseModel):
    """A task that a worker works on now."""

    task_id: str
    for_ms: Ms
    progress: float | None = Field(description="0 to 1, as its handler said; null: it said nothing")
    message: str


class RetryTierAnswer(BaseModel):
    """Retries of one tier that wait in a worker's memory; beyond 10,000 a partition they wait on the topic."""

    topic: str
    waiting_count: int
    next_due_at_ms: MaybeEpochMs


class HeldUpAnswer(BaseModel):
    """A kind that fills partitions with tasks which may not start, so that nothing behind them does."""

    kind: str
    why: Literal["paused", "rate", "order"]
    waiting_count: int
    partitions: list[int]


class WorkerAnswer(BaseModel):
    """A worker that lives, as it said last."""

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
    running: list[RunningTask] = Field(description="At most 20, those that run longest")
    retry_tiers: list[RetryTierAnswer] = Field(description="Of a worker that processes tasks")
    abandoned: int = Field(description="Handlers that did not end when they had to; each keeps a place of the worker")
    held_up: list[HeldUpAnswer] = Field(description="Partitions that a paused or slow kind holds up")
    standing_still: str = Field(description="Why the worker's work stands still; it ends soon. Empty: work moves")
    refused: str = Field(description="Partitions that the broker cannot read. Empty: it reads all")


class WorkerList(BaseModel):
    """Workers by role and name; who was silent for 10 s is not among them."""

    namespace: str = Field(description="EBS_NAMESPACE of this system; empty: none")
    workers: list[WorkerAnswer]
    view: ViewAnswer
