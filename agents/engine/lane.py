"""One input partition in work: what waits, what is open, and what goes out with the next commit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from app.rules.offsets import Progress

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from agents.outgoing import Outgoing
    from app.streaming.ownership import Partition


MAX_PARKED = 10_000
"""Tasks of one lane that wait for a pause, a rate or their object; then no further ones are read behind them.

Without it a paused kind would be read into memory for as long as it has records."""


class Lane:
    """One partition of one input topic, while this worker owns it.

    `rows` are table rows to commit with the lane, by table and key; None deletes one. `stream_time_ms` is the time of
    the newest record taken, at `expires_at_ms` rows are looked through for what is too old. A `lost` lane belongs to
    somebody else: nothing of it can be committed any more. A `crowded` one must not start anything that an earlier life
    did not know.
    """

    __slots__ = (
        "changed", "crowded", "expires_at_ms", "held", "lost", "outbox", "parked_count", "partition", "progress",
        "redriven", "rows", "running", "stream_time_ms", "topic", "waiting",
    )  # fmt: skip

    def __init__(self, partition: Partition, topic: str) -> None:
        self.partition = partition
        self.topic = topic
        self.progress = Progress(partition.next_offsets[topic], partition.metadata[topic])
        self.waiting: deque[ConsumerRecord] = deque()
        self.running: dict[int, Any] = {}
        self.outbox: list[Outgoing] = []
        self.parked_count = 0
        self.rows: dict[tuple[str, bytes], bytes | None] = {}
        self.redriven: dict[bytes, bytes] = {}
        self.stream_time_ms = 0
        self.expires_at_ms = 0
        self.changed = False
        self.crowded = False
        self.held = False
        self.lost = False

    def may_start(self) -> bool:
        """Return whether a record waits that may start now.

        A crowded lane still starts what an earlier life knew of: without that it could wait for ever for tasks to
        finish that nobody has started.
        """
        waiting = self.waiting
        return (
            bool(waiting)
            and self.parked_count < MAX_PARKED
            and (not self.crowded or waiting[0].offset < self.progress.known_to)
        )
