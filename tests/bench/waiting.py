"""Delayed tasks in great number: `make bench-waiting`, or `make bench-waiting BENCH="--tasks 50000"`.

Objects of 10 tasks each come in, all delayed, to be due within one minute (fewer tasks: within a part of it). While
they wait the processing worker is killed and starts again. Then they come due. Told are:

- how long it takes until all of them wait in the table, and what that occupies: memory of the worker, its disk, the
  changelog on the broker's disk;
- how long the restore takes after `kill -9`;
- how fast they run once they are due, by the times of their events.

Every task must have started and finished exactly once, none of them early. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import uvloop
from feed import feed
from fleet import Fleet, said, until
from pipeline import PARTITIONS, FinishedTasks, Line, reading, run_parts, running_system, usage_of
from plain_names import TASK_EVENTS, WINDOWS_CHANGELOG, WORKERS

from app.rules.worker_heartbeats import decode_heartbeat

if TYPE_CHECKING:
    from pathlib import Path

    from aiokafka import AIOKafkaConsumer

    from ebs.local.embedded_kafka import EmbeddedKafka

TASKS_PER_OBJECT = 10
DUE_WITHIN_S = 60
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


async def run(options: argparse.Namespace) -> list[Line]:
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
    """Read all events of tasks."""
    told = Told(Counter(), Counter(), 1 << 62, 0)
    decode = msgspec.json.Decoder(Event).decode
    async with reading(broker, TASK_EVENTS) as events:
        ends = await events.end_offsets(events.assignment())
        while any([await events.position(tp) < end for tp, end in ends.items()]):
            for records in (await events.getmany(timeout_ms=200)).values():
                for record in records:
                    event = decode(record.value)
                    if event.type == "TASK_STARTED":
                        told.started[event.task_id] += 1
                        told = told._replace(first_ms=min(told.first_ms, event.at_ms))
                    elif event.type == "TASK_FINISHED":
                        told.finished[event.task_id] += 1
                        told = told._replace(last_ms=max(told.last_ms, event.at_ms))
    return told


def check(told: Told, count: int, first_due_s: float) -> None:
    """End the benchmark if a task did not run exactly once, or too early: a wrong figure is worth nothing."""
    for what, counts in (("started", told.started), ("finished", told.finished)):
        if len(counts) != count or counts.total() != count:
            raise SystemExit(f"{len(counts):,} of {count:,} tasks {what}, {counts.total():,} times in all")
    if told.first_ms < first_due_s * 1_000:
        raise SystemExit(f"a task started {first_due_s * 1_000 - told.first_ms:.0f} ms early")


async def main(options: argparse.Namespace) -> None:
    """Run it."""
    await run_parts({"waiting": [lambda: run(options)]}, None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=_MILLION, help="delayed tasks (default: 1,000,000)")
    uvloop.run(main(parser.parse_args()))
