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
    did not know, except what holds its watermark. `not_due_count`: retries that wait for their time. `max_backlog`:
    how much may wait here before its fetching is held.
    """

    __slots__ = (
        "changed", "crowded", "expires_at_ms", "held", "lost", "max_backlog", "max_parked", "not_due_count", "outbox",
        "parked_count", "partition", "progress", "redriven", "rows", "running", "stream_time_ms", "topic", "waiting",
    )  # fmt: skip

    def __init__(self, partition: Partition, topic: str, *, max_backlog: int, max_parked: int = MAX_PARKED) -> None:
        self.partition = partition
        self.topic = topic
        self.progress = Progress(partition.next_offsets[topic], partition.metadata[topic])
        self.waiting: deque[ConsumerRecord] = deque()
        self.running: dict[int, Any] = {}
        self.outbox: list[Outgoing] = []
        self.parked_count = 0
        self.not_due_count = 0
        self.max_backlog = max_backlog
        self.max_parked = max_parked
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

        A crowded lane still starts what an earlier life knew of, and the record at the watermark: without that it could
        wait for ever for tasks to finish that nobody has started. The end of that record can only shrink its progress.
        """
        waiting = self.waiting
        if not waiting or self.parked_count >= self.max_parked:
            return False
        return not self.crowded or waiting[0].offset < max(self.progress.known_to, self.progress.watermark + 1)

    def must_hold(self) -> bool:
        """Return whether its fetching must be held: too much waits, and until half of that is gone."""
        limit = self.max_backlog // 2 if self.held else self.max_backlog
        return len(self.waiting) + self.not_due_count > limit
