"""Moves requests that lie in a queue that is not the one of their kind.

A new version of the project may give a kind another queue while requests wait in the old one: on the topic, or in the
table `waiting`. The workers of the old queue do not run them. They send each request to the new queue, in the
transaction that notes it as done in the old one. So no request is lost, and none runs twice. It keeps its partition,
its attempt and its due time.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from msgspec import UNSET, UnsetType, structs

from agents.engine.waiting_sweeps import visit_rows
from app.errors import RecordTooLarge
from app.events import encode
from app.rules.outgoing import Outgoing
from app.rules.waiting_rows import decode_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.lane import Lane, Ready
    from agents.engine.waiting_sweeps import ReadRow
    from agents.engine.worker_lanes import WorkerLanes
    from app.rules.routing import Routes

log = logging.getLogger(__name__)

MOVES_HEADER = "ebs-queue-moves"
"""How often a request was moved."""
MAX_MOVES = 8
"""Then the task runs where it is: workers with an older and a newer project could move it to and fro without end."""


class Strays:
    """Moves requests to the queues of their kinds. `can_be` is false if the system has one queue: nothing can move."""

    def __init__(self, lanes: WorkerLanes, routes: Routes, topic: str, *, clock_ms: Callable[[], int]) -> None:
        self._lanes = lanes
        self._routes = routes
        self._clock_ms = clock_ms
        self.can_be = routes.topics != {topic}
        self._sweeps: dict[Lane, asyncio.Task[None]] = {}
        self.moved_count = 0

    def move(self, ready: Ready) -> bool:
        """Send a request to the queue of its kind; returns False if it already lies there, or was moved too often."""
        lane, record, task, _ = ready
        topic = self._routes.topic(task.kind)
        if topic == lane.topic:
            return False
        moves = _moves_of(record.headers)
        if moves >= MAX_MOVES:
            return False
        self.send_on(ready, topic, lane.partition.number)
        if not self.moved_count:
            log.info("tasks of kind %s move from %s to %s, the queue of their kind", task.kind, lane.topic, topic)
        self.moved_count += 1
        return True

    def send_on(self, ready: Ready, topic: str, partition: int) -> None:
        """Move a request to another partition, in the transaction that notes it as done here."""
        lane, record, task, place = ready
        headers = [header for header in record.headers if header[0] != MOVES_HEADER]
        headers.append((MOVES_HEADER, str(_moves_of(record.headers) + 1).encode()))
        due_at_ms = self._due_at_ms(ready)
        value = record.value if due_at_ms == task.due_at_ms else encode(structs.replace(task, due_at_ms=due_at_ms))
        outgoing = Outgoing(topic, partition, record.key, value, headers)
        try:
            self._lanes.check_size(outgoing)
        except RecordTooLarge as error:
            self._lanes.bury(lane, record, error)
        else:
            self._lanes.send(lane, outgoing)
        self._lanes.finish(lane, place)

    def _due_at_ms(self, ready: Ready) -> int | UnsetType:
        """Return when a task is due now: it may have been started before the time that its request names."""
        _, _, task, place = ready
        if task.due_at_ms is UNSET or not isinstance(place, bytes):
            return task.due_at_ms
        row_due_at_ms = decode_key(place).due_at_ms  # None: it waits in a line, so it was due
        return min(task.due_at_ms, self._clock_ms() if row_due_at_ms is None else row_due_at_ms)

    def open(self, lane: Lane, read: ReadRow) -> None:
        """Move all that waits in the table of a lane, if no kind has this queue any more.

        Otherwise a worker of this queue would have to run until the longest delay is over.
        """
        if lane.topic not in self._routes.topics and lane.window is not None:
            self._sweeps[lane] = asyncio.create_task(self._empty(lane, read))

    def close(self, lane: Lane) -> None:
        """Stop moving what waits in a lane: its next owner does."""
        sweep = self._sweeps.pop(lane, None)
        if sweep is not None:
            sweep.cancel()

    async def _empty(self, lane: Lane, read: ReadRow) -> None:
        def move(key: bytes, value: bytes) -> bool:
            ready = read(lane, key, value)
            return ready is None or self.move(ready)

        try:
            await visit_rows(self._lanes, lane, move)
        except Exception as error:  # noqa: BLE001  # nobody awaits it
            self._lanes.transactions.fatal(error)


def _moves_of(headers: object) -> int:
    value = dict(headers).get(MOVES_HEADER, b"")  # type: ignore[call-overload]  # the headers of a record
    return int(value) if value.isdigit() and len(value) < 3 else 0  # digits of a small number
