"""Spans of attempts: each hangs on the one that sent its request, and its handler runs within it."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from opentelemetry import context as contexts

if TYPE_CHECKING:
    from agents.engine.attempt import Attempt
    from app.tracing import Tracing


class AttemptTracing:
    """Begins the spans of attempts; `outcomes` and `pool` end them."""

    def __init__(self, tracing: Tracing, group_id: str) -> None:
        self._tracing = tracing
        self._group_id = group_id

    def begin(self, attempt: Attempt) -> None:
        """Begin an attempt's span, if its request came with a sampled trace."""
        task = attempt.task
        about = {
            "ebs.object.id": task.object_id,
            "ebs.task.id": task.task_id,
            "ebs.task.kind": task.kind,
            "ebs.task.attempt": task.attempt,
        }
        attempt.traced = self._tracing.process(attempt.record, self._group_id, about)
        if attempt.traced is not None:
            attempt.context.within = contextvars.copy_context()
            attempt.context.within.run(contexts.attach, attempt.traced.context())
