"""Forgetting objects by stream time: the entries of the table `expiry`, made, visited and moved inside of steps.

With an object's ledger row go the rows of its tasks' results.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from app.names import EXPIRY_TABLE, LEDGER_TABLE, RESULTS_TABLE
from app.rules.ledger_expiry import (
    ENTRIES_FROM,
    IDS_PER_ENTRY,
    LedgerRetention,
    StreamTimes,
    decode_ids,
    encode_ids,
    entry_key,
    look_at_of,
)
from app.rules.ledger_rows import decode_row, has_result_row, known_task, sequences_of
from app.rules.ledger_states import ended_at_ms
from app.rules.results import result_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.streaming.batching import RecordBatch
    from app.streaming.step import Step
    from app.streaming.tables import StepRows

log = logging.getLogger(__name__)

ENTRIES_PER_STEP = 200
ROWS_PER_STEP = 2_000
"""The most entries and rows that one step visits; it still finishes the object that it is at.

Without them all objects that ended in a busy hour would be forgotten in one giant transaction, a week later. Rows of
results count too; an object may have 10,000.
"""
_LOOK_EVERY_MS = 1_000


class LedgerSweep:
    """Makes entries for new rows, and deletes rows that are due."""

    def __init__(self, retention: LedgerRetention, objects: str) -> None:
        self._retention = retention
        self._objects = objects
        self._look_from: dict[int, int] = {}
        self._visited: dict[int, bytes] = {}

    def remember(self, step: Step, batches: Sequence[RecordBatch], born: Sequence[bytes], times: StreamTimes) -> None:
        """Make the entries of the rows that a step has made out of one partition's batches."""
        if born:
            look_at_ms = max(times.objects_ms, times.task_events_ms) + self._retention.ended_ms
            _put(step.rows(EXPIRY_TABLE, batches[0].partition), look_at_ms, self._place_of(batches), born, 0)

    def sweep(self, step: Step, batches: Sequence[RecordBatch], times: StreamTimes) -> None:
        """Delete the expired rows of a partition, and make the next entries of rows that have not expired yet."""
        partition, now_ms = batches[0].partition, times.ledger_ms
        if now_ms < self._look_from.get(partition, 0):
            return
        expiry = step.rows(EXPIRY_TABLE, partition)
        moved: dict[int, list[bytes]] = {}
        given_up = 0
        room = ROWS_PER_STEP
        # From the last entry visited on: the store would step over all that are deleted before it.
        keys = expiry.committed_keys(self._visited.get(partition, ENTRIES_FROM))
        for key in islice(keys, ENTRIES_PER_STEP):
            if look_at_of(key) > now_ms or room <= 0:
                break
            ids = decode_ids(expiry.get(key) or encode_ids([]))
            visit = self._visit(step, partition, ids, now_ms=now_ms, moved=moved, room=room)
            room -= visit.row_count
            given_up += visit.given_up
            self._visited[partition] = key
            if visit.id_count < len(ids):
                expiry.put(key, encode_ids(ids[visit.id_count :]))
            else:
                expiry.delete(key)
        else:
            room = 0  # there may be more
        if room > 0:
            self._look_from[partition] = now_ms + _LOOK_EVERY_MS
        number = 0
        for look_at_ms, ids in sorted(moved.items()):
            # Behind the numbers of the step's new rows.
            number = _put(expiry, look_at_ms, self._place_of(batches), ids, number or ROWS_PER_STEP)
        if given_up:
            log.warning(
                "%d objects of partition %d never ended and are forgotten: the topics no longer have their tasks",
                given_up,
                partition,
            )

    def _place_of(self, batches: Sequence[RecordBatch]) -> tuple[int, int]:
        first = batches[0]
        return int(first.topic != self._objects), first.records[0].offset

    def _visit(
        self, step: Step, partition: int, ids: list[bytes], *, now_ms: int, moved: dict[int, list[bytes]], room: int
    ) -> _Visit:
        """Look at the rows of an entry, until `room` is used up."""
        ledger = step.rows(LEDGER_TABLE, partition)
        results = step.rows(RESULTS_TABLE, partition)
        given_up = row_count = id_count = 0
        for key, stored in zip(ids, ledger.get_many(ids), strict=True):
            if row_count >= room:
                break
            id_count += 1
            row_count += 1
            if stored is None:
                continue
            row = decode_row(stored)
            due_at_ms = self._retention.due_at_ms(row, now_ms)
            if due_at_ms > now_ms:
                moved.setdefault(self._retention.look_at_ms(due_at_ms), []).append(key)
                continue
            ledger.delete(key)
            for sequence in sequences_of(row):
                if has_result_row(known_task(row, sequence)):
                    results.delete(result_key(key, sequence))
                    row_count += 1
            given_up += ended_at_ms(row) is None
        return _Visit(id_count, row_count, given_up)


class _Visit(NamedTuple):
    """How many ids of an entry were looked at, how many rows that meant, how many objects had never ended."""

    id_count: int
    row_count: int
    given_up: int


def _put(expiry: StepRows, look_at_ms: int, place: tuple[int, int], ids: Sequence[bytes], number: int) -> int:
    """Put ids into as many entries as they need, numbered from `number` on; returns the next number."""
    for first in range(0, len(ids), IDS_PER_ENTRY):
        expiry.put(entry_key(look_at_ms, place, number), encode_ids(ids[first : first + IDS_PER_ENTRY]))
        number += 1
    return number
