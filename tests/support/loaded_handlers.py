"""Handlers in hand, for tests of the engine and of what executes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.execution.loading import LoadedHandler, RunLimits, load_handlers
from app.rules.retry_policy import RetryPolicy
from app.settings.settings import Settings
from ebs.function import NO_LIMITS, StartLimits, mode_of

if TYPE_CHECKING:
    from ebs.function import Mode

LONG_S = 60.0
"""A time limit that no test reaches."""


def limits(
    *,
    attempts: int = 1,
    time_limit_s: float = LONG_S,
    max_result_bytes: int = 65_536,
    steps_s: tuple[int, ...] = (1, 10, 60),
) -> RunLimits:
    """Return limits that hardly limit."""
    return RunLimits(time_limit_s, max_result_bytes, RetryPolicy(steps_s, attempts, 86_400_000))


def in_hand(
    function: Any,
    name: str = "shop:work",
    *,
    mode: Mode | None = None,
    within: RunLimits | None = None,
    starts: StartLimits = NO_LIMITS,
) -> LoadedHandler:
    """Return a function as a loaded handler, which takes requests as they are."""
    return LoadedHandler(name, function, mode or mode_of(function), within or limits(), starts=starts)


def by_name(name: str, *, project: str = "sample_handlers", **settings: Any) -> LoadedHandler:
    """Return the function of a kind of a project, as a worker loads it."""
    return load_handlers(Settings(project=project, **settings)).for_kind(name)
