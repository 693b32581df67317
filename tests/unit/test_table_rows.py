"""What is a row of a table, and what another program has written into its changelog."""

from __future__ import annotations

import pytest

from app.names import (
    EXPIRY_TABLE,
    LEDGER_TABLE,
    REDRIVEN_TABLE,
    RESULTS_TABLE,
    SCHEDULES_TABLE,
    SEEN_TABLE,
    WAITING_TABLE,
    WINDOWS_TABLE,
)
from app.rules import schedule_rows, waiting_rows
from app.rules.counts import HOUR_MS, TOTAL_SIZE_MS, Counts, WindowKey, encode_counts, encode_window_key
from app.rules.distribution import SeenKeys
from app.rules.ledger_expiry import (
    TIMES_KEY,
    TOLD_TO_KEY,
    StreamTimes,
    encode_ids,
    encode_times,
    encode_told_to,
    entry_key,
)
from app.rules.ledger_rows import ObjectRow, encode_row
from app.rules.results import ResultRow, encode_result_row, result_key
from app.rules.schedules import Schedule, encode_schedule
from app.rules.table_rows import why_no_row
from app.rules.waiting_rows import WaitingRow
from app.topics.catalogue import TABLES

SEEN_KEY = SeenKeys(HOUR_MS).write_key("ö", 1_795_489_276_303)
TOTAL_KEY = encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "default"))
WAITING_KEY = waiting_rows.timed_key(1_795_489_276_303, 17, 2)
ROWS = [
    (SEEN_TABLE, SEEN_KEY, b"1"),
    (REDRIVEN_TABLE, SEEN_KEY, b"17"),
    (WAITING_TABLE, WAITING_KEY, waiting_rows.encode_row(WaitingRow(5, b"a-0", b"{}", [("h", b"v")]))),
    (WAITING_TABLE, waiting_rows.start_key(WAITING_KEY), b"1"),
    (SCHEDULES_TABLE, schedule_rows.definition_key(b"a"), encode_schedule(Schedule(name="a", cron="0 6 * * *"))),
    (SCHEDULES_TABLE, schedule_rows.state_key(b"a"), schedule_rows.encode_state(schedule_rows.ScheduleState(5))),
    (LEDGER_TABLE, "ö".encode(), encode_row(ObjectRow("mail"))),
    (RESULTS_TABLE, result_key(b"a", 10_001), encode_result_row(ResultRow(b"1", "e"))),
    (WINDOWS_TABLE, TOTAL_KEY, encode_counts(Counts())),
    (WINDOWS_TABLE, encode_window_key(WindowKey(HOUR_MS, HOUR_MS, "ö")), encode_counts(Counts())),
    (EXPIRY_TABLE, TIMES_KEY, encode_times(StreamTimes(1, 2))),
    (EXPIRY_TABLE, TOLD_TO_KEY, encode_told_to(7)),
    (EXPIRY_TABLE, entry_key(1, (0, 5), 2), encode_ids([b"a"])),
]


def test_each_table_has_its_check():
    """A restore asks for it, and so does the command that puts rows back."""
    assert {table for tables in TABLES.values() for table in tables} == {table for table, _key, _value in ROWS}


@pytest.mark.parametrize(("table", "key", "value"), ROWS)
def test_rows_and_tombstones_are_rows(table, key, value):
    """What workers write."""
    assert ("", "") == (why_no_row(table, key, value), why_no_row(table, key, None))


@pytest.mark.parametrize(("table", "key", "_value"), ROWS)
@pytest.mark.parametrize("junk", [b"", b"junk", b"{}", b"\xff" * 40, b"\x91" * 5_000, b"\x93\xc0\xc0\xc0"])
def test_other_values_are_none(table, key, _value, junk):
    """Text, JSON, bytes, deep nesting, rows of another shape."""
    assert "" != why_no_row(table, key, junk)


@pytest.mark.parametrize(
    ("table", "value"), [(table, value) for table, _key, value in ROWS if table not in {LEDGER_TABLE, SEEN_TABLE}]
)
@pytest.mark.parametrize("key", [None, b"", b"junk", b"\xff" * 5, b"a" * 70_000])
def test_other_keys_are_none(table, value, key):
    """A key that no worker writes; of `seen` and the ledger only a missing one can be told."""
    if table != REDRIVEN_TABLE or len(key or b"") <= len(b"bucket"):
        assert "" != why_no_row(table, key, value)


@pytest.mark.parametrize("table", [SEEN_TABLE, LEDGER_TABLE])
@pytest.mark.parametrize("key", [None, b"", b"\xff"])
def test_keys_without_an_id_are_none(table, key):
    """An id is text, and in `seen` there is a bucket before it."""
    value = {SEEN_TABLE: b"1", LEDGER_TABLE: encode_row(ObjectRow())}[table]
    assert "" != why_no_row(table, key, value)
