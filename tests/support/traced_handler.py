"""Handlers for tests of tracing: they return the span that they run in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from opentelemetry import trace

from ebs import Project


def in_a_thread(_task: Any, _context: Any) -> str:
    """Fail until the file of MENDED_FILE is there, then return the current span."""
    if not Path(os.environ["MENDED_FILE"]).exists():
        raise ConnectionError("not yet")
    return _span_id()


async def in_the_loop(_task: Any, _context: Any) -> str:
    """Return the current span."""
    return _span_id()


def _span_id() -> str:
    return f"{trace.get_current_span().get_span_context().span_id:016x}"


project = Project()
project.task("slow")(in_a_thread)
project.task("quick")(in_the_loop)
