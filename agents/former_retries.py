"""Tasks that still wait on the retry topics of an earlier version: they are sent to `task-requests`, and wait anew.

Reads: `task-requests-retry-1s` and its like, where they exist. Writes: `task-requests`, `dead-letters`. Key: the
task's; a task stays in its partition.
Guarantee: each task is sent on exactly once. It starts when it is due: the engine puts it into the table `waiting`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from app.errors import RecordTooLarge
from app.rules.outgoing import Outgoing
from app.topics.former_retry_topics import former_retry_topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.engine.lane import Lane
    from agents.engine.worker_lanes import WorkerLanes
    from app.streaming.application import StreamingApp

log = logging.getLogger(__name__)


def take_over_former_retries(app: StreamingApp, lanes: WorkerLanes, partition_count: int) -> None:
    """Let the processing app read the retry topics that it finds at its start."""

    async def prepare() -> None:
        topics = await former_retry_topics(app.options.cluster, lanes.names, partition_count)
        if not topics:
            return
        log.info("tasks that still wait on %s are taken over", ", ".join(topics))
        channel = app.read_also(*topics)
        former = FormerRetries(lanes, topics)

        @app.agent(channel, name="former_retries")
        async def former_retries(stream: Any) -> None:
            """Send waiting tasks on."""
            await former.run(stream)

    app.before_start(prepare)


class FormerRetries:
    """Sends on what lies on some topics. Implements `lane.LaneUser`."""

    max_backlog = 1_000

    def __init__(self, lanes: WorkerLanes, topics: Sequence[str]) -> None:
        self._lanes = lanes
        lanes.register(self, topics)

    async def run(self, stream: Any) -> None:
        """Work a stream of batches until it ends: the body of an agent."""
        try:
            async for event in stream.events():
                lane = self._lanes.take(event.value)
                if lane is not None:
                    self._send_on(lane)
        except Exception as error:  # noqa: BLE001  # Faust would only start the agent again
            self._lanes.transactions.fatal(error)

    def lane_ready(self, lane: Lane) -> None:
        """Begin with a lane where its committed progress says."""

    def lane_lost(self, lane: Lane) -> None:
        """Let go of a lane: its next owner reads it again."""

    def committed(self) -> None:
        """Hear that a step was collected."""

    def _send_on(self, lane: Lane) -> None:
        requests, number = self._lanes.names.task_requests, lane.partition.number
        while lane.waiting:
            record = lane.waiting.popleft()
            outgoing = Outgoing(requests, number, record.key, record.value, list(record.headers))
            try:
                self._lanes.check_size(outgoing)
            except RecordTooLarge as error:
                self._lanes.bury(lane, record, error)
            else:
                self._lanes.send(lane, outgoing)
            self._lanes.finish(lane, record.offset)
