"""How long a statistics worker takes to restore a large ledger: `make bench-restore`, or BENCH="--objects 100000".

Writes rows of objects with three finished tasks into the ledger's changelog, as the agent writes them, starts one
worker on an embedded Kafka and takes the time that it tells itself, from its claim to its partitions being ready.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import uuid
import zlib

import uvloop
from aiokafka import AIOKafkaProducer
from fleet import said, until
from histories import BASE_MS, object_created, task_event
from pipeline import PARTITIONS, TASKS_PER_OBJECT, console, running_system, usage_of
from plain_names import LEDGER_CHANGELOG

from app.events import TaskFinished, TasksCreated, TaskStarted
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow, encode_row
from app.rules.tally import Tally

_BATCH_BYTES = 1 << 19
_READY = re.compile(r"are ready: (\d+) rows restored in ([\d.]+) s")


def finished_row(at_ms: int) -> bytes:
    """Return the row of an object that went its way: 3 tasks created, started, finished."""
    row, tally = ObjectRow(), Tally()
    apply_object_created(row, object_created("x", at_ms=at_ms), tally)
    for event_type in (TasksCreated, TaskStarted, TaskFinished):
        for sequence in range(TASKS_PER_OBJECT):
            event = task_event(event_type, "x", sequence, at_ms=at_ms + 5, task_count=TASKS_PER_OBJECT)
            apply_task_event(row, event, tally)
    return encode_row(row)


async def write_rows(bootstrap: str, count: int) -> int:
    """Write rows under ids of their own; returns the size of one."""
    rows = [finished_row(BASE_MS + number) for number in range(1_000)]
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=_BATCH_BYTES) as producer:
        builders = {number: producer.create_batch() for number in range(PARTITIONS)}
        sent: list[asyncio.Future[object]] = []
        for number in range(count):
            key = uuid.uuid4().hex.encode()
            partition = zlib.crc32(key) % PARTITIONS
            value = rows[number % len(rows)]
            if builders[partition].append(key=key, value=value, timestamp=None) is None:
                sent.append(await producer.send_batch(builders[partition], LEDGER_CHANGELOG, partition=partition))
                builders[partition] = producer.create_batch()
                builders[partition].append(key=key, value=value, timestamp=None)
        for partition, builder in builders.items():
            sent.append(await producer.send_batch(builder, LEDGER_CHANGELOG, partition=partition))
        await asyncio.gather(*sent)
    return len(rows[0])


async def main(options: argparse.Namespace) -> None:
    """Write, restore, and print the figure."""
    async with running_system() as (broker, fleet):
        size_bytes = await write_rows(broker.bootstrap, options.objects)
        worker = fleet.start("statistics")
        await until(lambda: said([worker], "are ready: "), "the restore", fleet=fleet, timeout_s=300)
        ready = _READY.search(worker.log())
        assert ready is not None
        usage = usage_of(worker.process.pid)
    count, took_s = int(ready[1]), float(ready[2])
    if count != options.objects:
        raise SystemExit(f"{count:,} rows were restored, {options.objects:,} were written")
    console.print(
        f"restore of {count:,} ledger rows ({size_bytes} bytes each): {took_s:.1f} s, {count / took_s:,.0f} rows/s, "
        f"{usage.cpu_s:.1f} CPU s, peak memory {usage.peak_mb:.0f} MB (target: 1,000,000 rows in 15 s)"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000, help="ledger rows (default: 1,000,000)")
    uvloop.run(main(parser.parse_args()))
