"""One input partition of the engine: its waiting records, its open records, and the records of the next commit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agents.engine.lane_lines import MAX_PARKED, LaneLines, Place
from agents.engine.lane_rows import LaneRows
from app.rules import owner_lives
from app.rules.offsets import PartitionProgress

if TYPE_CHECKING:
    import asyncio

    from agents.engine.waiting_window import WaitingWindow
    from app.events import TaskCreated
    from app.kafka.types import ConsumerRecord
    from app.rules.outgoing import Outgoing
    from app.streaming.partition import Partition
    from app.streaming.step import Step


_CAREFUL_RECORDS = 1_000
"""A dead owner may have started this many records beyond the last one that its commit names, if its log had as many.

If it had started more, a later owner finds the task that ended it: each owner gets further."""


class Lane:
    """One partition of one input topic, while this worker owns it.

    `rows` are the rows of its partition's tables, which commit with the lane. `window` has those of the table
    `waiting`; None where nothing can wait there. `lines` has what may not start now. `stream_time_ms` is the time of
    the newest record taken, at `expires_at_ms` rows are looked through for what is too old. A `lost` lane belongs to
    somebody else: nothing of it can be committed any more. A `crowded` one must not start anything that an earlier life
    did not know, except what holds its watermark; in a `careful` one each task begins only when the commit that says so
    is through (`owner_lives`). `noted` wait for the lane's next commit. `max_backlog`: how much may wait here before
    its fetching is held.
    """

    __slots__ = (
        "announced", "careful", "careful_to", "changed", "crowded", "expires_at_ms", "held", "life", "lines",
        "lost", "max_backlog", "noted", "outbox", "partition", "progress", "rows",
        "running", "stream_time_ms", "topic", "waiting", "window",
    )  # fmt: skip

    def __init__(self, partition: Partition, topic: str, *, max_backlog: int, max_parked: int = MAX_PARKED) -> None:
        self.partition = partition
        self.topic = topic
        progress, self.life = owner_lives.split_metadata(partition.metadata[topic])
        self.progress = PartitionProgress(partition.next_offsets[topic], progress)
        self.waiting: deque[ConsumerRecord] = deque()
        self.running: dict[Place, Any] = {}
        self.outbox: list[Outgoing] = []
        self.max_backlog = max_backlog
        self.lines: LaneLines[Ready] = LaneLines(max_parked=max_parked)
        self.rows = LaneRows(partition)
        self.window: WaitingWindow | None = None
        self.stream_time_ms = 0
        self.expires_at_ms = 0
        self.noted: list[asyncio.Future[None]] = []
        self.announced = False
        self.careful = False
        self.careful_to = 0
        self.changed = False
        self.crowded = False
        self.held = False
        self.lost = False

    def begin_life(self, member_id: str) -> None:
        """Take the lane over from its former owner, whatever became of that one; for those that run handlers."""
        self.life = owner_lives.follow(self.life, member_id, self.partition.members)
        self.careful = True
        known_to = self.progress.known_to
        self.careful_to = max(known_to, min(known_to + _CAREFUL_RECORDS, self.partition.ends[self.topic]))

    def end_life(self) -> None:
        """Say with the next commit that the owner leaves as it should."""
        self.life = owner_lives.Life("", self.life.deaths)

    @property
    def runs_apart(self) -> bool:
        """Whether what earlier lives began runs apart: too many of them ended with it."""
        return self.life.deaths >= owner_lives.SUSPICIOUS_DEATHS

    def encode(self) -> str | None:
        """Return the metadata of a commit, None if it does not fit."""
        if self.life.deaths and self.progress.watermark >= self.careful_to and not self._has_suspects():
            self.life = self.life._replace(deaths=0)
        encoded = self.progress.encode()
        return None if encoded is None else owner_lives.join_metadata(encoded, self.life)

    def collect(self, step: Step, crowded_bytes: int) -> bool:
        """Move what happened since the last commit into a step; returns False if its progress does not fit into one.

        A lane whose encoded progress is longer than `crowded_bytes` starts nothing more until it shrinks.
        """
        metadata = self.encode()
        if metadata is None:
            self.crowded = True
            return False
        number = self.partition.number
        self.crowded = len(metadata) > crowded_bytes
        for outgoing in self.outbox:
            step.send(*outgoing)
        if self.window is not None:
            self.window.collect()
        self.rows.collect(step)
        self.outbox.clear()
        self.changed = False
        step.commit_offset(self.topic, number, self.progress.watermark, metadata)
        return True

    def committed(self) -> None:
        """Hear that a commit is through: from the first one on everybody knows whose lane this is."""
        self.announced = True
        self.careful = self.life.deaths > 0
        self.rows.committed()
        if self.window is not None:
            self.window.committed()

    def start(self, place: Place) -> bool:
        """Note that an attempt begins; returns False if it had begun, and said so, in an earlier life."""
        if isinstance(place, int):
            return self.progress.start(place)
        assert self.window is not None
        return self.window.start(place)

    def finish(self, place: Place) -> None:
        """Note that a request is done for good."""
        if isinstance(place, int):
            self.progress.finish(place)
        else:
            assert self.window is not None
            self.window.remove(place)

    def may_start(self) -> bool:
        """Return whether a record waits that may start now.

        A crowded lane still starts what an earlier life knew of, and the record at the watermark: without that it could
        wait for ever for tasks to finish that nobody has started. The end of that record can only shrink its progress.
        """
        waiting = self.waiting
        if not waiting:
            return False
        return not self.crowded or waiting[0].offset < max(self.progress.known_to, self.progress.watermark + 1)

    def has_read_lines(self) -> bool:
        """Return whether all of the log was read that lies before the rows of the lines of an earlier life.

        The tasks that waited in its memory come again from there; they are before those rows in their lines.
        """
        rows = self.lines.rows
        if rows is None or not rows.behind:
            return True
        read_to = self.waiting[0].offset if self.waiting else self.progress.taken_to
        if read_to < min(rows.behind, self.partition.ends[self.topic]):
            return False
        rows.behind = 0
        return True

    def must_hold(self) -> bool:
        """Return whether its fetching must be held: too much waits, and until half of that is gone."""
        limit = self.max_backlog // 2 if self.held else self.max_backlog
        return len(self.waiting) > limit

    def _has_suspects(self) -> bool:
        """Return whether requests in the table `waiting` may have begun in a life that ended badly."""
        return self.window is not None and bool(self.window.suspects)


class Ready(NamedTuple):
    """A task that may start as soon as nothing blocks it."""

    lane: Lane
    record: ConsumerRecord
    task: TaskCreated
    place: Place


class LaneUser(Protocol):
    """Who works the lanes of some topics; `max_backlog`: what may wait in one of them before its fetching is held."""

    max_backlog: int

    def lane_ready(self, lane: Lane) -> None:
        """Begin with a lane where its committed progress says."""

    def lane_lost(self, lane: Lane) -> None:
        """Stop everything that runs for a lane."""

    def committed(self) -> None:
        """Hear that a step was collected: crowded lanes may have room again."""
