"""Ledger rows are forgotten by stream time: when, how many at once, and what comes too late for them."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
from fake_steps import FakeStep, FakeStore
from fakes import batch, record
from histories import BASE_MS, object_created, task_event
from plain_names import OBJECTS, TASK_EVENTS

from agents.counting import ledger_sweep
from agents.counting.bookkeeper import Bookkeeper
from app.events import (
    CALLBACK_SEQUENCE,
    JOIN_SEQUENCE,
    SPLIT_SEQUENCE,
    ObjectCreated,
    TaskCancelled,
    TaskDead,
    TaskFinished,
    TasksCreated,
    TaskStarted,
    encode,
)
from app.names import EXPIRY_TABLE, LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE
from app.rules.counts import HOUR_MS, TOTAL_SIZE_MS, Counts, WindowKey, decode_counts, encode_window_key
from app.rules.ledger_expiry import IDS_PER_ENTRY, TIMES_KEY, encode_ids
from app.rules.results import result_key
from app.settings.settings import load

PARTITION = 0
RETENTION_MS = 2 * HOUR_MS
A_LOOK_MS = RETENTION_MS // 100 + 1_000
"""By which a row may stay longer."""
SILENT_MS = RETENTION_MS + 2 * 24 * HOUR_MS


class World:
    """The tables of a partition, and a bookkeeper whose steps are at an instant (ms after `BASE_MS`)."""

    def __init__(self) -> None:
        names = (LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE, EXPIRY_TABLE)
        self.stores: dict[str, FakeStore] = {name: FakeStore() for name in names}
        self._offsets: Counter[str] = Counter()
        self.settings = load(partitions=1, ledger_retention_h=2, seen_retention_h=1, retention_days=1)
        self.restart()

    def restart(self) -> None:
        """Begin a new life: the tables stay, as a restore brings them back."""
        self.bookkeeper = Bookkeeper(self.settings)

    @property
    def known(self) -> set[str]:
        """The ids that have a row."""
        return {key.decode() for key in self.stores[LEDGER_TABLE].rows}

    @property
    def entry_count(self) -> int:
        """Entries of the table `expiry`."""
        return len(self.stores[EXPIRY_TABLE].rows.keys() - {TIMES_KEY})

    @property
    def total(self) -> Counts:
        """The totals of the kind default."""
        return decode_counts(self.stores[WINDOWS_TABLE].rows[encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "default"))])

    def step(self, after_ms: int, *events: Any) -> FakeStep:
        """Record events in one step; each topic has a batch, and both have a record at that time."""
        by_topic: dict[str, list[bytes]] = {OBJECTS: [], TASK_EVENTS: []}
        for event in events:
            by_topic[OBJECTS if isinstance(event, ObjectCreated) else TASK_EVENTS].append(encode(event))
        batches = []
        for topic, values in by_topic.items():
            records = []
            for value in values or [encode(PASSING) if topic == OBJECTS else b"no event"]:
                records.append(record(topic, PARTITION, self._offsets[topic], value, timestamp_ms=BASE_MS + after_ms))
                self._offsets[topic] += 1
            batches.append(batch(topic, PARTITION, records, assignment=None))
        step: Any = FakeStep(batches, {(name, PARTITION): store for name, store in self.stores.items()})
        self.bookkeeper.record(step)
        step.commit()
        return step

    def live(self, object_id: str, after_ms: int, *types: Any, redrive: int = 0) -> None:
        """Let events of an object with one task happen at an instant."""
        at_ms = BASE_MS + after_ms
        events = [task_event(one, object_id, 0, at_ms=at_ms, redrive=redrive) for one in types]
        self.step(after_ms, *([] if redrive else [object_created(object_id, at_ms=at_ms)]), *events)


PASSING = object_created("passing", at_ms=BASE_MS, task_count=10_000)
"""An object that asks for more tasks than it may have: it only makes time pass."""
ENDINGS = [(TaskStarted, TaskFinished), (TaskStarted, TaskDead), (TaskCancelled,)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_ended_object_is_forgotten_after_the_retention(ending):
    """A tombstone for its row, by stream time, not before its time and not long after; figures stay."""
    world = World()
    world.live("a", 0, TasksCreated, *ending)
    before = world.total
    world.step(RETENTION_MS - 1)
    assert {"a"} == world.known
    step = world.step(RETENTION_MS + A_LOOK_MS)
    assert {b"a": None} == step.rows_of[LEDGER_TABLE, PARTITION].changed
    assert (set(), 0) == (world.known, world.entry_count)
    assert before == world.total


def test_row_is_forgotten_after_a_restart_too():
    """What is due stands in a table of its own, so a worker that takes over goes on."""
    world = World()
    world.live("a", 0, TasksCreated, TaskStarted, TaskFinished)
    world.restart()
    world.step(RETENTION_MS + A_LOOK_MS)
    assert set() == world.known


def test_object_is_kept_from_its_end_on_not_from_its_beginning():
    """One that was worked on for long is looked at early, and again when it is due."""
    world = World()
    world.live("a", 0, TasksCreated, TaskStarted)
    end_ms = RETENTION_MS // 2
    world.step(end_ms, task_event(TaskFinished, "a", 0, at_ms=BASE_MS + end_ms))
    world.step(RETENTION_MS + A_LOOK_MS)
    assert ({"a"}, 1) == (world.known, world.entry_count)
    world.step(end_ms + RETENTION_MS - 1)
    assert {"a"} == world.known
    world.step(end_ms + RETENTION_MS + A_LOOK_MS)
    assert (set(), 0) == (world.known, world.entry_count)


def test_redriven_object_lives_from_its_last_end():
    """A redrive within the retention makes the row live on."""
    world = World()
    world.live("a", 0, TasksCreated, TaskStarted, TaskDead)
    redriven_ms = RETENTION_MS - 60_000
    world.live("a", redriven_ms, TasksCreated, TaskStarted, TaskFinished, redrive=1)
    world.step(RETENTION_MS + A_LOOK_MS)
    assert {"a"} == world.known
    assert (0, 1, 0) == (world.total.dead_now, world.total.finished_now, world.total.imbalance)
    world.step(redriven_ms + RETENTION_MS + A_LOOK_MS)
    assert set() == world.known


def test_object_that_never_ends_is_kept_until_nothing_can_come_any_more(caplog):
    """The topics' retention twice and the ledger's after its last sign of life; then it goes, and that is said."""
    world = World()
    world.live("a", 0, TasksCreated)
    world.step(RETENTION_MS + A_LOOK_MS)
    world.step(SILENT_MS - 1)
    assert {"a"} == world.known
    with caplog.at_level(logging.WARNING):
        world.step(SILENT_MS + A_LOOK_MS)
    assert set() == world.known
    assert "1 objects of partition 0 never ended" in caplog.text


def test_row_stays_while_one_of_the_topics_is_behind():
    """Rows go by the time of the slower topic: what it still has must find them."""
    world = World()
    world.live("a", 0, TasksCreated, TaskStarted, TaskFinished)
    for topic in (OBJECTS, TASK_EVENTS):
        value = encode(PASSING) if topic == OBJECTS else b"no event"
        ahead = record(topic, PARTITION, 50, value, timestamp_ms=BASE_MS + 9 * RETENTION_MS)
        stores = {(name, PARTITION): FakeStore(store.rows) for name, store in world.stores.items()}
        step: Any = FakeStep([batch(topic, PARTITION, [ahead], assignment=None)], stores)
        Bookkeeper(world.settings).record(step)
        step.commit()
        assert b"a" in stores[LEDGER_TABLE, PARTITION].rows


def test_late_redrive_does_not_bring_half_an_object_back():
    """An object that was forgotten stays so; its events are counted as that, and the law holds."""
    world = World()
    world.live("a", 0, TasksCreated, TaskStarted, TaskDead)
    world.step(RETENTION_MS + A_LOOK_MS)
    before = world.total
    world.live("a", RETENTION_MS + 2 * A_LOOK_MS, TasksCreated, TaskStarted, TaskFinished, redrive=1)
    after = world.total
    assert set() == world.known
    assert (3, 0) == (after.expired_events, after.imbalance)
    assert (before.tasks_started, before.tasks_finished, before.dead_now) == (
        after.tasks_started,
        after.tasks_finished,
        after.dead_now,
    )


def test_late_event_of_long_ago_does_not_bring_half_an_object_back():
    """An event that is older than the retention and finds no row is counted as late for its object, and no more."""
    world = World()
    world.step(10 * RETENTION_MS)
    world.step(10 * RETENTION_MS, task_event(TaskFinished, "a", 0, at_ms=BASE_MS))
    assert (set(), 1, 0) == (world.known, world.total.expired_events, world.total.tasks_finished)


def test_same_id_again_after_its_object_was_forgotten_is_a_new_object():
    """As it is to the distributor, which remembers ids for less long."""
    world = World()
    world.live("a", 0, TasksCreated, TaskStarted, TaskFinished)
    again_ms = RETENTION_MS + A_LOOK_MS
    world.step(again_ms)
    world.live("a", again_ms, TasksCreated, TaskStarted, TaskFinished)
    assert {"a"} == world.known
    assert (2, 2, 0) == (world.total.objects_created, world.total.finished_now, world.total.imbalance)


def test_many_rows_are_forgotten_in_steps_of_bounded_size():
    """A busy hour's objects, a retention later: bounded tombstones in each step, all of them in a few."""
    world = World()
    count = 3 * ledger_sweep.ROWS_PER_STEP
    for first in range(0, count, 1_500):
        events = []
        for number in range(first, first + 1_500):
            events += [task_event(one, f"o{number}", 0, at_ms=BASE_MS) for one in (TasksCreated, TaskCancelled)]
        world.step(0, *events)
    assert (count, 2 * 4) == (len(world.known), world.entry_count)
    later_ms = RETENTION_MS + A_LOOK_MS
    steps = 0
    while world.known:
        step = world.step(later_ms)
        steps += 1
        assert len(step.rows_of[LEDGER_TABLE, PARTITION].changed) < ledger_sweep.ROWS_PER_STEP + IDS_PER_ENTRY
        assert steps <= count // ledger_sweep.ROWS_PER_STEP + 1
    assert 0 == world.entry_count


def test_results_go_with_their_object():
    """A tombstone for each row of a result or an error, none for tasks that had neither; also of join and callbacks."""
    world = World()
    events = [
        task_event(one, "a", sequence, at_ms=BASE_MS, task_count=3, result=result)
        for sequence, result in enumerate((b"7", b"null", b'"x"'))
        for one in (TasksCreated, TaskStarted, TaskFinished)
    ]
    more = (SPLIT_SEQUENCE, JOIN_SEQUENCE, CALLBACK_SEQUENCE)
    events += [
        task_event(one, "a", sequence, at_ms=BASE_MS, result=b"1")
        for sequence in more
        for one in (TasksCreated, TaskStarted, TaskFinished)
    ]
    world.step(0, *events)
    keys = {result_key(b"a", sequence) for sequence in (0, 2, *more)}
    assert keys == set(world.stores[RESULTS_TABLE].rows)
    step = world.step(RETENTION_MS + A_LOOK_MS)
    assert dict.fromkeys(keys) == step.rows_of[RESULTS_TABLE, PARTITION].changed
    assert (set(), {}) == (world.known, world.stores[RESULTS_TABLE].rows)


def test_many_results_are_forgotten_in_steps_of_bounded_size():
    """Ids share an entry, and each may have ten thousand rows of results: the rest of an entry waits for its turn."""
    world = World()
    task_count = ledger_sweep.ROWS_PER_STEP
    for name in ("a", "b", "c"):
        end = [
            task_event(TaskDead, name, sequence, at_ms=BASE_MS, task_count=task_count) for sequence in range(task_count)
        ]
        world.step(0, task_event(TasksCreated, name, 0, at_ms=BASE_MS, task_count=task_count), *end)
    expiry = world.stores[EXPIRY_TABLE].rows
    entries = [key for key in expiry if key != TIMES_KEY]
    expiry[entries[0]] = encode_ids([b"a", b"b", b"c"])
    for key in entries[1:]:
        del expiry[key]
    for known in ({"b", "c"}, {"c"}, set()):
        step = world.step(RETENTION_MS + A_LOOK_MS)
        assert known == world.known
        assert task_count == len(step.rows_of[RESULTS_TABLE, PARTITION].changed)
    assert ({}, 0) == (world.stores[RESULTS_TABLE].rows, world.entry_count)


def test_a_steps_new_rows_share_an_entry():
    """So an entry costs next to nothing; the id stands in it once."""
    world = World()
    events = [task_event(TasksCreated, f"o{number}", 0, at_ms=BASE_MS) for number in range(900)]
    world.step(0, *events)
    world.step(1, *(task_event(TaskStarted, f"o{number}", 0, at_ms=BASE_MS) for number in range(900)))
    assert 1 == world.entry_count
