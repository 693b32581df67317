"""The benchmark of the whole pipeline: `make bench`, or `make bench BENCH="--objects 50000 --only throughput"`.

Starts an embedded Kafka with the JVM's full compiler, real workers, one of each role, and prints a table:

- throughput: objects preloaded, no-op handler, tasks finished and counted per second, with the ledger and without;
- latency: objects written at a rate, from the broker's acknowledgement to the ledger row FINISHED being readable;
- takeover: kill -9 of one of two workers, until the other one works all of its partitions.

Every run ends with the checker over all topics. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from checker import differences
from feed import feed
from fleet import ROLES, SESSION_TIMEOUT_S, Fleet, said, until
from plain_names import LEDGER_CHANGELOG, TASK_EVENTS, WINDOWS_CHANGELOG
from rich.console import Console
from rich.table import Table

from app.kafka.cluster import Cluster
from app.rules.counts import TOTAL_SIZE_MS, decode_counts, decode_window_key
from app.rules.ledger_rows import decode_row
from app.settings.settings import load
from app.streaming.offset_notes import NOTE_KEY
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

PARTITIONS = 8
TASKS_PER_OBJECT = 3
LATENCY_S = 15
console = Console()


class Line(NamedTuple):
    """One line of the result."""

    figure: str
    value: str
    target: str


class Usage(NamedTuple):
    """What a worker has used: CPU seconds since its start, peak memory in MB."""

    cpu_s: float
    peak_mb: float


def usage_of(pid: int) -> Usage:
    """Read a process's usage from the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    peak_kb = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return Usage(cpu_s, int(peak_kb[1]) / 1024 if peak_kb else 0.0)


@asynccontextmanager
async def running_system(env: Mapping[str, str] | None = None) -> AsyncIterator[tuple[EmbeddedKafka, Fleet]]:
    """Start a broker with all topics, and a fleet without workers yet."""
    with tempfile.TemporaryDirectory(prefix="ebs-bench-") as directory:
        broker = EmbeddedKafka(Path(directory), port=0, quick_start=False)
        await broker.start()
        await ensure_topics(Cluster(broker.bootstrap), catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
        fleet = Fleet(broker.bootstrap, Path(directory), {"EBS_PARTITIONS": str(PARTITIONS), **(env or {})})
        try:
            yield broker, fleet
        finally:
            fleet.stop()
            await broker.stop()


@asynccontextmanager
async def reading(broker: EmbeddedKafka, *topics: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Read topics from their beginning, committed records only."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=20,
    )
    async with consumer:
        consumer.assign([TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)])
        yield consumer


class FinishedTasks:
    """How many tasks have finished, as the windows say: of all topics, these have the fewest records to read."""

    def __init__(self, windows: AIOKafkaConsumer) -> None:
        self._windows = windows
        self._counts: dict[tuple[int, bytes], int] = {}

    async def has(self, count: int) -> bool:
        """Read on, and return whether `count` tasks have finished."""
        for records in (await self._windows.getmany(timeout_ms=100)).values():
            for record in records:
                if record.key == NOTE_KEY or not record.value:
                    continue
                if decode_window_key(record.key).size_ms == TOTAL_SIZE_MS:
                    self._counts[record.partition, record.key] = decode_counts(record.value).tasks_finished
        return sum(self._counts.values()) >= count


async def check(broker: EmbeddedKafka, *, ledger: bool = True) -> str:
    """Return `exact`, or end the benchmark: a wrong figure is worth nothing."""
    if not ledger:
        return "not checked (no ledger)"
    found = await differences(broker.bootstrap)
    if found:
        raise SystemExit("the counts are wrong:\n" + "\n".join(found))
    return "exact"


async def throughput(objects: int, *, ledger: bool) -> list[Line]:
    """Work off preloaded objects as fast as possible."""
    async with running_system({"EBS_LEDGER": str(ledger).lower()}) as (broker, fleet):
        await feed(broker.bootstrap, objects, partitions=PARTITIONS)
        fleet.start_all()
        tasks = objects * TASKS_PER_OBJECT
        async with reading(broker, TASK_EVENTS) as events:
            await events.getone()
        began_at_s = time.perf_counter()
        before = {role: usage_of(fleet.workers[f"{role}-1"].process.pid) for role in ROLES}
        async with reading(broker, WINDOWS_CHANGELOG) as windows:
            finished = FinishedTasks(windows)
            while not await finished.has(tasks):
                pass
        took_s = time.perf_counter() - began_at_s
        after = {role: usage_of(fleet.workers[f"{role}-1"].process.pid) for role in ROLES}
        verdict = await check(broker, ledger=ledger)
        log_mb = sum(log.stat().st_size for log in fleet.directory.rglob("*-[0-9]*/*.log")) / 1e6
    cpu = ", ".join(f"{role} {(after[role].cpu_s - before[role].cpu_s) / tasks * 1_000:.3f}" for role in ROLES)
    memory = ", ".join(f"{role} {after[role].peak_mb:.0f}" for role in ROLES)
    what = "ledger and windows" if ledger else "windows only"
    return [
        Line(
            f"{what}: tasks/s ({objects:,} objects, {verdict})",
            f"{tasks / took_s:,.0f}",
            "20,000" if ledger else "40,000",
        ),
        Line(f"{what}: CPU s per 1,000 tasks", cpu, ""),
        Line(f"{what}: peak memory, MB", memory, "under 300 each"),
        Line(f"{what}: all records on the broker's disk, MB", f"{log_mb:,.0f}", ""),
    ]


async def latency(rate_per_s: int, target: str) -> list[Line]:
    """Measure from acknowledgement to the FINISHED ledger row, at a rate, after a warm-up of the JVM."""
    async with running_system() as (broker, fleet):
        fleet.start_all()
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        await feed(broker.bootstrap, rate_per_s * 10, partitions=PARTITIONS, rate_per_s=rate_per_s)
        count = rate_per_s * LATENCY_S
        finished_at_s: dict[str, float] = {}
        accepted: dict[str, float] = {}

        async def follow(consumer: AIOKafkaConsumer) -> None:
            while not accepted or len(finished_at_s) < count:
                for records in (await consumer.getmany(timeout_ms=10)).values():
                    now_s = time.time()
                    for record in records:
                        if record.key != NOTE_KEY and record.value and decode_row(record.value).finished_at_ms:
                            finished_at_s.setdefault(record.key.decode(), now_s)

        async with reading(broker, LEDGER_CHANGELOG) as consumer:
            await consumer.seek_to_end()
            following = asyncio.create_task(follow(consumer))
            ids = await feed(
                broker.bootstrap, count, partitions=PARTITIONS, rate_per_s=rate_per_s, accepted_at_s=accepted
            )
            await asyncio.wait_for(following, timeout=60)
        spread = sorted(finished_at_s[one] - accepted[one] for one in ids if one in finished_at_s)
        verdict = await check(broker)
    p50, p99 = statistics.median(spread), spread[int(len(spread) * 0.99)]
    figure = f"latency at {rate_per_s:,} objects/s, median / p99 ({verdict})"
    return [Line(figure, f"{p50 * 1_000:.0f} / {p99 * 1_000:.0f} ms", target)]


async def takeover(role: str) -> list[Line]:
    """Kill one of two workers under load; measure until the other has all partitions ready."""
    async with running_system() as (broker, fleet):
        fleet.start_all()
        survivor = fleet.start(role, f"{role}-2")
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        accepted_at_s: dict[str, float] = {}
        feeding = asyncio.create_task(
            feed(broker.bootstrap, 4_000, partitions=PARTITIONS, rate_per_s=200, accepted_at_s=accepted_at_s)
        )
        await until(lambda: len(accepted_at_s) >= 800, "the first objects", fleet=fleet)
        ready_count = survivor.log().count("are ready: ")
        fleet.kill(f"{role}-1")
        del fleet.workers[f"{role}-1"]
        took_s = await until(lambda: survivor.log().count("are ready: ") > ready_count, "the takeover", fleet=fleet)
        await feeding
    target = f"{SESSION_TIMEOUT_S + 5:.0f} s (session {SESSION_TIMEOUT_S:.0f} s)"
    return [Line(f"takeover after kill -9 of {role}", f"{took_s:.1f} s", target)]


async def run_parts(parts: Mapping[str, Sequence[Callable[[], Awaitable[list[Line]]]]], only: str | None) -> None:
    """Run the parts that were asked for, saying each line as it comes, and print the table."""
    lines: list[Line] = []
    for name, runs in parts.items():
        if only in (None, name):
            for run in runs:
                done = await run()
                for line in done:
                    console.print(f"{line.figure}: {line.value}")
                lines += done
    table = Table("figure", "value", "target")
    for line in lines:
        table.add_row(*line)
    console.print(table)


async def main(options: argparse.Namespace) -> None:
    """Run what was asked for."""
    await run_parts(
        {
            "throughput": [
                lambda: throughput(options.objects, ledger=True),
                lambda: throughput(options.objects, ledger=False),
            ],
            "latency": [
                lambda: latency(100, "300 / 600 ms"),
                lambda: latency(2_000, "800 / 1,500 ms"),
            ],
            "takeover": [lambda role=role: takeover(role) for role in ROLES],
        },
        options.only,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=200_000, help="objects of a throughput run (default: 200,000)")
    parser.add_argument("--only", choices=["throughput", "latency", "takeover"], help="one part only")
    uvloop.run(main(parser.parse_args()))
