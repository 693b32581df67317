"""How far a redrive of many letters is, as a record of `dead-letters`, so that every API process knows it.

The record is written in the transaction of the letters that it counts, so it is exact after any crash. All records of
all runs lie in one partition: the last one of a run holds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from app.events import DECODE_ERRORS, Instant, encode
from app.rules.dead_letters import ACT_HEADER
from app.rules.letter_filter import LetterFilter  # msgspec reads annotations when it runs
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RUN_PARTITION = 0
MAX_REFUSED_SHOWN = 20
MAX_RUNS_KEPT = 20
SIGN_EVERY_S = 2.0
"""A run that waits for its rate says so often that it lives."""
SILENT_AFTER_S = 10.0
"""Five signs: a process that is busy for a moment has not ended, one that was killed is soon known to be."""

_ACT = b"run"
_KEY_PREFIX = b"run/"

Count = Annotated[int, Meta(ge=0)]
RunId = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$")]


class RunState(StrEnum):
    """How far a run is."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"


class RunProgress(msgspec.Struct, frozen=True):
    """One record of a run: `number` counts them. Letters are `skipped` that somebody else was quicker with.

    `refused` are the ids of letters that could not be redriven, and why: the first ones.
    """

    run_id: RunId
    number: Count
    state: RunState
    wanted: LetterFilter
    started_at_ms: Instant
    at_ms: Instant
    by: str = ""
    rate_per_s: float | None = None
    ended_at_ms: Instant | None = None
    redriven_count: Count = 0
    skipped_count: Count = 0
    refused_count: Count = 0
    refused: tuple[tuple[str, str], ...] = ()
    error: str | None = None

    def ended(self, state: RunState, at_ms: int, error: str | None = None) -> RunProgress:
        """Return the record that ends the run."""
        return msgspec.structs.replace(
            self, number=self.number + 1, state=state, at_ms=at_ms, ended_at_ms=at_ms, error=error
        )

    def heard_of(self, silent_s: float) -> RunProgress:
        """Return a run as others know it that have heard nothing of it for so long: its process may be gone."""
        if self.state is not RunState.RUNNING or silent_s <= SILENT_AFTER_S:
            return self
        error = f"its API process has not reported for {silent_s:.0f} s; send the same request again to continue"
        return self.ended(RunState.INTERRUPTED, self.at_ms, error)


def newest_first(runs: Iterable[RunProgress]) -> list[RunProgress]:
    """Return runs, the one that was started last first; the first `MAX_RUNS_KEPT` are shown, the others forgotten."""
    return sorted(runs, key=lambda one: -one.started_at_ms)


_decode = msgspec.json.Decoder(RunProgress).decode


def run_progress_record(topic: str, progress: RunProgress) -> Outgoing:
    """Return the record that says how far a run is."""
    key = _KEY_PREFIX + progress.run_id.encode()
    return Outgoing(topic, RUN_PARTITION, key, encode(progress), [(ACT_HEADER, _ACT)])


def is_run_progress(headers: Mapping[str, bytes]) -> bool:
    """Return whether an act is no act on a letter, but tells of a run."""
    return headers.get(ACT_HEADER) == _ACT


def read_run_progress(value: bytes | None) -> RunProgress | None:
    """Return what a record says of a run; None for bytes that say nothing."""
    try:
        return _decode(value or b"")
    except DECODE_ERRORS:
        return None
