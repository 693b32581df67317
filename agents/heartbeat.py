"""Writes a heartbeat with the worker's state to `workers` every 2 s, for `GET /api/workers`.

Writes: `workers`. Key: `<role>/<worker>`, or `<role>.<queue>/<worker>` in another queue than the default one.
Guarantee: a worker that stops normally disappears at once (a tombstone). If a worker was killed, or its event loop is
blocked, the API hides it 10 s after its last heartbeat. Nothing here ever ends or delays the worker.

Why a compacted topic and not the group protocol: a group knows its members and their partitions, also after a session
timeout of 10 s, and only with an admin request for each group. It does not know tasks in flight, the oldest task or the
last progress (a member's user data changes only at a rebalance), nor a worker between two memberships. A compacted
topic has the last heartbeat of each worker, the API's view follows it like any other topic, and any Kafka tool can show
it. The price: the age of a heartbeat depends on a clock, the broker's, which sets the timestamps of the records.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from app.kafka.cluster import started
from app.kafka.errors import KafkaError
from app.rules.worker_heartbeats import HEARTBEAT_EVERY_S, WorkerFigures, WorkerIdentity, heartbeat_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.kafka.cluster import Cluster
    from app.streaming.application import StreamingApp
    from app.streaming.progress_monitor import ProgressMonitor
    from app.streaming.transactions import Transactions

log = logging.getLogger(__name__)

_PATIENCE_S = 2.0
"""For one heartbeat: a broker that is away must not hold up a worker that stops for more than twice as long."""


def attach_heartbeat(
    app: StreamingApp, topic: str, figures: Callable[[], WorkerFigures] | None = None, *, queue: str = ""
) -> None:
    """Let a worker's app beat on `topic` from its start to its end.

    Without `figures` it tells partitions and last commit. `queue` is the one whose tasks it runs.
    """
    tell = StepFigures(app.transactions, app.progress_monitor) if figures is None else figures

    async def beat() -> None:
        identity = worker_identity_of(app.worker_name, app.role, queue)
        await Heart(app.options.cluster, identity, tell, topic=topic).run()

    app.task(beat)


def worker_identity_of(worker: str, role: str, queue: str = "") -> WorkerIdentity:
    """Return the identity of this process."""
    try:
        installed = version("ebs")
    except PackageNotFoundError:
        installed = "source tree"
    return WorkerIdentity(worker, role, installed, socket.gethostname(), os.getpid(), _epoch_ms(), queue)


class StepFigures:
    """The figures of a role that works in steps and keeps nothing in flight."""

    def __init__(
        self, transactions: Transactions, progress: ProgressMonitor, clock_ms: Callable[[], int] | None = None
    ) -> None:
        self._transactions = transactions
        self._progress = progress
        self._clock_ms = clock_ms or _epoch_ms
        self._committed_count = 0
        self._progress_at_ms: int | None = None

    def __call__(self) -> WorkerFigures:
        """Return the partitions that are worked, and when (within a heartbeat) the last step was committed."""
        if self._transactions.committed_count != self._committed_count:
            self._committed_count = self._transactions.committed_count
            self._progress_at_ms = self._clock_ms()
        owned = self._transactions.ownership.partitions.values()
        return WorkerFigures(
            partitions=sorted(partition.number for partition in owned if partition.active),
            last_progress_at_ms=self._progress_at_ms,
            standing_still=self._progress.verdict or "",
            refused="; ".join(self._progress.refused().values()),
        )


class Heart:
    """Beats while `run` runs. `is_heard` says whether the last one arrived."""

    def __init__(
        self,
        cluster: Cluster,
        identity: WorkerIdentity,
        figures: Callable[[], WorkerFigures],
        *,
        topic: str,
        every_s: float = HEARTBEAT_EVERY_S,
    ) -> None:
        self._cluster = cluster
        self._identity = identity
        self._figures = figures
        self._topic = topic
        self._every_s = every_s
        self._producer: Any = None
        self.is_heard = False
        self._is_said = False

    async def run(self) -> None:
        """Beat until cancelled, then say goodbye; raises nothing else."""
        try:
            while True:
                await self._try_to_beat()
                await asyncio.sleep(self._every_s)
        finally:
            await self._say_goodbye()

    async def _try_to_beat(self) -> None:
        try:
            value = heartbeat_of(self._identity, self._figures(), _epoch_ms())
            async with asyncio.timeout(_PATIENCE_S):
                if self._producer is None:
                    cluster = self._cluster.within(_PATIENCE_S * 1_000)
                    # The leader's word is enough: the next heartbeat stands for one that is lost.
                    self._producer = await started(cluster.new_producer("ebs-heartbeat", acks=1))
                await self._producer.send_and_wait(self._topic, value, self._identity.key(), partition=0)
        except (KafkaError, OSError, TimeoutError) as error:
            if not self._is_said:
                log.warning("cannot send heartbeats to the Kafka broker: %r", error)
            self.is_heard, self._is_said = False, True
        except Exception:
            # The worker's work does not depend on it, so it must not end with it.
            log.exception("a heartbeat failed")
        else:
            self.is_heard, self._is_said = True, False

    async def _say_goodbye(self) -> None:
        producer = self._producer
        if producer is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await producer.send_and_wait(self._topic, None, self._identity.key(), partition=0)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("cannot tell the Kafka broker that this worker stops: %r", error)
        # What the broker does not take expires, or this would wait for it for ever.
        await producer.stop()


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000
