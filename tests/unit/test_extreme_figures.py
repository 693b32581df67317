"""Figures at the limits of their types: the impossible are dead letters with a reason, the possible are counted."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import Any

import msgspec
import pytest
from histories import BASE_MS, object_created, task_event
from recounting import RecordedPartition

from api.dashboard import words
from api.view.statistics_file import StatisticsFile
from app.events import (
    DECODE_ERRORS,
    MAX_INSTANT_MS,
    ObjectCreated,
    TaskCancelled,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    decode_object,
    decode_task_event,
    encode,
    explain_decode_error,
)
from app.names import WINDOWS_TABLE
from app.rules.counts import (
    MAX_SUM,
    TOTAL_SIZE_MS,
    WINDOW_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    describe_counts,
    encode_counts,
    encode_window_key,
)
from app.rules.ledger_descriptions import describe_object
from app.rules.ledger_rows import ObjectRow, TaskRow
from app.rules.worker_heartbeats import decode_heartbeat
from ebs.cli.instants import clock_text, instant_text

IMPOSSIBLE = (
    "-1",
    "9223372036854775808",
    "18446744073709551616",
    "1" + "0" * 400,
    "1e400",
    "1.5",
    "NaN",
    "-0.5",
    '"7"',
)
TYPES = (TasksCreated, TaskStarted, TaskFinished, TaskFailed, TaskRetried, TaskDead, TaskCancelled)
COUNTS = ("object_partition", "sequence", "first", "count", "task_count", "attempt", "redrive")
FIGURES = (*COUNTS, "at_ms", "wait_ms", "spent_ms")


def with_figure(event: Any, name: str, text: str) -> bytes:
    """Return an event's JSON in which a figure is what a text says, be that JSON or not."""
    fields = msgspec.json.decode(encode(event)) | {name: msgspec.Raw(text.encode())}
    return msgspec.json.encode(fields)


@pytest.mark.parametrize("text", IMPOSSIBLE)
@pytest.mark.parametrize("event_type", TYPES)
def test_impossible_figure_of_a_task_event_is_refused_with_a_reason(event_type, text):
    """Whatever field it is in: the record goes to the dead letters, and nothing is calculated with it."""
    event = task_event(event_type, "a", 0, at_ms=BASE_MS, redrive=1)
    for name in FIGURES:
        if name in event_type.__struct_fields__:
            with pytest.raises(DECODE_ERRORS) as caught:
                decode_task_event(with_figure(event, name, text))
            reason = str(explain_decode_error("task-events", caught.value))
            assert reason.startswith("not a valid record of task-events: ")
            assert len(reason) < 500


@pytest.mark.parametrize("text", IMPOSSIBLE)
@pytest.mark.parametrize("name", ["at_ms", "task_count"])
def test_impossible_figure_of_an_object_is_refused(name, text):
    """As those of its tasks are."""
    with pytest.raises(DECODE_ERRORS):
        decode_object(with_figure(object_created("a", at_ms=BASE_MS), name, text))


def test_sums_stop_at_what_a_row_takes():
    """However many durations are added up, in whatever order: the row can be written, read, described."""
    total = Counts()
    for _ in range(3):
        add_counts(total, Counts(wait_ms=2**62, spent_ms=MAX_SUM, object_ms=2**61, tasks_finished=1, queued_now=-1))
    assert (MAX_SUM, MAX_SUM, 3 * 2**61) == (total.wait_ms, total.spent_ms, total.object_ms)
    assert total == decode_counts(encode_counts(total))
    assert MAX_SUM == msgspec.json.decode(msgspec.json.encode(describe_counts(total)))["time_spent_ms"]


def test_statistics_go_on_where_a_sum_is_at_its_end():
    """40,000 of the longest durations came to more than a row takes, which ended the worker for good."""
    world = RecordedPartition()
    key = encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "default"))
    events = [object_created("a", at_ms=BASE_MS)] + [
        task_event(one, "a", 0, at_ms=BASE_MS, wait_ms=MAX_INSTANT_MS, spent_ms=MAX_INSTANT_MS)
        for one in (TasksCreated, TaskStarted, TaskFailed, TaskFinished)
    ]
    for event in events:
        world.write(event, BASE_MS)
    world.step()
    assert [] == world.recount().differences
    row = decode_counts(world.stores[WINDOWS_TABLE].rows[key])
    row.spent_ms = row.wait_ms = row.object_ms = MAX_SUM - 5
    world.stores[WINDOWS_TABLE].rows[key] = encode_counts(row)
    for one in (TasksCreated, TaskStarted, TaskFinished):
        world.write(task_event(one, "b", 0, at_ms=MAX_INSTANT_MS, wait_ms=MAX_INSTANT_MS, spent_ms=7), BASE_MS)
    world.step()
    after = decode_counts(world.stores[WINDOWS_TABLE].rows[key])
    assert (MAX_SUM, MAX_SUM, 2) == (after.spent_ms, after.wait_ms, after.tasks_finished)


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 2**63 - 1])
def test_record_stamped_at_the_ends_of_time_ends_nobody(timestamp_ms):
    """The clock of an outside producer may say anything."""
    world = RecordedPartition()
    for one in (TasksCreated, TaskStarted, TaskFinished):
        world.write(task_event(one, "a", 0, at_ms=BASE_MS), timestamp_ms)
    world.write(object_created("a", at_ms=MAX_INSTANT_MS), timestamp_ms)
    world.step()
    total = world.stores[WINDOWS_TABLE].rows[encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "default"))]
    assert (1, 1) == (decode_counts(total).objects_created, decode_counts(total).tasks_finished)


def test_object_of_the_longest_tasks_is_described():
    """Ten thousand tasks that each took as long as can be said."""
    row = ObjectRow("default", 10_000, 1, tasks=[TaskRow(spent_ms=68 * MAX_INSTANT_MS)] * 10_000)
    described = describe_object("a", row)
    assert MAX_SUM == described["time_spent_ms"]
    msgspec.json.encode(described)


def test_statistics_file_takes_the_highest_figures(tmp_path):
    """SQLite's integers end where the rows' do."""
    path = tmp_path / "stats.db"
    highest = Counts(**dict.fromkeys(("objects_created", "tasks_finished", "tasks_failed", "spent_ms"), MAX_SUM))
    key = WindowKey(WINDOW_MS, MAX_INSTANT_MS - MAX_INSTANT_MS % WINDOW_MS, "default")
    StatisticsFile(path).write({"default": highest}, {key: highest}, anew=True)
    with closing(sqlite3.connect(path)) as connection:
        assert [(MAX_SUM,)] == connection.execute("select time_spent_ms from statistics").fetchall()
        assert [("9999-12-31 23:59:50",)] == connection.execute("select start from windows").fetchall()


@pytest.mark.parametrize("value_ms", [0, 1, MAX_INSTANT_MS, MAX_SUM, 2**64])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
def test_words_are_found_for_any_figure(value_ms, zone, monkeypatch):
    """Of the command line and of the pages, in every time zone."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", zone)
        time.tzset()
        assert instant_text(value_ms)
        assert clock_text(value_ms)
    time.tzset()
    assert words.duration(value_ms)
    assert words.coarse(value_ms)
    assert words.day_and_moment(value_ms)
    assert words.ago(value_ms, BASE_MS)
    assert words.until(value_ms, BASE_MS)


@pytest.mark.parametrize("text", ["9223372036854775808", "1" + "0" * 400, "1e400", "-9223372036854775809", "NaN"])
@pytest.mark.parametrize("name", ["at_ms", "started_at_ms", "in_flight", "oldest_running_ms", "pid"])
def test_impossible_figure_of_a_heartbeat_makes_it_nobodys(name, text):
    """All pages and commands calculate with what workers say."""
    beat = {"worker": "w", "role": "processing", "at_ms": 1, "started_at_ms": 1} | {name: msgspec.Raw(text.encode())}
    assert decode_heartbeat(msgspec.json.encode(beat)) is None


def test_kind_of_a_task_event_is_bounded():
    """It stands in the keys of windows and in every row of its object."""
    for kind in ("", "k" * 65):
        with pytest.raises(DECODE_ERRORS):
            decode_task_event(encode(task_event(TaskStarted, "a", 0, at_ms=BASE_MS, kind=kind)))
    assert isinstance(object_created("a", at_ms=BASE_MS), ObjectCreated)
