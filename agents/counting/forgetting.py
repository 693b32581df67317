"""Forgetting ledger rows by stream time: the entries of the table `expiry`, made, visited and moved inside of steps."""

from __future__ import annotations

import logging
from itertools import islice
from typing import TYPE_CHECKING

from app.rules.expiry import (
    ENTRIES_FROM,
    IDS_PER_ENTRY,
    LedgerRetention,
    StreamTimes,
    decode_ids,
    encode_ids,
    entry_key,
    look_at_of,
)
from app.rules.ledger import decode_row
from app.rules.ledger_states import ended_at_ms
from app.topics import EXPIRY_TABLE, LEDGER_TABLE, OBJECTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.streaming.batching import RecordBatch
    from app.streaming.tables import StepRows
    from app.streaming.transactions import Step

log = logging.getLogger(__name__)

ENTRIES_PER_STEP = 200
IDS_PER_STEP = 2_000
"""What one step visits at most: the end of a busy hour, a week later, must not make one giant transaction."""
_LOOK_EVERY_MS = 1_000


class Forgetting:
    """Makes entries for new rows, and deletes rows that are due."""

    def __init__(self, retention: LedgerRetention) -> None:
        self._retention = retention
        self._look_from: dict[int, int] = {}
        self._visited: dict[int, bytes] = {}

    def remember(self, step: Step, batches: Sequence[RecordBatch], born: Sequence[bytes], times: StreamTimes) -> None:
        """Make the entries of the rows that a step has made out of one partition's batches."""
        if born:
            look_at_ms = max(times.objects_ms, times.task_events_ms) + self._retention.ended_ms
            _put(step.rows(EXPIRY_TABLE, batches[0].partition), look_at_ms, _place_of(batches), born, 0)

    def forget(self, step: Step, batches: Sequence[RecordBatch], times: StreamTimes) -> None:
        """Delete the rows of a partition that are due, and make the next entries of those that are not yet."""
        partition, now_ms = batches[0].partition, times.ledger_ms
        if now_ms < self._look_from.get(partition, 0):
            return
        expiry = step.rows(EXPIRY_TABLE, partition)
        moved: dict[int, list[bytes]] = {}
        given_up = visited = 0
        # From the last entry visited on: the store would step over all that are deleted before it.
        keys = expiry.committed_keys(self._visited.get(partition, ENTRIES_FROM))
        for key in islice(keys, ENTRIES_PER_STEP):
            if look_at_of(key) > now_ms or visited >= IDS_PER_STEP:
                break
            ids = decode_ids(expiry.get(key) or encode_ids([]))
            visited += len(ids)
            given_up += self._visit(step.rows(LEDGER_TABLE, partition), ids, now_ms, moved)
            expiry.delete(key)
            self._visited[partition] = key
        else:
            visited = IDS_PER_STEP  # there may be more
        if visited < IDS_PER_STEP:
            self._look_from[partition] = now_ms + _LOOK_EVERY_MS
        number = 0
        for look_at_ms, ids in sorted(moved.items()):
            # Behind the numbers of the step's new rows.
            number = _put(expiry, look_at_ms, _place_of(batches), ids, number or IDS_PER_STEP)
        if given_up:
            log.warning(
                "%d objects of partition %d never ended and are forgotten: their tasks are no longer on the topics",
                given_up,
                partition,
            )

    def _visit(self, ledger: StepRows, ids: list[bytes], now_ms: int, moved: dict[int, list[bytes]]) -> int:
        """Look at the rows of an entry; returns how many were deleted that had never ended."""
        given_up = 0
        for key, stored in zip(ids, ledger.get_many(ids), strict=True):
            if stored is None:
                continue
            row = decode_row(stored)
            due_at_ms = self._retention.due_at_ms(row, now_ms)
            if due_at_ms > now_ms:
                moved.setdefault(self._retention.look_at_ms(due_at_ms), []).append(key)
                continue
            ledger.delete(key)
            given_up += ended_at_ms(row) is None
        return given_up


def _put(expiry: StepRows, look_at_ms: int, place: tuple[int, int], ids: Sequence[bytes], number: int) -> int:
    """Put ids into as many entries as they need, numbered from `number` on; returns the next number."""
    for first in range(0, len(ids), IDS_PER_ENTRY):
        expiry.put(entry_key(look_at_ms, place, number), encode_ids(ids[first : first + IDS_PER_ENTRY]))
        number += 1
    return number


def _place_of(batches: Sequence[RecordBatch]) -> tuple[int, int]:
    first = batches[0]
    return int(first.topic != OBJECTS), first.records[0].offset
