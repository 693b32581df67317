"""A redrive of many letters, as it stands."""

from __future__ import annotations

import asyncio
import uuid
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from api.view.dead_letter_filter import Filter
    from app.rules.acts import LetterId

SAMPLE_COUNT = 20
"""Ids and reasons that are shown to people."""


class RunState(StrEnum):
    """How far a run is."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class Run:
    """One redrive of many letters. Letters are `skipped` that somebody else was quicker with."""

    def __init__(self, wanted: Filter, rate_per_s: float | None, by: str, at_ms: int) -> None:
        self.run_id = uuid.uuid4().hex
        self.wanted = wanted
        self.rate_per_s = rate_per_s
        self.by = by
        self.state = RunState.RUNNING
        self.started_at_ms = at_ms
        self.ended_at_ms: int | None = None
        self.redriven_count = 0
        self.skipped_count = 0
        self.refused_count = 0
        self.refused: list[tuple[LetterId, str]] = []
        self.error: str | None = None
        self.stopping = asyncio.Event()

    def refuse(self, letter_id: LetterId, reason: str) -> None:
        """Count a letter that cannot be redriven; the first reasons are kept for people."""
        self.refused_count += 1
        if len(self.refused) < SAMPLE_COUNT:
            self.refused.append((letter_id, reason))


class RunUnderWay(Exception):
    """There is a run already."""

    def __init__(self, run: Run) -> None:
        super().__init__(f"redrive {run.run_id} is under way: wait for it, or cancel it")
        self.run = run
