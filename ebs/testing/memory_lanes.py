"""What the engine writes to, in memory: the part of `agents.engine.worker_lanes` that outcomes of attempts use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agents.dead_letters import dead_letter
from app.events import encode
from app.kafka.types import ConsumerRecord
from app.names import PROCESSING, WAITING_TABLE
from app.rules.outgoing import Outgoing
from app.streaming.topic_limits import TopicLimits

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.events import TaskCreated
    from app.names import Names


class _Lane:
    """One lane for all tasks; every attempt in it is new, and nobody takes it away."""

    lost = False
    careful = False

    def __init__(self) -> None:
        self.progress = self.partition = self.lines = self
        self.turns: dict[bytes, Any] = {}
        self.number = 0
        self.running: dict[int, Any] = {}

    def start(self, _place: int) -> bool:
        return True


class MemoryLanes:
    """Keeps what attempts write until `take`, and which tasks wait for their next attempt until `take_waiting`."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.waiting_changelog = names.changelog(PROCESSING, WAITING_TABLE)
        self.ends = self
        self._waiting: list[TaskCreated] = []
        self.lane: Any = _Lane()
        self._limits = TopicLimits()
        self._written: list[Outgoing] = []

    def take(self) -> list[Outgoing]:
        """Return what was written since the last call."""
        written, self._written = self._written, []
        return written

    def take_waiting(self) -> list[TaskCreated]:
        """Return the tasks that wait since the last call."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def send(self, _lane: Any, outgoing: Outgoing) -> None:
        """Write a record."""
        self._written.append(outgoing)

    def finish(self, _lane: Any, _place: int) -> None:
        """Note that a task is done."""

    def add(self, _lane: Any, write: Callable[[], None]) -> None:
        """Write the end of an attempt that failed."""
        write()

    def row_of(
        self, record: ConsumerRecord, task: TaskCreated, _due_at_ms: int, _line: bytes, _error: str
    ) -> tuple[bytes, TaskCreated]:
        """Return what to keep of a task's next attempt. Raises `RecordTooLarge` if it cannot be kept."""
        key = record.key or b""
        self.check_size(Outgoing(self.waiting_changelog, 0, key, record.value or b""))
        return key, task

    def put(self, _lane: Any, _key: bytes, task: TaskCreated, *, has_started: bool = False) -> None:  # noqa: ARG002
        """Let a task wait for its next attempt."""
        self._waiting.append(task)

    def check_size(self, outgoing: Outgoing) -> None:
        """Raise `RecordTooLarge` if the record's topic does not take it."""
        self._limits.check_size(outgoing.topic, outgoing.key, outgoing.value, outgoing.headers)

    def dead_letter(
        self, record: ConsumerRecord, error: BaseException, *, attempts: int = 0, task: TaskCreated | None = None
    ) -> Outgoing:
        """Return a task's dead letter."""
        topic = self.names.dead_letters
        return dead_letter(record, error, topic=topic, limits=self._limits, attempts=attempts, task=task)


def record_of(task: TaskCreated, offset: int, topic: str) -> ConsumerRecord:
    """Return the record of a task's request."""
    key, value = task.task_id.encode(), encode(task)
    return ConsumerRecord(topic, 0, offset, task.at_ms, 0, key, value, None, len(key), len(value), ())
