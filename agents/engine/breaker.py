"""The breaker: pauses a kind of which too many tasks die, as a person would with `ebs pause --kind`.

Without it ten thousand dead letters that are redriven into the bug that killed them die all over again, and so does
all that comes in meanwhile (the danger that KIP-1316 describes).

Writes: `control` (the pause of a kind, with the reason). Key: `pause:<kind>`.
Guarantee: the pause is part of the end of the task whose death passed the limit: it is sent through that task's lane,
so both are committed in one transaction, or neither is. A crash before it leaves a task that its next owner works
again, and windows that begin anew; after it the pause lies on the topic for everybody, until a person resumes the kind.
The transaction is the worker's own, fenced by the group: a worker that the group has left behind pauses nothing. Until
its commit the pause holds here only, at once: handlers that take no time would fail thousands of tasks before it is
read back from the topic. If the lane is lost first, it never was.

Two workers that pass the limit at once write the same key, which is one pause; one that knows of a pause writes none,
so a person's reason stays. A resume begins all windows of the kind anew, at each worker as it reads it, takes back what
is not committed, and what began before it counts no more: results that were in flight do not pause the kind again.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import msgspec

from app.events import Kind
from app.rules.breaker import reason_of
from app.rules.commands import CommandKey, Family, Pause, decode_command, encode_command, parse_command_key
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Callable

    from agents.engine.attempt import Attempt
    from agents.engine.lane import Lane
    from agents.engine.worker_lanes import WorkerLanes
    from app.rules.breaker import DeadShares
    from app.rules.control import ControlState

log = logging.getLogger(__name__)

_PARTITION = 0


class Breaker:
    """Pauses a kind in `control` when its deaths pass the limit of `shares`; `trip_count` is how often it did.

    What finishes is told to `shares` itself: that is the inner loop of handlers that take no time.
    """

    def __init__(
        self, shares: DeadShares, control: ControlState, lanes: WorkerLanes, *, worker: str, clock_ms: Callable[[], int]
    ) -> None:
        self.trip_count = 0
        self.shares = shares
        self._control = control
        self._lanes = lanes
        self._topic = lanes.names.control
        self._worker = worker
        self._clock_ms = clock_ms
        control.resume_observers.append(self._resumed)

    def died(self, attempt: Attempt, error: str) -> Outgoing | None:
        """Note that a task died; returns the pause to commit with its end, if it passed the limit."""
        kind = attempt.task.kind
        deaths = self.shares.died(kind, attempt.began_at_s, time.perf_counter())
        if deaths is None or self._control.is_paused(kind) or not _can_be_named(kind):
            return None
        reason = reason_of(deaths, worker=self._worker, kind=kind, window_s=self.shares.window_s, error=error)
        key = CommandKey(Family.PAUSE, kind).encoded()
        value = encode_command(Pause(self._clock_ms(), reason, self._worker))
        self._control.apply(key, value)
        self.trip_count += 1
        log.warning("kind %s is paused: %s. When the cause is fixed, run: ebs resume --kind %s", kind, reason, kind)
        return Outgoing(self._topic, _PARTITION, key, value)

    def lane_lost(self, lane: Lane) -> bool:
        """Undo pauses that would have been committed with a lane; returns whether there were any."""
        undone = False
        for one in lane.outbox:
            if one.topic != self._topic or one.value is None:
                continue
            command_key = parse_command_key(one.key)
            # Not that of somebody else, read from the topic since.
            if self._control.command_at(command_key) == decode_command(command_key, one.value):
                log.warning("the partition was lost, so kind %s is not paused", command_key.name)
                undone = self._control.apply(one.key, None) or undone
        return undone

    def _resumed(self, kind: str) -> None:
        self.shares.resumed(kind, time.perf_counter())
        if kind:
            self._lanes.take_back(self._topic, CommandKey(Family.PAUSE, kind).encoded())


def _can_be_named(kind: str) -> bool:
    """Return whether a command can name a kind; who writes requests by himself may call it anything, or nothing."""
    try:
        msgspec.convert(kind, Kind)
    except msgspec.ValidationError:
        return False
    return True
