"""The recount against the bookkeeper: equal for whatever happened, and not for whatever was changed."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from histories import BASE_MS, SEEDS, delivered, histories, object_created, task_event
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_names import OBJECTS, TASK_EVENTS
from recounting import PARTITION, RecordedPartition

from app.events import TaskDead, TaskFailed, TaskFinished, TasksCreated, TaskStarted
from app.names import LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE
from app.rules.counts import HOUR_MS, TOTAL_SIZE_MS, WINDOW_MS, decode_counts, decode_window_key, encode_counts
from app.rules.ledger_rows import decode_row, encode_row
from app.rules.results import decode_result_row, encode_result_row, result_key
from ebs.cli.recount import summary_of
from ebs.recount.comparison import AHEAD
from ebs.recount.objects import brief

LIVES = st.tuples(
    histories(object_id="a"),
    histories(object_id="b"),
    histories(object_id="c", kind="mail"),
    histories(object_id="d", callbacks=True),
)


def beginning_first(events: list[Any]) -> list[Any]:
    """Return events with one of each object in front that is of no redrive, as the topics have them."""
    first = {one.object_id: one for one in reversed(events) if not getattr(one, "redrive", None)}
    return [*first.values(), *events]


@settings(max_examples=60, deadline=None)
@given(LIVES, SEEDS, st.integers(1, 3))
def test_recount_of_any_history_is_equal(lives, seed, slice_count):
    """Whatever order, repetition and lateness, cut into any steps: two programs that share no rule agree."""
    draw = Random(seed)
    world = RecordedPartition(window_grace_s=1, window_retention_h=draw.choice([0.001, 1, 24]))
    events = beginning_first(delivered([event for life in lives for event in life], seed))
    at_ms = BASE_MS
    for event in events:
        at_ms += draw.randrange(20_000)
        world.write(event, at_ms - draw.randrange(5_000))
        if draw.random() < 0.3:
            world.step(draw.randrange(1, 8))
    world.write(b"no event", at_ms)
    world.step()
    found = world.recount(slice_count)
    assert [] == [str(one) for one in found.differences]
    assert (4, {"objects": 0, "windows": 0, "totals": 0}) == (found.objects, found.incomparable)
    assert 3 == found.totals


def finished(world: RecordedPartition, object_id: str, at_ms: int, kind: str = "default") -> None:
    """Let an object with one task live, a second for each event."""
    world.write(object_created(object_id, at_ms=at_ms, kind=kind), at_ms)
    for number, event_type in enumerate((TasksCreated, TaskStarted, TaskFailed, TaskFinished), 1):
        event = task_event(event_type, object_id, 0, at_ms=at_ms + number * 1_000, kind=kind)
        world.write(event, at_ms + number * 1_000)


@pytest.fixture
def world() -> RecordedPartition:
    """Return a partition with two objects that have ended."""
    one = RecordedPartition(ledger_retention_h=2, seen_retention_h=1, retention_days=1)
    finished(one, "a", BASE_MS)
    finished(one, "b", BASE_MS + 20_000, kind="mail")
    one.step()
    return one


ROW_CHANGES = {
    "kind": lambda row: setattr(row, "kind", "other"),
    "created_at_ms": lambda row: setattr(row, "created_at_ms", row.created_at_ms + 1),
    "finished_at_ms": lambda row: setattr(row, "finished_at_ms", row.finished_at_ms + 1),
    "task 0 state": lambda row: setattr(row.tasks[0], "marks", 1),
    "task 0 attempts": lambda row: setattr(row.tasks[0], "started", 3),
    "task 0 started_at_ms": lambda row: setattr(row.tasks[0], "started_at_ms", 5),
    "task 0 ended_at_ms": lambda row: setattr(row.tasks[0], "ended_at_ms", 5),
    "task 0 wait_ms": lambda row: setattr(row.tasks[0], "wait_ms", 5),
    "task 0 spent_ms": lambda row: setattr(row.tasks[0], "spent_ms", 5),
    "tasks": lambda row: row.tasks.clear(),
}


@pytest.mark.parametrize("field", ROW_CHANGES)
def test_each_field_of_a_row_that_differs_is_named(world, field):
    """With the object, its partition and both values; the other object is not mentioned."""
    rows = world.stores[LEDGER_TABLE].rows
    row = decode_row(rows[b"a"])
    ROW_CHANGES[field](row)
    rows[b"a"] = encode_row(row)
    found = world.recount().differences
    assert field in {one.field for one in found}
    assert {(PARTITION, "object", "a")} == {one[:3] for one in found}


RESULT_CHANGES: dict[str, Any] = {
    "task 0 error": lambda row: setattr(row, "error", "another"),
    "task 0 result": lambda row: setattr(row, "result", b"5"),
}


@pytest.mark.parametrize("field", RESULT_CHANGES)
def test_result_and_error_that_differ_are_named(world, field):
    """They stand in rows of their own, and are compared like the rest of their task."""
    rows = world.stores[RESULTS_TABLE].rows
    key = result_key(b"a", 0)
    row = decode_result_row(rows[key])
    RESULT_CHANGES[field](row)
    rows[key] = encode_result_row(row)
    found = world.recount().differences
    assert [(PARTITION, "object", "a", field)] == [one[:4] for one in found]


def test_result_row_that_is_missing_or_too_many_is_a_difference(world):
    """A lost row, and one whose object the ledger does not know."""
    rows = world.stores[RESULTS_TABLE].rows
    rows[result_key(b"unknown", 7)] = rows.pop(result_key(b"a", 0))
    fields = {(one.name, one.field) for one in world.recount().differences}
    assert {("unknown", "task 7 result row"), ("a", "task 0 error")} == fields


def test_results_that_changed_while_they_were_compared_are_no_difference(world):
    """Compaction may have taken the row that belongs to the cut: that is said, and no more."""
    world.later_result_keys = {result_key(b"a", 0)}
    del world.stores[RESULTS_TABLE].rows[result_key(b"a", 0)]
    findings = world.recount()
    assert [] == findings.differences
    assert findings.incomparable["objects"]


def test_foreign_records_in_changelogs_are_passed_over(world):
    """What another program has written there is no row: it neither ends the recount nor is it a difference."""
    for store in world.stores.values():
        store.rows[b"\xff"] = b"junk"
    assert [] == world.recount().differences


AHEAD_MS = 3_000_000


def finished_ahead(world: RecordedPartition, object_id: str, at_ms: int) -> None:
    """Let an object live whose worker's clock is ahead, and the statistics count it while it lives."""
    world.write(object_created(object_id, at_ms=at_ms), at_ms)
    world.write(task_event(TasksCreated, object_id, 0, at_ms=at_ms + 10), at_ms + 10)
    world.step(now_ms=at_ms + 20)
    for number, event_type in enumerate((TaskStarted, TaskFailed, TaskFinished), 1):
        ahead_ms = at_ms + AHEAD_MS + number * 1_000
        world.write(task_event(event_type, object_id, 0, at_ms=ahead_ms), ahead_ms)
        world.step(now_ms=at_ms + number * 1_000 + 50)


def test_times_ahead_of_the_clock_of_the_statistics_are_not_compared(world):
    """The statistics count them as now, and nobody can know when that was. All else is compared, also of later ones."""
    finished_ahead(world, "ahead", BASE_MS + 60_000)
    for number in range(5):
        at_ms = BASE_MS + 120_000 + number * 20_000
        finished(world, f"later-{number}", at_ms)
        world.step(now_ms=at_ms + 5_000)
    found = world.recount()
    assert [] == [str(one) for one in found.differences]
    assert 8 == found.objects
    assert (1, True) == (found.incomparable["objects"], found.incomparable["windows"] > 0)
    assert [AHEAD] == list(found.reasons)
    assert found.windows > 5
    world.stores[LEDGER_TABLE].rows.pop(b"later-3")
    row = decode_row(world.stores[LEDGER_TABLE].rows[b"ahead"])
    row.tasks[0].started = 3
    world.stores[LEDGER_TABLE].rows[b"ahead"] = encode_row(row)
    named = {(one.name, one.field) for one in world.recount().differences}
    assert {("ahead", "task 0 attempts"), ("later-3", "row")} == named


def test_a_time_that_could_be_believed_is_compared(world):
    """A row that says an earlier time is wrong, unless the event was in the future when the row was written."""
    row = decode_row(world.stores[LEDGER_TABLE].rows[b"a"])
    row.tasks[0].started_at_ms -= 70_000
    world.stores[LEDGER_TABLE].rows[b"a"] = encode_row(row)
    assert ["task 0 started_at_ms"] == [one.field for one in world.recount().differences]


def test_long_results_are_compared_by_their_checksum():
    """A slice of objects may have gigabytes of them: what is kept of each is short, and another byte is seen."""
    long = b'"' + b"r" * 60_000 + b'"'
    shown = brief(long)
    assert len(shown) < 400
    assert shown != brief(long[:-2] + b's"')


def test_row_that_is_missing_or_too_many_is_a_difference(world):
    """A row without events and events without a row, each with what the other side says."""
    rows = world.stores[LEDGER_TABLE].rows
    rows[b"x"] = rows.pop(b"a")
    assert [("a", "row", None, "FINISHED"), ("x", "row", "FINISHED", None)] == [
        one[2:] for one in world.recount().differences
    ]


@pytest.mark.parametrize("name", ["tasks_started", "wait_ms", "spent_max_ms", "late_events", "object_histogram"])
@pytest.mark.parametrize("size_ms", [WINDOW_MS, TOTAL_SIZE_MS])
def test_each_figure_that_differs_is_named(world, name, size_ms):
    """Of a window and of a total; the other kind is not mentioned."""
    rows = world.stores[WINDOWS_TABLE].rows
    for key, data in rows.items():
        window, counts = decode_window_key(key), decode_counts(data)
        if (window.size_ms, window.kind) == (size_ms, "mail"):
            value = getattr(counts, name)
            setattr(counts, name, value | {5: 1} if isinstance(value, dict) else value + 1)
            rows[key] = encode_counts(counts)
            break
    found = world.recount().differences
    assert [("total" if size_ms == 0 else "window", name)] == [(one.what, one.field) for one in found]
    assert all(one.name.endswith("mail") for one in found)


def test_law_that_does_not_hold_is_a_difference(world):
    """Even where the total itself cannot be compared any more."""
    rows = world.stores[WINDOWS_TABLE].rows
    for key, data in rows.items():
        if decode_window_key(key).size_ms == TOTAL_SIZE_MS:
            counts = decode_counts(data)
            counts.dead_now += 1
            rows[key] = encode_counts(counts)
    world.lose(TASK_EVENTS, 1)
    assert {("default", "imbalance", -1), ("mail", "imbalance", -1)} == {
        (one.name, one.field, one.table) for one in world.recount().differences
    }


@pytest.mark.parametrize("topic", [OBJECTS, TASK_EVENTS])
def test_what_needs_records_that_are_gone_is_not_compared(world, topic):
    """It is said how much that is; what needs none of them is still compared, and no difference is made up."""
    finished(world, "c", BASE_MS + 120_000)
    world.step()
    world.lose(topic, 1)
    found = world.recount()
    assert [] == [str(one) for one in found.differences]
    assert (2, {"objects": 1, "totals": 2}) == (
        found.objects,
        {name: found.incomparable[name] for name in ("objects", "totals")},
    )
    assert found.windows >= 2
    assert found.incomparable["windows"] >= 1
    assert any("already deleted from the topics" in line for line in summary_of(found))


def test_object_of_which_only_the_creation_is_left_is_not_compared(world):
    """Its row knows tasks that nothing on the topics tells of any more."""
    finished(world, "c", BASE_MS + 120_000)
    world.step()
    world.lose(TASK_EVENTS, 4)
    found = world.recount()
    assert ([], 2, 1) == ([str(one) for one in found.differences], found.objects, found.incomparable["objects"])


def test_forgotten_object_is_no_difference(world):
    """Its row may be gone once it is due, not before; events that came too late are not compared."""
    later_ms = BASE_MS + 2 * HOUR_MS + 100_000
    finished(world, "c", later_ms)
    world.step()
    assert {b"c"} == set(world.stores[LEDGER_TABLE].rows)
    found = world.recount()
    assert ([], 1, 2) == ([str(one) for one in found.differences], found.objects, found.forgotten)
    world.write(task_event(TaskStarted, "a", 0, at_ms=later_ms, redrive=1), later_ms)
    world.step()
    found = world.recount()
    assert ([], 1, 1) == ([str(one) for one in found.differences], found.objects, found.forgotten)
    assert (1, 1) == (found.incomparable["objects"], found.incomparable["totals"])
    del world.stores[LEDGER_TABLE].rows[b"c"]
    assert ["c"] == [one.name for one in world.recount().differences]


def test_redrive_under_another_kind_counts_under_the_objects():
    """By the recount's own rule too."""
    world = RecordedPartition()
    world.write(object_created("a", at_ms=BASE_MS), BASE_MS)
    for event_type in (TasksCreated, TaskStarted, TaskDead):
        world.write(task_event(event_type, "a", 0, at_ms=BASE_MS), BASE_MS)
    for event_type in (TaskStarted, TasksCreated, TaskFinished):
        world.write(task_event(event_type, "a", 0, at_ms=BASE_MS, redrive=1, kind="mail"), BASE_MS)
        world.step()
        found = world.recount()
        assert ([], 1) == ([str(one) for one in found.differences], found.totals)


def test_row_that_was_replaced_meanwhile_is_not_compared(world):
    """Compaction may have taken the older record while the newer one is behind the cut."""
    world.stores[LEDGER_TABLE].rows.pop(b"a")
    world.later_keys = {b"a"}
    found = world.recount()
    assert ([], 1) == ([str(one) for one in found.differences], found.incomparable["objects"])
    assert "1 objects" in " ".join(summary_of(found))


def test_what_is_believed_of_clocks_and_partitions_is_recounted_so():
    """An event from the future counts as of its record; an object in another partition is not there."""
    one = RecordedPartition()
    one.write(object_created("a", at_ms=BASE_MS + 24 * HOUR_MS), BASE_MS)
    one.write(task_event(TasksCreated, "a", 0, at_ms=BASE_MS + 24 * HOUR_MS), BASE_MS)
    one.step()
    assert [] == one.recount().differences
    row = decode_row(one.stores[LEDGER_TABLE].rows[b"a"])
    assert BASE_MS == row.created_at_ms == row.tasks[0].created_at_ms
    elsewhere = RecordedPartition(partition_count=4)
    for object_id in ("f", "b"):  # in partition 0, and 1
        elsewhere.write(object_created(object_id, at_ms=BASE_MS), BASE_MS)
    elsewhere.step()
    assert ([], {b"f"}) == (elsewhere.recount().differences, set(elsewhere.stores[LEDGER_TABLE].rows))
