"""How long a worker takes to restore a large table: `make bench-restore`, or BENCH="--rows 100000 --only waiting".

- ledger: a statistics worker, and objects with three finished tasks;
- waiting: a processing worker, and delayed tasks.

Writes the rows into the changelog as the agents write them, starts one worker on an embedded Kafka and takes the time
that it tells itself, from its claim to its partitions being ready.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import re
import uuid
import zlib
from typing import TYPE_CHECKING

import uvloop
from aiokafka import AIOKafkaProducer
from engine_bench import request
from fleet import said, until
from histories import BASE_MS, object_created, task_event
from pipeline import PARTITIONS, TASKS_PER_OBJECT, Line, run_parts, running_system, usage_of
from plain_names import LEDGER_CHANGELOG, WAITING_CHANGELOG

from app.events import TaskFinished, TasksCreated, TaskStarted
from app.rules import ledger_rows, waiting_rows
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

_BATCH_BYTES = 1 << 19
_FAR_FUTURE_MS = 4_000_000_000_000
_READY = re.compile(r"are ready: (\d+) rows restored in ([\d.]+) s")


def finished_row(at_ms: int) -> bytes:
    """Return the row of an object that went its way: 3 tasks created, started, finished."""
    row, tally = ledger_rows.ObjectRow(), Tally()
    apply_object_created(row, object_created("x", at_ms=at_ms), tally)
    for event_type in (TasksCreated, TaskStarted, TaskFinished):
        for sequence in range(TASKS_PER_OBJECT):
            event = task_event(event_type, "x", sequence, at_ms=at_ms + 5, task_count=TASKS_PER_OBJECT)
            apply_task_event(row, event, tally)
    return ledger_rows.encode_row(row)


def ledger(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield rows of finished objects, under ids of their own."""
    values = [finished_row(BASE_MS + number) for number in range(1_000)]
    for number in range(count):
        yield uuid.uuid4().hex.encode(), values[number % len(values)]


def waiting(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield rows of delayed tasks."""
    for number in range(count):
        object_id = uuid.uuid4().hex
        row = waiting_rows.WaitingRow(BASE_MS, object_id.encode(), request(object_id), [], BASE_MS)
        yield waiting_rows.timed_key(_FAR_FUTURE_MS + number, number, 1), waiting_rows.encode_row(row)


TABLES = {
    "ledger": ("statistics", LEDGER_CHANGELOG, ledger, "1,000,000 rows in 15 s"),
    "waiting": ("processing", WAITING_CHANGELOG, waiting, "1,000,000 rows in 10 s"),
}
"""By table: the role that has it, its changelog, what writes its rows, and the target."""


async def write_rows(bootstrap: str, changelog: str, rows: Iterator[tuple[bytes, bytes]]) -> None:
    """Write rows into a changelog, spread over its partitions."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=_BATCH_BYTES) as producer:
        builders = {number: producer.create_batch() for number in range(PARTITIONS)}
        sent: list[asyncio.Future[object]] = []
        for key, value in rows:
            partition = zlib.crc32(key) % PARTITIONS
            if builders[partition].append(key=key, value=value, timestamp=None) is None:
                sent.append(await producer.send_batch(builders[partition], changelog, partition=partition))
                builders[partition] = producer.create_batch()
                builders[partition].append(key=key, value=value, timestamp=None)
        for partition, builder in builders.items():
            sent.append(await producer.send_batch(builder, changelog, partition=partition))
        await asyncio.gather(*sent)


async def restore(table: str, count: int) -> list[Line]:
    """Write rows of a table, let a worker restore them."""
    role, changelog, rows_of, target = TABLES[table]
    async with running_system() as (broker, fleet):
        await write_rows(broker.bootstrap, changelog, rows_of(count))
        worker = fleet.start(role)
        await until(lambda: said([worker], "are ready: "), "the restore", fleet=fleet, timeout_s=300)
        ready = _READY.search(worker.log())
        assert ready is not None
        usage = usage_of(worker.process.pid)
    restored, took_s = int(ready[1]), float(ready[2])
    if restored != count:
        raise SystemExit(f"{restored:,} rows were restored, {count:,} were written")
    return [
        Line(f"restore of {count:,} rows of the table {table}, s", f"{took_s:.1f}", target),
        Line("rows/s", f"{count / took_s:,.0f}", ""),
        Line("CPU of the worker since its start, s", f"{usage.cpu_s:.1f}", ""),
        Line("its peak memory, MB", f"{usage.peak_mb:.0f}", ""),
    ]


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for."""
    parts = {table: [functools.partial(restore, table, options.rows)] for table in TABLES}
    await run_parts(parts, options.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of each table (default: 1,000,000)")
    parser.add_argument("--only", choices=list(TABLES), help="one table only")
    uvloop.run(main(parser.parse_args()))
