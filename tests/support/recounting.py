"""A partition's topics and tables in memory: recorded by the bookkeeper in steps of any size, then recounted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from fake_steps import FakeStep, FakeStore
from fakes import batch, record
from plain_names import LEDGER_CHANGELOG, OBJECTS, RESULTS_CHANGELOG, TASK_EVENTS, WINDOWS_CHANGELOG

from agents.counting.bookkeeper import Bookkeeper
from app.events import ObjectCreated, encode
from app.names import EXPIRY_TABLE, LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE
from app.settings.settings import load
from ebs.recount.findings import Findings
from ebs.recount.partition import PartitionRecount
from ebs.recount.reading import Cut, Stretch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

PARTITION = 0


class RecordedPartition:
    """Topics that grow by `write`, tables that grow by `step`, and `recount` over both."""

    def __init__(self, partition_count: int = 1, **options: Any) -> None:
        self.settings = load(partitions=partition_count, **options)
        self.logs: dict[str, list[Any]] = {OBJECTS: [], TASK_EVENTS: []}
        self.begins = dict.fromkeys(self.logs, 0)
        self.stores = {name: FakeStore() for name in (LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE, EXPIRY_TABLE)}
        self.later_keys: set[bytes] = set()
        self.later_result_keys: set[bytes] = set()
        self._worked = dict.fromkeys(self.logs, 0)
        self._written_ms: dict[bytes, int] = {}
        self._bookkeeper = Bookkeeper(self.settings)

    def write(self, event: Any, timestamp_ms: int) -> None:
        """Append an event, or bytes that are none, to its topic."""
        topic = OBJECTS if isinstance(event, ObjectCreated) else TASK_EVENTS
        value = event if isinstance(event, bytes) else encode(event)
        log = self.logs[topic]
        log.append(record(topic, PARTITION, len(log), value, key=b"key", timestamp_ms=timestamp_ms))

    def step(self, limit: int = 1_000_000, now_ms: int | None = None) -> bool:
        """Let the bookkeeper work up to `limit` new records of each topic; returns False if there are none.

        `now_ms` is what its clock says; by default the newest of their timestamps.
        """
        batches = []
        for topic, log in self.logs.items():
            first = self._worked[topic]
            records = log[first : first + limit]
            self._worked[topic] += len(records)
            if records:
                batches.append(batch(topic, PARTITION, records, assignment=None, start=first))
        newest_ms = max((one.timestamp for each in batches for one in each.records), default=0)
        now_ms = newest_ms if now_ms is None else now_ms
        stores = {(name, PARTITION): store for name, store in self.stores.items()}
        step: Any = FakeStep(batches, stores, now_ms)
        self._bookkeeper.record(step)
        before = dict(self.stores[LEDGER_TABLE].rows)
        step.commit()
        changed = [key for key, row in self.stores[LEDGER_TABLE].rows.items() if row != before.get(key)]
        self._written_ms.update(dict.fromkeys(changed, now_ms))
        return bool(batches)

    def lose(self, topic: str, count: int) -> None:
        """Let a topic's retention take its first records."""
        self.begins[topic] = count

    def recount(self, slice_count: int = 1) -> Findings:
        """Recount everything that was worked; differences stand in the findings."""
        findings = Findings()
        rows = {
            LEDGER_CHANGELOG: LEDGER_TABLE,
            RESULTS_CHANGELOG: RESULTS_TABLE,
            WINDOWS_CHANGELOG: WINDOWS_TABLE,
        }
        logs: dict[str, Sequence[Any]] = dict(self.logs)
        for changelog, table in rows.items():
            stored = self.stores[table].rows.items()
            logs[changelog] = [
                record(changelog, PARTITION, offset, value, key=key, timestamp_ms=self._written_ms.get(key, 0))
                for offset, (key, value) in enumerate(stored)
            ]
        begins = self.begins | dict.fromkeys(rows, 0)
        ends = {name: len(log) for name, log in logs.items()} | self._worked
        cut = Cut(*(Stretch(TopicPartition(name, PARTITION), begins[name], ends[name]) for name in logs))

        async def read(stretch: Stretch) -> AsyncIterator[list[Any]]:
            yield list(logs[stretch.tp.topic][stretch.begin : stretch.end])

        async def changed_since(stretch: Stretch) -> set[bytes]:
            return self.later_result_keys if stretch.tp.topic == RESULTS_CHANGELOG else self.later_keys

        recount = PartitionRecount(read, cut, self.settings, findings, self.settings.partitions)
        findings.differences += asyncio.run(recount.run(slice_count, changed_since))
        return findings
