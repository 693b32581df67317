"""The retries: an agent of the processing app that lets failed tasks wait until they are due.

Reads: `task-requests-retry-1s`, `-10s`, `-60s` (and what EBS_RETRY_TIERS_S names). Writes: `task-requests`,
`task-events` (TASK_CANCELLED), `dead-letters`. Key: the task's; a retry goes to the partition that it came from.
Guarantee: forwarded when due, never early, exactly once; a crash or a rebalance reads what still waits again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.engine.ladder import Ladder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.engine.lanes import Lanes
    from app.rules.control import ControlState
    from app.streaming.application import StreamingApp


def register_retries(app: StreamingApp, lanes: Lanes, control: ControlState, topics: Sequence[str]) -> Ladder:
    """Add the agent to the processing app; returns its ladder."""
    ladder = Ladder(lanes, topics=topics, control=control)

    @app.agent(app.input_of(*topics), name="retries")
    async def retries(stream: Any) -> None:
        """Let failed tasks wait until they are due."""
        await ladder.run(stream)

    return ladder
