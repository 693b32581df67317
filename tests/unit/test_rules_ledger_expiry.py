"""When ledger rows are due, what is of an object that was forgotten, and keys that come in order of time."""

from __future__ import annotations

import pytest
from histories import BASE_MS, Life, object_created, task_event, types_of
from hypothesis import given
from hypothesis import strategies as st

from app.events import TaskCreated, TaskFinished, TaskStarted
from app.rules.ledger import ObjectRow, apply_object_created, apply_task_event
from app.rules.ledger_expiry import (
    ENTRIES_FROM,
    TIMES_KEY,
    StreamTimes,
    entry_key,
    is_of_expired,
    ledger_retention,
    look_at_of,
)
from app.rules.tally import Tally

HOUR_MS = 3_600_000
RETENTION = ledger_retention(HOUR_MS, 24 * HOUR_MS)
NOW_MS = BASE_MS + 100 * HOUR_MS


def row_of(*lives: Life) -> ObjectRow:
    """Return the row of an object with one task, whose events are a second apart."""
    row = ObjectRow()
    apply_object_created(row, object_created("7f3a", at_ms=BASE_MS, task_count=1), Tally())
    for number, (event_type, attempt, redrive) in enumerate(types_of(lives), 1):
        event = task_event(event_type, "7f3a", 0, at_ms=BASE_MS + number * 1_000, attempt=attempt, redrive=redrive)
        apply_task_event(row, event, Tally())
    return row


@pytest.mark.parametrize(
    ("lives", "last_s"),
    [
        ([Life(1, "finished")], 3),
        ([Life(1, "dead")], 4),
        ([Life(1, "cancelled before the start")], 2),
        ([Life(1, "dead"), Life(1, "finished")], 7),
    ],
)
def test_ended_object_is_due_a_retention_after_its_end(lives, last_s):
    """However it ended; a redriven one after its last end."""
    assert BASE_MS + last_s * 1_000 + HOUR_MS == RETENTION.due_at_ms(row_of(*lives), NOW_MS)


@pytest.mark.parametrize(
    ("lives", "last_s"),
    [
        ([], 0),
        ([Life(1, "queued")], 1),
        ([Life(2, "running")], 5),
        ([Life(1, "dead"), Life(1, "queued")], 4),
    ],
)
def test_object_that_never_ends_is_due_when_nothing_can_come_any_more(lives, last_s):
    """After the topics' retention twice and the ledger's, from its last sign of life on.

    A redrive is none, but it comes within the ledger's retention after the death, or not at all.
    """
    assert BASE_MS + last_s * 1_000 + 49 * HOUR_MS == RETENTION.due_at_ms(row_of(*lives), NOW_MS)


def test_clock_from_the_future_does_not_keep_a_row_for_ever():
    """An end that has not come yet, by stream time, counts as now."""
    row = row_of(Life(1, "finished"))
    assert BASE_MS - 5_000 + HOUR_MS == RETENTION.due_at_ms(row, BASE_MS - 5_000)


@given(st.integers(0, NOW_MS))
def test_next_look_is_not_before_the_row_is_due(due_at_ms):
    """And at most a hundredth of the retention later."""
    assert 0 <= RETENTION.look_at_ms(due_at_ms) - due_at_ms < HOUR_MS // 100


def test_ledger_time_is_that_of_the_topic_that_is_behind():
    """A topic that is read late, or a wrong clock at one of them, must not forget what the other still needs."""
    assert 5 == StreamTimes(objects_ms=5, task_events_ms=9).ledger_ms
    assert 5 == StreamTimes(objects_ms=9, task_events_ms=5).ledger_ms


def test_redrive_without_a_row_is_of_an_object_that_was_forgotten():
    """Its object was there when it died: whatever its own time says."""
    for kind in (TaskCreated, TaskStarted, TaskFinished):
        assert is_of_expired(task_event(kind, "7f3a", 0, at_ms=NOW_MS, redrive=1), BASE_MS)


def test_old_event_without_a_row_is_of_an_object_that_was_forgotten():
    """A young one may have overtaken its creation, and what begins a row always may."""
    old_ms, young_ms = BASE_MS - 1, BASE_MS
    assert is_of_expired(task_event(TaskStarted, "7f3a", 0, at_ms=old_ms), BASE_MS)
    assert not is_of_expired(task_event(TaskStarted, "7f3a", 0, at_ms=young_ms), BASE_MS)
    assert not is_of_expired(task_event(TaskCreated, "7f3a", 0, at_ms=old_ms), BASE_MS)
    assert not is_of_expired(object_created("7f3a", at_ms=old_ms), BASE_MS)


PLACES = st.tuples(st.integers(0, 1), st.integers(0, 2**40))


@given(st.lists(st.tuples(st.integers(0, 2**45), PLACES, st.integers(0, 5_000)), unique=True, max_size=20))
def test_entries_come_in_order_of_time_behind_the_stream_times(entries):
    """Byte order is order of time, no two entries share a key, and the stream times stand in front."""
    keys = [entry_key(*entry) for entry in entries]
    assert len(entries) == len(set(keys))
    assert [look_at_of(key) for key in sorted(keys)] == sorted(look_at_ms for look_at_ms, _, _ in entries)
    assert all(TIMES_KEY < ENTRIES_FROM <= key for key in keys)
