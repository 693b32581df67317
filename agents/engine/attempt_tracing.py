"""Spans of attempts: each is a child of the span that sent its request, and its handler runs within it.

They are subclasses, so that an engine without tracing does no extra work in its inner loop.
"""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from opentelemetry import context as contexts

from agents.engine.attempt import Attempt
from agents.engine.attempt_outcomes import AttemptOutcomes

if TYPE_CHECKING:
    from agents.engine.lane import Ready
    from agents.execution.loading import LoadedHandler
    from app.events import TaskEvent
    from app.rules.outgoing import Outgoing
    from app.telemetry.tracing import Trace, Tracing
    from ebs.context import Context


class TracedAttempt(Attempt):
    """An attempt that may have a span."""

    __slots__ = ("traced",)

    def __init__(
        self, ready: Ready, wait_ms: int, context: Context, loaded: LoadedHandler, traced: Trace | None
    ) -> None:
        super().__init__(ready, wait_ms, context, loaded)
        self.traced = traced


class TracedOutcomes(AttemptOutcomes):
    """Sends the span along with what becomes of an attempt, and ends it."""

    def finish(self, attempt: Attempt, result: object) -> None:
        """See `AttemptOutcomes.finish`."""
        super().finish(attempt, result)
        if attempt.traced is not None:
            attempt.traced.end()

    def fail(self, attempt: Attempt, error: BaseException) -> None:
        """See `AttemptOutcomes.fail`."""
        super().fail(attempt, error)
        if attempt.traced is not None:
            attempt.traced.fail(error)

    def _event(self, attempt: Attempt, event: TaskEvent) -> Outgoing:
        outgoing = super()._event(attempt, event)
        return outgoing if attempt.traced is None else outgoing._replace(headers=attempt.traced.headers)


class AttemptTracing:
    """Begins the spans of attempts; `TracedOutcomes` and the pool end them."""

    outcomes = TracedOutcomes

    def __init__(self, tracing: Tracing, group_id: str) -> None:
        self._tracing = tracing
        self._group_id = group_id

    def begin(self, ready: Ready, wait_ms: int, context: Context, loaded: LoadedHandler) -> Attempt:
        """Return an attempt, with a span if its request came with a sampled trace."""
        task = ready.task
        about = {
            "ebs.object.id": task.object_id,
            "ebs.task.id": task.task_id,
            "ebs.task.kind": task.kind,
            "ebs.task.attempt": task.attempt,
        }
        traced = self._tracing.process(ready.record, self._group_id, about)
        if traced is not None:
            context.within = contextvars.copy_context()
            context.within.run(contexts.attach, traced.context())
        return TracedAttempt(ready, wait_ms, context, loaded, traced)
