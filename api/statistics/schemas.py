"""What goes out over HTTP about statistics: the shapes of what `app.rules.counts` describes."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from api.server.documented import Documented
from api.server.schemas import EpochMs, ViewAnswer


class Spread(Documented, frozen=True):
    """Distribution of a duration in milliseconds. null: not measured yet."""

    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class FiguresAnswer(Documented, frozen=True, kw_only=True):
    """Counts of events, and durations. A task counts under the kind of its object."""

    objects_created: int
    objects_finished: int
    tasks_created: int
    tasks_started: int
    tasks_finished: int
    tasks_failed: Annotated[int, Meta(description="Attempts that failed")]
    tasks_retried: Annotated[int, Meta(description="Failed attempts that were retried")]
    tasks_died: Annotated[int, Meta(description="Tasks that became dead letters, including those redriven since")]
    tasks_cancelled: int
    time_spent_ms: Annotated[int, Meta(ge=0, description="Milliseconds")]
    late_events: Annotated[
        int,
        Meta(description="Events read more than EBS_WINDOW_GRACE_S after the end of their window; they are counted"),
    ]
    expired_events: Annotated[
        int, Meta(description="Events of objects that the ledger has forgotten; they are counted only here")
    ]
    queue_wait_ms: Spread
    work_time_ms: Spread
    object_time_ms: Spread


class FiguresOfKind(FiguresAnswer, frozen=True, kw_only=True):
    """The figures of one kind, and the states that its tasks are in now."""

    tasks_queued: int
    tasks_in_progress: int
    tasks_waiting_retry: int
    tasks_dead: Annotated[int, Meta(description="Tasks that are dead now: not redriven since they died")]
    imbalance: Annotated[
        int, Meta(description="Created tasks minus tasks in all states. Not 0: a task was lost or counted twice")
    ]


class StatisticsAnswer(FiguresOfKind, frozen=True, kw_only=True):
    """Totals since the start, of all kinds and by kind."""

    kinds: dict[str, FiguresOfKind]
    view: ViewAnswer


class WindowAnswer(FiguresAnswer, frozen=True, kw_only=True):
    """The figures of one tumbling window (start inclusive, end exclusive) of one kind."""

    start_ms: EpochMs
    end_ms: EpochMs
    size_s: int
    kind: str


class WindowList(Documented, frozen=True):
    """Windows, newest first."""

    windows: list[WindowAnswer]
    view: ViewAnswer


class Balance(Documented, frozen=True, kw_only=True):
    """Both sides of `tasks created = queued + in progress + waiting for retry + finished + dead + cancelled`."""

    holds: Annotated[bool, Meta(description="Whether both sides are equal")]
    imbalance: Annotated[
        int,
        Meta(description="Created tasks minus tasks in all states. Above 0: lost; below 0: counted twice"),
    ]
    tasks_created: Annotated[int, Meta(description="Tasks created since the start; a redrive creates none")]
    queued: Annotated[int, Meta(description="Tasks that wait for a worker")]
    in_progress: Annotated[int, Meta(description="Tasks that a handler works on")]
    waiting_retry: Annotated[int, Meta(description="Tasks that wait for their next attempt")]
    finished: int
    dead: Annotated[int, Meta(description="Tasks that are dead and were not redriven")]
    cancelled: int


class AuditAnswer(Balance, frozen=True, kw_only=True):
    """The audit over all kinds, and for each kind. The total `holds` is true only if it is true for each kind.

    The total `imbalance` is the sum of the kinds' imbalances without their signs.
    """

    kinds: dict[str, Balance]
    view: ViewAnswer
