"""Recounts one partition: its events in slices of objects, then its windows."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from app.events import DECODE_ERRORS, decode_object, decode_task_event
from app.names import LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE
from app.rules.counts import OTHERS, TOTAL_SIZE_MS, decode_window_key
from app.rules.distribution import why_refused
from app.rules.results import unpack_result_key
from app.rules.table_rows import why_no_row
from app.streaming.offset_notes import NOTE_KEY
from ebs.recount.comparison import (
    COMPACTED,
    RESULT_FIELDS,
    PartitionComparison,
    StoredRow,
    Terms,
    brief_result,
)
from ebs.recount.figures import WINDOW_MS, Expected
from ebs.recount.objects import ObjectFacts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from app.events import ObjectCreated
    from app.kafka.types import ConsumerRecord
    from app.rules.results import ResultRow
    from app.settings.settings import Settings
    from ebs.recount.findings import Difference, Findings
    from ebs.recount.reading import Cut, Stretch

    Read = Callable[[Stretch], AsyncIterator[list[Any]]]

_HOUR_MS = 3_600_000
_CLOCK_TOLERANCE_MS = 60_000


@dataclass(frozen=True)
class Slice:
    """One of `count` parts of a partition's objects, by the checksum of their ids."""

    number: int
    count: int

    def has(self, key: bytes) -> bool:
        """Return whether an object is in this slice."""
        return self.count == 1 or zlib.crc32(key) % self.count == self.number


def _value_of(record: ConsumerRecord) -> Any:
    return record.value


def _row_of(record: ConsumerRecord) -> StoredRow:
    return StoredRow(record.value, record.timestamp)


def _brief_result_of(record: ConsumerRecord) -> ResultRow:
    return brief_result(record.value)


def _object_of_row(key: bytes) -> bytes:
    return key


def _object_of_result(key: bytes) -> bytes:
    return unpack_result_key(key)[0]


class PartitionRecount:
    """Recounts the records of a `cut`, with the settings of the statistics workers and the number of partitions."""

    def __init__(self, read: Read, cut: Cut, settings: Settings, findings: Findings, partition_count: int) -> None:
        self._read = read
        self._cut = cut
        self._settings = settings
        self._findings = findings
        self._partition_count = partition_count
        self._ended_ms = round(settings.ledger_retention_h * _HOUR_MS)
        self._is_truncated = cut.objects.begin > 0 or cut.task_events.begin > 0
        self._known_from_ms = 0
        self._newest_ms = [0, 0]

    async def run(self, slice_count: int, changed_since: Callable[[Stretch], Any]) -> list[Difference]:
        """Return the differences; `changed_since` returns the keys that a changelog has after a stretch."""
        windows = await self._rows(WINDOWS_TABLE, self._cut.windows, Slice(0, 1))
        named = {key.kind for key in map(decode_window_key, windows) if key.size_ms == TOTAL_SIZE_MS}
        expected = Expected(lambda kind: kind if kind in named or OTHERS not in named else OTHERS)
        found: list[Difference] = []
        for number in range(slice_count):
            part = Slice(number, slice_count)
            # First of all, before compaction deletes records of the cut because of newer ones.
            rows = await self._rows(LEDGER_TABLE, self._cut.ledger, part, _row_of)
            results = await self._rows(RESULTS_TABLE, self._cut.results, part, _brief_result_of, _object_of_result)
            facts = await self._facts(part)
            found += self._comparison().rows(facts, rows, results)
            for one in facts.values():
                expected.add(one)
        expected.finish()
        found += self._comparison().windows(expected, windows)
        return await self._without_compacted(found, changed_since) if found else found

    def _comparison(self) -> PartitionComparison:
        objects_ms, events_ms = self._newest_ms
        terms = Terms(
            ended_ms=self._ended_ms,
            silent_ms=self._ended_ms + 2 * self._settings.retention_days * 24 * _HOUR_MS,
            windows_ms=round(self._settings.window_retention_h * _HOUR_MS),
            ledger_time_ms=min(objects_ms, events_ms),
            windows_time_ms=events_ms,
            is_truncated=self._is_truncated,
            known_from_ms=self._known_from_ms,
        )
        return PartitionComparison(self._cut.objects.tp.partition, terms, self._findings)

    async def _rows(
        self,
        table: str,
        changelog: Stretch,
        part: Slice,
        keep: Callable[[ConsumerRecord], Any] = _value_of,
        object_of: Callable[[bytes], bytes] = _object_of_row,
    ) -> dict[bytes, Any]:
        """Return the last row of each key of a slice, converted by `keep`; `object_of` returns the object of a key.

        A record that is not a row of the table is skipped: a restore refuses it.
        """
        rows: dict[bytes, Any] = {}
        async for records in self._read(changelog):
            for record in records:
                if record.key == NOTE_KEY or why_no_row(table, record.key, record.value):
                    continue
                if part.has(object_of(record.key)):
                    if record.value is None:
                        rows.pop(record.key, None)
                    else:
                        rows[record.key] = keep(record)
        return rows

    async def _facts(self, part: Slice) -> dict[str, ObjectFacts]:
        facts: dict[str, ObjectFacts] = {}
        async for event, newest_ms in self._events(self._cut.objects, 0, self._decode_object):
            if part.has(event.object_id.encode()):
                one = facts.setdefault(event.object_id, ObjectFacts())
                if one.created is not None and newest_ms - one.last_ms >= self._ended_ms:
                    one.is_doubtful = True
                one.add_creation(event, is_late=self._is_late(event.at_ms, newest_ms))
        async for event, newest_ms in self._events(self._cut.task_events, 1, decode_task_event):
            if part.has(event.object_id.encode()):
                one = facts.setdefault(event.object_id, ObjectFacts())
                if one.last_ms and newest_ms - one.last_ms >= self._ended_ms:
                    one.is_doubtful = True
                one.add(event, is_late=self._is_late(event.at_ms, newest_ms))
        for one in facts.values():
            one.is_doubtful |= not one.has_beginning if self._is_truncated else not one.has_any_beginning
        return facts

    async def _events(
        self, stretch: Stretch, topic_number: int, decode: Callable[[bytes], Any]
    ) -> AsyncIterator[tuple[Any, int]]:
        """Yield each event with the newest timestamp of its topic up to there."""
        newest_ms = 0
        is_first = stretch.begin > 0
        async for records in self._read(stretch):
            for record in records:
                newest_ms = max(newest_ms, record.timestamp)
                if is_first:
                    self._known_from_ms = max(self._known_from_ms, record.timestamp)
                    is_first = False
                try:
                    event = decode(record.value)
                except DECODE_ERRORS:
                    continue  # it is in the dead letters
                if event is not None:
                    yield _as_believed(event, record.timestamp), newest_ms
        self._newest_ms[topic_number] = newest_ms

    def _decode_object(self, value: bytes) -> ObjectCreated | None:
        """Return an object; None if it was refused and never had tasks, or was moved to another partition."""
        event = decode_object(value)
        if zlib.crc32(event.object_id.encode()) % self._partition_count != self._cut.objects.tp.partition:
            return None  # distribution moves it to the partition of its id
        settings = self._settings
        refusal = why_refused(event, len(value), settings.tasks_per_object, settings.max_tasks_per_object)
        return event if refusal is None else None

    def _is_late(self, at_ms: int, newest_ms: int) -> bool:
        window_end_ms = at_ms // WINDOW_MS * WINDOW_MS + WINDOW_MS
        return window_end_ms + round(self._settings.window_grace_s * 1_000) <= newest_ms

    async def _without_compacted(
        self, found: list[Difference], changed_since: Callable[[Stretch], Any]
    ) -> list[Difference]:
        """Leave out missing rows that have changed since: compaction may have left only their newer record."""
        changed = {key.decode("utf-8", "replace") for key in await changed_since(self._cut.ledger)}
        changed_results = changed | {
            _object_of_result(key).decode("utf-8", "replace") for key in await changed_since(self._cut.results)
        }
        kept = []
        for one in found:
            if one.what == "object" and one.field == "row" and one.table is None and one.name in changed:
                self._findings.objects -= 1
                self._findings.skip("objects", COMPACTED)
            elif one.what == "object" and one.name in changed_results and one.field.endswith(RESULT_FIELDS):
                self._findings.skip("objects", COMPACTED)
            else:
                kept.append(one)
        return kept


def _as_believed(event: Any, stamp_ms: int) -> Any:
    """Return an event with the time that counts: the record's timestamp if `at_ms` is more than a minute later."""
    is_believed = event.at_ms <= stamp_ms + _CLOCK_TOLERANCE_MS or stamp_ms <= 0
    return event if is_believed else msgspec.structs.replace(event, at_ms=stamp_ms)
