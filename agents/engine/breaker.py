"""The breaker: pauses a kind if too many of its tasks die, as a person would with `ebs pause --kind`.

Without it, ten thousand dead letters that are redriven before the bug is fixed die again, and so do all new tasks
(KIP-1316 describes this danger).

Writes: `control` (the pause of a kind, with the reason). Key: `pause:<kind>`.
Guarantee: the pause is sent through the lane of the task whose death reached the limit, so the pause and the death are
committed in one transaction, or neither is. After a crash before the commit, the next owner runs the task again, and
the windows restart. After the commit, the pause is on the topic for all workers, until a person resumes the kind. The
group fences the transaction: a worker that is no longer in the group pauses nothing. Until the commit, the pause
applies only to this worker, at once: fast handlers would fail thousands of tasks before the pause is read back from the
topic. If the lane is lost before the commit, the pause is dropped.

Callbacks are not judged: one receiver that is gone would stop the callbacks to all others.

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
    """Pauses a kind in `control` when its deaths reach the limit of `shares`; `trip_count` counts the pauses.

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
        if attempt.task.role == "callback":
            return None
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
            # Not a pause of another worker or person that was read from the topic since.
            if self._control.command_at(command_key) == decode_command(command_key, one.value):
                log.warning("the partition was lost, so kind %s is not paused", command_key.name)
                undone = self._control.apply(one.key, None) or undone
        return undone

    def _resumed(self, kind: str) -> None:
        self.shares.resumed(kind, time.perf_counter())
        if kind:
            self._lanes.take_back(self._topic, CommandKey(Family.PAUSE, kind).encoded())


def _can_be_named(kind: str) -> bool:
    """Return whether a command can name a kind: in requests of other producers a kind may be any text."""
    try:
        msgspec.convert(kind, Kind)
    except msgspec.ValidationError:
        return False
    return True
