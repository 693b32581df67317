"""The intake: records that wait in memory, lane by lane in turn, and how they become tasks."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec import UNSET

from agents.engine.lane import Ready
from app.errors import DecodeError
from app.events import DECODE_ERRORS, decode_task_request, explain_decode_error

if TYPE_CHECKING:
    from agents.engine.lane import Lane
    from agents.engine.strays import Strays
    from agents.engine.waiting_tasks import WaitingTasks
    from agents.engine.worker_lanes import WorkerLanes
    from app.events import TaskCreated
    from app.kafka.types import ConsumerRecord
    from app.rules.control import ControlState


class Intake:
    """The waiting records of the lanes of one topic, which take turns."""

    def __init__(
        self,
        lanes: WorkerLanes,
        waiting: WaitingTasks,
        *,
        topic: str,
        partition_count: int,
        strays: Strays,
    ) -> None:
        self._lanes = lanes
        self._waiting = waiting
        self._topic = topic
        self._partition_count = partition_count
        self._strays = strays
        self._turns: deque[Lane] = deque()

    @property
    def lane_count(self) -> int:
        """How many lanes there are."""
        return len(self._turns)

    @property
    def may_start(self) -> bool:
        """Whether a record waits that may start."""
        return any(lane.may_start() for lane in self._turns)

    def locked(self) -> str:
        """Return the partition in which records wait for ever: nothing of it runs or is parked that could end it."""
        for lane in self._turns:
            if lane.waiting and not (lane.may_start() or lane.running or lane.lines.parked_count):
                return f"{lane.topic}-{lane.partition.number}"
        return ""

    def add(self, lane: Lane) -> None:
        """Give a lane its turns."""
        self._turns.append(lane)

    def remove(self, lane: Lane) -> None:
        """Take a lane's turns away."""
        self._turns.remove(lane)

    def next(self) -> tuple[Lane, ConsumerRecord] | None:
        """Return the next record, None if none may start."""
        turns = self._turns
        for lane in turns:
            if lane.may_start():
                break
        else:
            return None
        turns.remove(lane)
        turns.append(lane)
        record = lane.waiting.popleft()
        if lane.held:
            self._lanes.holds.derive(lane)
        return lane, record

    def read(self, lane: Lane, record: ConsumerRecord) -> Ready | None:
        """Return the task that a record asks for.

        None if the task waits for its time, if it belongs to another queue, or if the record cannot be read and is
        buried.
        """
        try:
            ready = Ready(lane, record, self._decode(record), record.offset)
        except DecodeError as error:
            self._lanes.bury(lane, record, error)
            self._lanes.finish(lane, record.offset)
            return None
        if self._strays.can_be and self._strays.move(ready):
            return None
        return None if ready.task.due_at_ms is not UNSET and self._waiting.keeps(ready) else ready

    def take_cancelled(self, control: ControlState) -> list[Ready]:
        """Remove cancelled tasks from the queues."""
        taken = []
        for lane in self._turns:
            kept: deque[ConsumerRecord] = deque()
            for record in lane.waiting:
                try:
                    task = self._decode(record)
                except DecodeError:
                    kept.append(record)
                    continue
                if control.is_cancelled(task) is None:
                    kept.append(record)
                else:
                    taken.append(Ready(lane, record, task, record.offset))
            lane.waiting = kept
        return taken

    def _decode(self, record: ConsumerRecord) -> TaskCreated:
        try:
            task = decode_task_request(record.value)
        except DECODE_ERRORS as error:
            raise explain_decode_error(self._topic, error) from error
        if task.object_partition >= self._partition_count:
            # Its events would go to a partition that does not exist, which fails the whole step.
            raise DecodeError(
                f"not a valid record of {self._topic}: object_partition is {task.object_partition}, "
                f"there are {self._partition_count} partitions (EBS_PARTITIONS)"
            )
        return task
