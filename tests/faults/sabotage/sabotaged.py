"""A worker that dies or freezes at a chosen point of a step, or that has one mechanism taken out. For tests only.

It runs as `faust -A sabotaged worker`, told by its environment:

- SABOTAGE_ROLE: the role whose app this is.
- SABOTAGE_AT: POINT:N, something happens at the Nth step of the first life (a marker file tells lives apart); points:
  begun, sent (outputs, not offsets), offered (offsets too), committed, applied.
- SABOTAGE_BY: kill (default) or freeze (SIGSTOP).
- SABOTAGE_BREAK: a mechanism to take out: fencing, skipping, offsets, changelog, watermark, ends (what is not answered
  is repeated), outputs (what functions submit is written outside of the transaction).
- SABOTAGE_MARKER: path of the marker file.
- SABOTAGE_KEEP_OPEN: leave the transactions of dead workers to their time-outs, as a broker does that lets nobody end
  them.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.producer.sender import BaseHandler

import app.kafka.transaction_handlers as handlers_module
import app.streaming.ownership as ownership_module
import app.streaming.restore as restore_module
from app.kafka.fencing import Membership
from app.kafka.transactional_producer import TransactionalProducer
from app.streaming.step import Step
from app.streaming.transactions import Transactions

ROLE = os.environ["SABOTAGE_ROLE"]
POINT, _, NTH = os.environ.get("SABOTAGE_AT", "").partition(":")
BROKEN = os.environ.get("SABOTAGE_BREAK", "")
MARKER = Path(os.environ["SABOTAGE_MARKER"])

_steps = 0


def reach(point: str) -> None:
    """Do the deed if this is the point and the step, once in all lives."""
    if point != POINT or _steps < int(NTH or 1) or MARKER.exists():
        return
    MARKER.touch()
    os.kill(os.getpid(), signal.SIGSTOP if os.environ.get("SABOTAGE_BY") == "freeze" else signal.SIGKILL)


_begin, _commit, _apply, _send = Transactions.begin, Transactions._commit, Step.apply, Step.send
_offer, _end = TransactionalProducer.send_offsets_to_transaction, TransactionalProducer.commit_transaction


async def commit(self: Transactions, step: Step) -> None:
    """Count the steps that do something, and pass the points `begun`, `committed`."""
    global _steps  # noqa: PLW0603  # a whole process is one sabotage
    if step.offsets:
        _steps += 1
        # It happens in a step in which there is something to see.
        if (BROKEN != "changelog" or await _leak_rows(self, step)) and (BROKEN != "outputs" or await _write_outside()):
            reach("begun")
    await _commit(self, step)


async def offer(self: TransactionalProducer, offsets: Any, group_id: str) -> None:
    """Pass the points `sent` and `offered`: the outputs are on their way, the offsets are not yet or are."""
    if POINT == "sent":
        await self.flush()
        reach("sent")
    if BROKEN == "offsets":
        self.offsets_outside = offsets
        return
    await _offer(self, offsets, group_id)
    reach("offered")


async def end(self: TransactionalProducer) -> None:
    """Pass the point `committed`; with `offsets` broken they follow outside of the transaction."""
    await _end(self)
    reach("committed")
    if BROKEN == "offsets" and getattr(self, "offsets_outside", None):
        thread = app.consumer._thread
        await thread.call_thread(thread._consumer.commit, self.offsets_outside)
        self.offsets_outside = None


def apply(self: Step) -> None:
    """Pass the point `applied`."""
    _apply(self)
    reach("applied")


_outside: list[tuple[Any, ...]] = []


def send(self: Step, *record: Any) -> None:
    """Put what functions submit aside, to be written without the step's transaction."""
    if record[0] == "objects":
        _outside.append(record[:4])
    else:
        _send(self, *record)


async def _write_outside() -> bool:
    """Write what was put aside; returns whether there was any."""
    if not _outside:
        return False
    async with AIOKafkaProducer(bootstrap_servers=os.environ["EBS_BROKER"]) as producer:
        for topic, partition, key, value in _outside:
            await producer.send(topic, value, key, partition)
        await producer.flush()
    _outside.clear()
    return True


async def _leak_rows(transactions: Transactions, step: Step) -> bool:
    """Write rows of the ledger and of schedules; returns whether there were any."""
    leaked = False
    async with AIOKafkaProducer(bootstrap_servers=os.environ["EBS_BROKER"]) as producer:
        for (table, partition), rows in step._rows.items():
            if table in {"ledger", "schedules"}:
                for key, value in rows.changed.items():
                    leaked = True
                    await producer.send(transactions.ownership.changelog_of(table), value, key, partition)
        await producer.flush()
    return leaked


async def _stable_ends(cluster: Any, partitions: Any) -> Any:
    async with cluster.reader("sabotage", isolation_level="read_committed") as reader:
        return await reader.end_offsets(partitions)


Transactions._commit = commit
TransactionalProducer.send_offsets_to_transaction = offer
TransactionalProducer.commit_transaction = end
Step.apply = apply
if BROKEN == "fencing":
    # What aiokafka itself would send after it lost its membership: the coordinator lets it pass as an old client.
    Transactions._membership = lambda _self: Membership(-1, "")
if BROKEN == "skipping":
    Transactions.admit = lambda self, batch, _next=None: (
        batch if getattr(self.ownership.partitions.get(batch.partition), "active", False) else None
    )
if BROKEN == "outputs":
    Step.send = send
if BROKEN == "ends":
    handlers_module.Unrepeated.do = BaseHandler.do
if os.environ.get("SABOTAGE_KEEP_OPEN"):
    ownership_module.end_abandoned_transactions = lambda *_: asyncio.sleep(0, [])
if BROKEN == "watermark":
    restore_module._high_watermarks = _stable_ends

app = importlib.import_module(f"agents.{ROLE}").app
