"""CPU time of the statistics agent's own code, without Kafka: `make bench-bookkeeping`.

Objects of three tasks in steps as at full load (each wave of 4,000 records a step: objects with their tasks created,
then started, then finished), real stores below. Compare two versions on the same machine, one after the other.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fake_steps import FakeStep
from fakes import batch, record
from histories import BASE_MS, object_created, task_event
from plain_names import OBJECTS, TASK_EVENTS

from agents.counting.bookkeeper import Bookkeeper
from agents.statistics import app
from app.events import TaskFinished, TasksCreated, TaskStarted, encode
from app.settings.settings import load
from app.streaming.stores import StoreMemory, TableStore

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS_PER_OBJECT = 3
OBJECTS_PER_WAVE = 1_000
PARTITION = 0


def waves(object_count: int) -> Iterator[list[tuple[str, list[Any]]]]:
    """Yield the batches of each step, by topic, as events."""
    for first in range(0, object_count, OBJECTS_PER_WAVE):
        at_ms = BASE_MS + first * 10
        ids = [uuid.uuid4().hex for _ in range(min(OBJECTS_PER_WAVE, object_count - first))]
        created = [object_created(one, at_ms=at_ms) for one in ids]
        for event_type in (TasksCreated, TaskStarted, TaskFinished):
            events = [
                task_event(event_type, one, sequence, at_ms=at_ms, task_count=TASKS_PER_OBJECT)
                for one in ids
                for sequence in range(TASKS_PER_OBJECT)
            ]
            yield [*([(OBJECTS, created)] if event_type is TasksCreated else []), (TASK_EVENTS, events)]


def main(options: argparse.Namespace) -> None:
    """Work everything off and print the figure."""
    bookkeeper = Bookkeeper(load(partitions=1))
    memory = StoreMemory()
    with tempfile.TemporaryDirectory(prefix="ebs-bench-") as directory:
        stores: Any = {(name, PARTITION): TableStore(Path(directory) / name, memory) for name in app.tables}
        took_s = 0.0
        offsets = {OBJECTS: 0, TASK_EVENTS: 0}
        for wave in waves(options.objects):
            batches = []
            for topic, events in wave:
                first = offsets[topic]
                offsets[topic] += len(events)
                at_ms = events[0].at_ms
                records = [
                    record(topic, PARTITION, offset, encode(event), timestamp_ms=at_ms)
                    for offset, event in enumerate(events, first)
                ]
                batches.append(batch(topic, PARTITION, records, assignment=None, start=first))
            step: Any = FakeStep(batches, stores, at_ms)
            began_s = time.process_time()
            bookkeeper.record(step)
            step.commit()
            took_s += time.process_time() - began_s
        for store in stores.values():
            store.close()
    tasks = options.objects * TASKS_PER_OBJECT
    print(f"{took_s / tasks * 1_000:.4f} CPU s per 1,000 tasks ({options.objects:,} objects)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=30_000, help="objects of three tasks (default: 30,000)")
    main(parser.parse_args())
