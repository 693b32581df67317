"""The retries: an agent of the processing app that lets failed tasks wait until they are due.

Reads: `task-requests-retry-1s`, `-10s`, `-60s` (or what EBS_RETRY_TIERS_S names), and the tiers that it named before:
tasks may still wait there. Writes: `task-requests`, `task-events` (TASK_CANCELLED), `dead-letters`. Key: the task's; a
retry goes to the partition that it came from.
Guarantee: forwarded when due, never early, exactly once; a crash or a rebalance reads what still waits again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agents.engine.retry_ladder import RetryLadder

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from agents.engine.worker_lanes import WorkerLanes
    from app.rules.control import ControlState
    from app.streaming.application import StreamingApp

log = logging.getLogger(__name__)


def register_retries(
    app: StreamingApp,
    lanes: WorkerLanes,
    control: ControlState,
    topics: Sequence[str],
    former_tiers: Callable[[], Awaitable[Sequence[str]]],
) -> RetryLadder:
    """Add the agent to the processing app; returns its ladder. `former_tiers` finds more topics, before the start."""
    ladder = RetryLadder(lanes, topics=topics, control=control)
    channel = app.input_of(*topics)

    async def prepare() -> None:
        others = await former_tiers()
        if others:
            text = "EBS_RETRY_TIERS_S no longer names %s: tasks that wait there are still processed"
            log.warning(text, ", ".join(others))
            ladder.add_tiers(others)
            app.read_also(channel, *others)

    app.before_start(prepare)

    @app.agent(channel, name="retries")
    async def retries(stream: Any) -> None:
        """Let failed tasks wait until they are due."""
        await ladder.run(stream)

    return ladder
