"""Tasks that wait for their time: `make bench-waiting`, or `make bench-waiting BENCH="--tasks 50000 --only million"`.

- lateness: 50 delayed tasks and 50 retries a second; told is how long after its due time each started.
- million: so many delayed tasks at once.

For `million`, objects of 10 tasks each come in, all delayed, to be due within one minute (fewer tasks: within a part of
it). While they wait the processing worker is killed and starts again. Then they come due. Told are:

- how long it takes until all of them wait in the table, and what that occupies: memory of the worker, its disk, the
  changelog on the broker's disk;
- how long the restore takes after `kill -9`;
- how fast they run once they are due, by the times of their events.

Every task must have started and finished exactly once. In both parts, none may be early. Run it on a machine that does
nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import uvloop
from fault_handlers import PLANNED
from feed import feed
from fleet import Fleet, said, until
from pipeline import PARTITIONS, FinishedTasks, Line, reading, run_parts, running_system, usage_of
from plain_names import TASK_EVENTS, WINDOWS_CHANGELOG, WORKERS

from app.rules.worker_heartbeats import decode_heartbeat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiokafka import AIOKafkaConsumer

    from ebs.local.embedded_kafka import EmbeddedKafka

TASKS_PER_OBJECT = 10
DUE_WITHIN_S = 60
DELAYED_PER_S = 50
DELAY_S = 5
FLAKY_PER_S = 25
"""Each of these tasks has two retries."""
WARM_UP_S = 10
LATENESS_S = 30
_MILLION = 1_000_000
_ACCEPTED_PER_S = 3_500
"""At least so many tasks are accepted a second: the first one is due when all of them surely wait."""
_RESTART_S = 90
_PATIENCE_S = 1_200.0
_MIB = 1 << 20
_READY = re.compile(r"are ready: (\d+) rows restored in ([\d.]+) s")


class Event(msgspec.Struct):
    """What is needed of an event of a task."""

    type: str
    task_id: str = ""
    at_ms: int = 0
    attempt: int = 0
    starts_at_ms: int = 0
    due_at_ms: int = 0


class Told(NamedTuple):
    """What the events say: how often each task started and finished, and when."""

    started: Counter[str]
    finished: Counter[str]
    first_ms: int
    last_ms: int


class WaitingTasks:
    """How many tasks wait, as the heartbeats of the worker say."""

    def __init__(self, heartbeats: AIOKafkaConsumer) -> None:
        self._heartbeats = heartbeats
        self.count = 0

    async def has(self, count: int) -> bool:
        """Read on, and return whether so many wait."""
        for records in (await self._heartbeats.getmany(timeout_ms=200)).values():
            for record in records:
                heartbeat = record.value and decode_heartbeat(record.value)
                if heartbeat and heartbeat.role == "processing":
                    self.count = sum(one.waiting_count for one in heartbeat.waiting)
        return self.count >= count


async def lateness() -> list[Line]:
    """Let delays and retries come due at a steady rate, after a warm-up of the JVM."""
    async with running_system(PLANNED) as (broker, fleet):
        fleet.start_all()
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        began_at_s = time.time()
        async with asyncio.TaskGroup() as group:
            one_task = {"task_count": 1}
            flows = (("delayed", DELAYED_PER_S, {**one_task, "delay_s": DELAY_S}), ("flaky", FLAKY_PER_S, one_task))
            for name, per_s, fields in flows:
                count = per_s * (WARM_UP_S + LATENESS_S)
                how = {"name": name, "rate_per_s": per_s, "fields": lambda _number, fields=fields: fields}
                group.create_task(feed(broker.bootstrap, count, partitions=PARTITIONS, **how))  # type: ignore[arg-type]
        async with reading(broker, WINDOWS_CHANGELOG) as windows:
            finished = FinishedTasks(windows)
            count = (DELAYED_PER_S + FLAKY_PER_S) * (WARM_UP_S + LATENESS_S)
            await until(lambda: finished.has(count), "the end of all", fleet=fleet, timeout_s=_PATIENCE_S)
        late_ms = await late_starts(broker, measured_from_ms=round((began_at_s + WARM_UP_S + DELAY_S) * 1_000))
    return [
        Line(
            f"{len(of_one):,} {name} at 100 tasks due a second: started after they were due, median / p99 / first, ms",
            f"{statistics.median(of_one):.0f} / {of_one[len(of_one) * 99 // 100]} / {of_one[0]}",
            "100 / 500 / 0 or more",
        )
        for name, of_one in late_ms.items()
    ]


async def late_starts(broker: EmbeddedKafka, *, measured_from_ms: int) -> dict[str, list[int]]:
    """Return how late (ms) delayed tasks and retries started that were due from an instant on, in order."""
    due_at_ms: dict[tuple[str, int], int] = {}
    started: list[Event] = []
    async for event in all_events(broker):
        if event.type == "TASK_RETRIED":
            due_at_ms[event.task_id, event.attempt + 1] = event.due_at_ms
        elif event.type == "TASK_STARTED":
            started.append(event)
    late_ms: dict[str, list[int]] = {"delayed tasks": [], "retries": []}
    for event in started:
        due_ms = event.starts_at_ms if event.attempt == 1 else due_at_ms[event.task_id, event.attempt]
        if due_ms >= measured_from_ms:
            late_ms["retries" if event.attempt > 1 else "delayed tasks"].append(event.at_ms - due_ms)
    early_ms = -min(min(of_one) for of_one in late_ms.values())
    if early_ms > 0:
        raise SystemExit(f"a task started {early_ms} ms early")
    return {name: sorted(of_one) for name, of_one in late_ms.items()}


async def million(options: argparse.Namespace) -> list[Line]:
    """Let tasks wait, kill their worker, let them come due."""
    count = options.tasks
    due_within_s = DUE_WITHIN_S * count / _MILLION
    async with running_system({"EBS_CONCURRENCY": "1000"}) as (broker, fleet):
        fleet.start_all()
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        began_at_s = time.time()
        first_due_s = round(began_at_s + count / _ACCEPTED_PER_S + _RESTART_S)
        await let_in(broker, count, first_due_s, due_within_s)
        async with reading(broker, WORKERS) as heartbeats:
            waiting = WaitingTasks(heartbeats)
            await until(lambda: waiting.has(count), "all tasks to wait", fleet=fleet, timeout_s=_PATIENCE_S)
        accepted_s = time.time() - began_at_s
        used = usage_of(fleet.workers["processing-1"].process.pid)
        sizes = sizes_of(fleet)
        restored, up_s = await restore(fleet, count)
        left_s = first_due_s - time.time()
        if left_s < 0:
            raise SystemExit(f"the first tasks were due {-left_s:.0f} s before the worker was there again")
        async with reading(broker, WINDOWS_CHANGELOG) as windows:
            finished = FinishedTasks(windows)
            await until(lambda: finished.has(count), "the end of all", fleet=fleet, timeout_s=_PATIENCE_S)
        peak_mb = usage_of(fleet.workers["processing-1"].process.pid).peak_mb
        told = await events_of(broker)
    check(told, count, first_due_s)
    late_ms = round(told.first_ms - first_due_s * 1_000)
    took_s = (told.last_ms - first_due_s * 1_000) / 1_000
    return [
        Line(f"{count:,} delayed tasks: until all of them wait, s", f"{accepted_s:.0f}", ""),
        Line("tasks/s until then", f"{count / accepted_s:,.0f}", ""),
        Line("memory of the worker while they wait, peak, MB", f"{used.peak_mb:.0f}", "under 300"),
        Line("its disk / changelog on the broker, MB", " / ".join(f"{one:.0f}" for one in sizes), ""),
        Line("restore after kill -9: rows, s (by its log)", f"{restored[0]:,}, {restored[1]:.1f}", "under 10 s"),
        Line("from kill -9 to partitions ready, s", f"{up_s:.1f}", ""),
        Line("memory of the restored worker, peak, MB", f"{peak_mb:.0f}", "under 300"),
        Line(f"due within {due_within_s:.0f} s: first start after that, ms", f"{late_ms}", ""),
        Line("tasks/s from the first due time to the last end (each exactly once)", f"{count / took_s:,.0f}", "8,000"),
    ]


async def let_in(broker: EmbeddedKafka, count: int, first_due_s: float, due_within_s: float) -> None:
    """Write the objects of so many tasks, whose due times are spread evenly."""
    objects = count // TASKS_PER_OBJECT
    step_s = due_within_s / objects

    def fields(number: int) -> dict[str, object]:
        due_at = datetime.fromtimestamp(first_due_s + number * step_s, UTC)
        return {"task_count": TASKS_PER_OBJECT, "due_at": due_at}

    await feed(broker.bootstrap, objects, partitions=PARTITIONS, fields=fields)


async def restore(fleet: Fleet, count: int) -> tuple[tuple[int, float], float]:
    """Kill the worker and start it again; returns how many rows it has read in which time, and the whole time."""
    fleet.kill("processing-1")
    began_at_s = time.perf_counter()
    worker = fleet.start("processing", "processing-1", EBS_WORKER_ID="again")
    told = worker.log().count("are ready: ")
    await until(lambda: worker.log().count("are ready: ") > told, "the restore", fleet=fleet, timeout_s=300)
    ready = _READY.findall(worker.log())[-1]
    if int(ready[0]) < count:
        raise SystemExit(f"{int(ready[0]):,} rows were restored, {count:,} tasks wait")
    return (int(ready[0]), float(ready[1])), time.perf_counter() - began_at_s


def sizes_of(fleet: Fleet) -> tuple[float, float]:
    """Return in MB what the worker's tables occupy, and the changelog on the broker."""
    return tuple(  # type: ignore[return-value]  # two
        sum(file.stat().st_size for file in files if file.is_file()) / _MIB
        for files in (
            [file for folder in (fleet.directory / "data").rglob("*waiting*") for file in _files(folder)],
            fleet.directory.rglob("*processing-waiting-changelog-*/*.log"),
        )
    )


def _files(folder: Path) -> list[Path]:
    return list(folder.rglob("*")) if folder.is_dir() else [folder]


async def events_of(broker: EmbeddedKafka) -> Told:
    """Count all events of tasks."""
    told = Told(Counter(), Counter(), 1 << 62, 0)
    async for event in all_events(broker):
        if event.type == "TASK_STARTED":
            told.started[event.task_id] += 1
            told = told._replace(first_ms=min(told.first_ms, event.at_ms))
        elif event.type == "TASK_FINISHED":
            told.finished[event.task_id] += 1
            told = told._replace(last_ms=max(told.last_ms, event.at_ms))
    return told


async def all_events(broker: EmbeddedKafka) -> AsyncIterator[Event]:
    """Read all events of tasks that are there now."""
    decode = msgspec.json.Decoder(Event).decode
    async with reading(broker, TASK_EVENTS) as events:
        ends = await events.end_offsets(events.assignment())
        while any([await events.position(tp) < end for tp, end in ends.items()]):
            for records in (await events.getmany(timeout_ms=200)).values():
                for record in records:
                    yield decode(record.value)


def check(told: Told, count: int, first_due_s: float) -> None:
    """End the benchmark if a task did not run exactly once, or too early: a wrong figure is worth nothing."""
    for what, counts in (("started", told.started), ("finished", told.finished)):
        if len(counts) != count or counts.total() != count:
            raise SystemExit(f"{len(counts):,} of {count:,} tasks {what}, {counts.total():,} times in all")
    if told.first_ms < first_due_s * 1_000:
        raise SystemExit(f"a task started {first_due_s * 1_000 - told.first_ms:.0f} ms early")


async def main(options: argparse.Namespace) -> None:
    """Run it."""
    await run_parts({"lateness": [lateness], "million": [lambda: million(options)]}, options.only)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=_MILLION, help="delayed tasks (default: 1,000,000)")
    parser.add_argument("--only", choices=["lateness", "million"], help="one part only")
    uvloop.run(main(parser.parse_args()))
