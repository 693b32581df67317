"""One input partition in work: what waits, what is open, and what goes out with the next commit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from app.rules.offsets import Progress

if TYPE_CHECKING:
    from aiokafka.structs import ConsumerRecord

    from agents.outgoing import Outgoing
    from app.streaming.ownership import Partition


class Lane:
    """One partition of one input topic, while this worker owns it.

    `rows` are table rows to commit with the lane, by table and key. A `lost` lane belongs to somebody else: nothing of
    it can be committed any more. A `crowded` one must not start anything that an earlier life did not know.
    """

    __slots__ = (
        "changed", "crowded", "held", "lost", "outbox", "partition", "progress", "redriven", "rows", "running", "topic",
        "waiting",
    )  # fmt: skip

    def __init__(self, partition: Partition, topic: str) -> None:
        self.partition = partition
        self.topic = topic
        self.progress = Progress(partition.next_offsets[topic], partition.metadata[topic])
        self.waiting: deque[ConsumerRecord] = deque()
        self.running: dict[int, Any] = {}
        self.outbox: list[Outgoing] = []
        self.rows: dict[tuple[str, bytes], bytes] = {}
        self.redriven: dict[bytes, bytes] = {}
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
        return bool(waiting) and (not self.crowded or waiting[0].offset < self.progress.known_to)
