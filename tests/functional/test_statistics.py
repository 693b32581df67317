"""The bookkeeper with tables in memory: windows that equal a recount, whatever order and repetition events come in."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import msgspec
import pytest
from fake_steps import NEVER_MS, FakeStep, FakeStore
from fakes import batch, record
from histories import BASE_MS, SEEDS, URL, delivered, histories, object_created, task_event
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_names import DEAD_LETTERS, OBJECT_EVENTS, OBJECTS, TASK_EVENTS, TASK_REQUESTS
from recounting import RecordedPartition

from agents.counting.bookkeeper import Bookkeeper
from agents.future_stamps import future_stamps
from app.events import (
    JOIN_SEQUENCE,
    MAX_RESULT_BYTES,
    AboutObject,
    ObjectCreated,
    TaskFailed,
    TaskFinished,
    TasksCreated,
    TaskStarted,
    decode_task_request,
    encode,
)
from app.names import EXPIRY_TABLE, LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE
from app.rules.counts import (
    HOUR_MS,
    MAX_KINDS,
    MINUTE_MS,
    OTHERS,
    STATE_FIELDS,
    TOTAL_SIZE_MS,
    WINDOW_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    decode_window_key,
    encode_window_key,
)
from app.rules.distribution import MAX_OBJECT_BYTES
from app.rules.ledger_descriptions import describe_object
from app.rules.ledger_expiry import TIMES_KEY, TOLD_TO_KEY, decode_times, encode_told_to
from app.rules.ledger_rows import decode_row
from app.rules.results import decode_result_row, result_key
from app.settings.settings import load
from app.topics.catalogue import MAX_RECORD_BYTES

COUNTED = {
    "OBJECT_CREATED": "objects_created",
    "TASKS_CREATED": "tasks_created",
    "TASK_STARTED": "tasks_started",
    "TASK_FINISHED": "tasks_finished",
    "TASK_FAILED": "tasks_failed",
    "TASK_RETRIED": "tasks_retried",
    "TASK_DEAD": "tasks_died",
    "TASK_CANCELLED": "tasks_cancelled",
}
PARTITION = 0


class World:
    """The tables of the only partition, and a bookkeeper that works step after step."""

    def __init__(self, **options: Any) -> None:
        self.ledger, self.results, self.windows, self.expiry = FakeStore(), FakeStore(), FakeStore(), FakeStore()
        self.now_ms = NEVER_MS
        self._settings = load(partitions=1, **options)
        self._offsets = Counter[str]()
        self.restart()

    def restart(self) -> None:
        """Begin a new life: the tables stay, the memory goes."""
        self.bookkeeper = Bookkeeper(self._settings)

    def step(self, *values: Any, timestamp_ms: int = BASE_MS) -> FakeStep:
        """Record events (or bytes of `task-events`, or topic and bytes) in one step, one batch each, and commit."""
        batches = []
        for value in values:
            topic, data = value if isinstance(value, tuple) else (TASK_EVENTS, value)
            if isinstance(value, ObjectCreated):
                topic = OBJECTS
            if not isinstance(data, bytes | None):
                data = encode(value)
            one = record(topic, PARTITION, self._offsets[topic], data, key=b"key", timestamp_ms=timestamp_ms)
            self._offsets[topic] += 1
            batches.append(batch(topic, PARTITION, [one], assignment=None))
        tables = {
            LEDGER_TABLE: self.ledger,
            RESULTS_TABLE: self.results,
            WINDOWS_TABLE: self.windows,
            EXPIRY_TABLE: self.expiry,
        }
        step = FakeStep(batches, {(name, PARTITION): store for name, store in tables.items()}, self.now_ms)
        untyped: Any = step
        self.bookkeeper.record(untyped)
        step.commit()
        return step

    def counts(self, size_ms: int) -> dict[tuple[int, str], Counts]:
        """Return the stored windows of one size by start and kind."""
        keys = {decode_window_key(data): value for data, value in self.windows.rows.items()}
        return {(key.start_ms, key.kind): decode_counts(value) for key, value in keys.items() if key.size_ms == size_ms}


def recount(events: list[Any]) -> dict[tuple[int, str], Counter[str]]:
    """Count events by window and kind, without any of the product's rules."""
    windows: dict[tuple[int, str], Counter[str]] = {}
    for event in events:
        counts = windows.setdefault((event.at_ms // 10_000 * 10_000, event.kind), Counter())
        if not getattr(event, "redrive", None) or not isinstance(event, TasksCreated):
            counts[COUNTED[event.__struct_config__.tag]] += getattr(event, "count", 1)
        if isinstance(event, TaskFinished | TaskFailed):
            counts["spent_ms"] += event.spent_ms
        if isinstance(event, TaskStarted):
            counts["wait_ms"] += event.wait_ms
    return {key: counts for key, counts in windows.items() if counts.total()}


def happened(counts: dict[tuple[int, str], Counts]) -> dict[tuple[int, str], Counter[str]]:
    """Return of stored windows what `recount` counts."""
    names = (*COUNTED.values(), "spent_ms", "wait_ms")
    found = {
        key: Counter({name: getattr(one, name) for name in names if getattr(one, name)}) for key, one in counts.items()
    }
    return {key: one for key, one in found.items() if one}


def beginning_first(events: list[Any]) -> list[Any]:
    """Return events with a first one of each object that is of no redrive, as the topics always have them.

    Whoever redrives has read the death.
    """
    first = {one.object_id: one for one in reversed(events) if not getattr(one, "redrive", None)}
    return [*first.values(), *events]


LIVES = st.tuples(histories(object_id="a"), histories(object_id="b"), histories(object_id="c", kind="mail")).map(
    lambda lives: [event for life in lives for event in life]
)


@settings(max_examples=40, deadline=None)
@given(LIVES, SEEDS)
def test_windows_and_totals_equal_a_recount(events, seed):
    """In any order, with repetitions, cut into any steps and lives: each event counts once, in its own window."""
    draw = Random(seed)
    world = World(window_retention_h=24)
    arriving = beginning_first(delivered(events, seed))
    while arriving:
        size = draw.randrange(1, 12)
        world.step(*arriving[:size])
        arriving = arriving[size:]
        if draw.random() < 0.2:
            world.restart()
    windows, totals = world.counts(WINDOW_MS), world.counts(TOTAL_SIZE_MS)
    assert recount(events) == happened(windows)
    for kind in ("default", "mail"):
        added = Counts()
        for (_, of_kind), counts in windows.items():
            if of_kind == kind:
                add_counts(added, counts)
        of_windows, of_total = msgspec.structs.asdict(added), msgspec.structs.asdict(totals[0, kind])
        assert all(value == of_total[name] for name, value in of_windows.items() if name not in STATE_FIELDS)
        assert 0 == totals[0, kind].imbalance


@settings(max_examples=20, deadline=None)
@given(LIVES, SEEDS)
def test_ledger_does_not_depend_on_how_events_arrive(events, seed):
    """The same rows, byte for byte, as from one step in causal order."""
    world, plain = World(), World()
    for event in beginning_first(delivered(events, seed)):
        world.step(event)
    plain.step(*events)
    assert plain.ledger.rows == world.ledger.rows
    assert {b"a", b"b", b"c"} == set(world.ledger.rows)


def test_object_is_followed_from_its_creation_to_its_end():
    """The row says what happened; it is one row an object, under the object's id."""
    world = World()
    events = [task_event(kind, "7f3a", 0, at_ms=BASE_MS) for kind in (TasksCreated, TaskStarted, TaskFinished)]
    world.step(object_created("7f3a", at_ms=BASE_MS))
    assert "CREATED" == describe_object("7f3a", decode_row(world.ledger.rows[b"7f3a"]))["state"]
    world.step(*events)
    assert "FINISHED" == describe_object("7f3a", decode_row(world.ledger.rows[b"7f3a"]))["state"]


def test_object_that_is_larger_than_its_topic_takes_is_none():
    """The distributor buries it, so it never has tasks."""
    world = World()
    event = object_created("7f3a", at_ms=BASE_MS)
    step = world.step(msgspec.structs.replace(event, content="x" * MAX_OBJECT_BYTES))
    assert ({}, []) == (world.ledger.rows, step.sent_to(DEAD_LETTERS))


def test_repeated_events_change_nothing():
    """A step of nothing but duplicates leaves every row as it was."""
    world = World()
    events = [object_created("7f3a", at_ms=BASE_MS), task_event(TasksCreated, "7f3a", 0, at_ms=BASE_MS)]
    world.step(*events)
    before = dict(world.ledger.rows), dict(world.windows.rows)
    world.step(*events, *events)
    assert before == (world.ledger.rows, world.windows.rows)


@pytest.mark.parametrize("ledger", [True, False])
def test_event_that_cannot_be_read_is_buried_and_the_rest_counts(ledger):
    """Its bytes go to the dead letters with the reason; events before and after it count."""
    world = World(ledger=ledger)
    created = task_event(TasksCreated, "7f3a", 0, at_ms=BASE_MS)
    started = task_event(TaskStarted, "7f3a", 0, at_ms=BASE_MS)
    bad = [None, b"garbage", b'{"type":"TASK_LOST"}']
    step = world.step(created, *bad, started)
    assert bad == [letter.value for letter in step.sent_to(DEAD_LETTERS)]
    assert {(PARTITION, b"key")} == {(letter.partition, letter.key) for letter in step.sent}
    total = world.counts(TOTAL_SIZE_MS)[0, "default"]
    assert (1, 1) == (total.tasks_created, total.tasks_started)


@pytest.mark.parametrize("ledger", [True, False])
def test_bad_object_is_left_to_the_distributor(ledger):
    """Both read it; one dead letter is enough."""
    step = World(ledger=ledger).step((OBJECTS, b"garbage"), object_created("7f3a", at_ms=BASE_MS))
    assert [] == step.sent


def test_old_windows_expire_by_stream_time():
    """Tombstones for windows that ended longer ago than the retention; totals, and younger windows, stay."""
    world = World(window_retention_h=1)
    world.step(task_event(TasksCreated, "a", 0, at_ms=BASE_MS))
    world.step(task_event(TasksCreated, "b", 0, at_ms=BASE_MS + 600_000), timestamp_ms=BASE_MS + 600_000)
    old = encode_window_key(WindowKey(WINDOW_MS, BASE_MS // WINDOW_MS * WINDOW_MS, "default"))
    later_ms = BASE_MS + 3_600_000 + WINDOW_MS
    step = world.step(task_event(TasksCreated, "c", 0, at_ms=later_ms), timestamp_ms=later_ms)
    changed = step.rows_of[WINDOWS_TABLE, PARTITION].changed
    assert [old] == [key for key, value in changed.items() if value is None]
    assert 2 == len(world.counts(WINDOW_MS))
    assert 3 == world.counts(TOTAL_SIZE_MS)[0, "default"].tasks_created


START_MS = BASE_MS // HOUR_MS * HOUR_MS


def test_old_windows_merge_into_longer_ones():
    """10 s windows become 1 min windows, these 1 h windows, these are let go; nothing is lost on the way."""
    world = World(window_retention_h=1)
    for number, offset_ms in enumerate((0, 10_000, 60_000)):
        world.step(
            task_event(TasksCreated, f"a{number}", 0, at_ms=START_MS + offset_ms), timestamp_ms=START_MS + 100_000
        )

    def created(size_ms: int) -> dict[int, int]:
        return {start_ms - START_MS: one.tasks_created for (start_ms, _), one in world.counts(size_ms).items()}

    def pass_time(to_ms: int) -> None:
        world.step(b"no event", timestamp_ms=START_MS + to_ms)

    pass_time(HOUR_MS + 10_000 - 1)
    assert {0: 1, 10_000: 1, 60_000: 1} == created(WINDOW_MS)
    pass_time(HOUR_MS + 10_000)
    assert ({10_000: 1, 60_000: 1}, {0: 1}) == (created(WINDOW_MS), created(MINUTE_MS))
    pass_time(2 * HOUR_MS)
    assert ({}, {0: 2, 60_000: 1}, {}) == (created(WINDOW_MS), created(MINUTE_MS), created(HOUR_MS))
    pass_time(24 * HOUR_MS + MINUTE_MS)
    assert ({60_000: 1}, {0: 2}) == (created(MINUTE_MS), created(HOUR_MS))
    pass_time(31 * 24 * HOUR_MS)
    assert {} == created(HOUR_MS)
    assert 3 == world.counts(TOTAL_SIZE_MS)[0, "default"].tasks_created


@pytest.mark.parametrize(
    ("age_ms", "size_ms"), [(2 * HOUR_MS, MINUTE_MS), (48 * HOUR_MS, HOUR_MS), (32 * 24 * HOUR_MS, TOTAL_SIZE_MS)]
)
def test_event_later_than_its_window_counts_in_a_longer_one(age_ms, size_ms):
    """In the shortest that is still kept, at once: an expired window recreated would live for ever."""
    world = World(window_retention_h=1)
    world.step(task_event(TasksCreated, "a", 0, at_ms=BASE_MS - age_ms), timestamp_ms=BASE_MS)
    keys = [decode_window_key(key) for key in world.windows.rows]
    assert {TOTAL_SIZE_MS, size_ms} == {key.size_ms for key in keys}
    total = world.counts(TOTAL_SIZE_MS)[0, "default"]
    assert (1, 1) == (total.tasks_created, total.late_events)


def test_windows_that_skipped_a_size_merge_into_what_is_still_kept():
    """After days without an event a 10 s window goes straight to its hour, or where even that is over, away."""
    world = World(window_retention_h=1)
    world.step(task_event(TasksCreated, "a", 0, at_ms=BASE_MS))
    world.step(b"no event", timestamp_ms=BASE_MS + 48 * HOUR_MS)
    assert ({}, {}) == (world.counts(WINDOW_MS), world.counts(MINUTE_MS))
    assert 1 == world.counts(HOUR_MS)[START_MS, "default"].tasks_created
    world.step(b"no event", timestamp_ms=BASE_MS + 1_000 * HOUR_MS)
    assert {TOTAL_SIZE_MS} == {decode_window_key(key).size_ms for key in world.windows.rows}


def test_stream_time_does_not_go_back():
    """A late record does not bring expired windows back, in another life neither; no wall clock is asked."""
    world = World(window_retention_h=1)
    world.step(task_event(TasksCreated, "a", 0, at_ms=BASE_MS), timestamp_ms=BASE_MS + 7_200_000)
    world.restart()
    world.step(task_event(TasksCreated, "b", 0, at_ms=BASE_MS), timestamp_ms=BASE_MS)
    assert {} == world.counts(WINDOW_MS)
    assert 2 == world.counts(MINUTE_MS)[BASE_MS // MINUTE_MS * MINUTE_MS, "default"].tasks_created
    assert 2 == world.counts(TOTAL_SIZE_MS)[0, "default"].late_events


def test_late_events_are_counted_in_their_own_window():
    """Late is what was read when the window was over for the grace, by its topic's stream time; it counts all the same.

    A record's own timestamp counts too, and what comes again is no event, late or not.
    """
    world = World(window_grace_s=5)
    window_ms = BASE_MS // WINDOW_MS * WINDOW_MS
    over_ms = window_ms + WINDOW_MS + 5_000
    for number, timestamp_ms in enumerate((window_ms, over_ms - 1, over_ms, window_ms)):
        event = task_event(TasksCreated, f"a{number}", 0, at_ms=window_ms + number)
        world.step(event, timestamp_ms=timestamp_ms)
        world.step(event, timestamp_ms=timestamp_ms)
        expected = (number + 1, max(0, number - 1))
        counts = world.counts(WINDOW_MS)[window_ms, "default"]
        assert expected == (counts.tasks_created, counts.late_events)
    # The other topic has a time of its own: it may simply be read later.
    world.step(object_created("a0", at_ms=window_ms), timestamp_ms=window_ms)
    assert 2 == world.counts(TOTAL_SIZE_MS)[0, "default"].late_events
    world.step(object_created("b", at_ms=over_ms), timestamp_ms=over_ms)
    assert 2 == world.counts(TOTAL_SIZE_MS)[0, "default"].late_events


def test_partitions_are_kept_apart():
    """A step over two partitions writes each one's rows into its own tables."""
    tables = (LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE, EXPIRY_TABLE)
    stores = {(table, number): FakeStore() for table in tables for number in (0, 1)}
    batches = [
        batch(
            OBJECTS, number, [record(OBJECTS, number, 0, encode(object_created(name, at_ms=BASE_MS)))], assignment=None
        )
        for number, name in ((0, "f"), (1, "b"), (0, "7f3a"))
    ]
    step: Any = FakeStep(batches, stores)
    Bookkeeper(load(partitions=4)).record(step)
    step.commit()
    assert ({b"f", b"7f3a"}, {b"b"}) == (set(stores[LEDGER_TABLE, 0].rows), set(stores[LEDGER_TABLE, 1].rows))
    total = encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "default"))
    assert [2, 1] == [decode_counts(stores[WINDOWS_TABLE, number].rows[total]).objects_created for number in (0, 1)]


def test_without_a_ledger_events_are_counted_as_they_come():
    """The bench's switch: windows only, no row an object."""
    world = World(ledger=False)
    events = [
        object_created("a", at_ms=BASE_MS),
        *(task_event(kind, "a", 0, at_ms=BASE_MS) for kind in (TasksCreated, TaskStarted, TaskFinished)),
    ]
    world.step(*events)
    assert {} == world.ledger.rows
    assert recount(events) == happened(world.counts(WINDOW_MS))


def test_object_in_another_partition_is_counted_where_its_id_belongs():
    """Once, by the worker that has that partition: distribution moves it there."""
    stores = {
        (table, number): FakeStore()
        for table in (LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE, EXPIRY_TABLE)
        for number in (0, 1)
    }
    value = encode(object_created("f", at_ms=BASE_MS))
    batches = [batch(OBJECTS, number, [record(OBJECTS, number, 0, value)], assignment=None) for number in (0, 1)]
    step: Any = FakeStep(batches, stores)
    Bookkeeper(load(partitions=4)).record(step)
    step.commit()
    assert ({b"f"}, set()) == (set(stores[LEDGER_TABLE, 0].rows), set(stores[LEDGER_TABLE, 1].rows))


@pytest.mark.parametrize("stamp_ms", [BASE_MS, BASE_MS + 100 * 365 * 24 * HOUR_MS])
def test_event_from_the_future_counts_as_of_now(stamp_ms):
    """A clock that is wrong, in the event or in its record too: neither time nor windows run ahead."""
    world = World()
    world.now_ms = BASE_MS + 5_000
    told_before = future_stamps.count
    world.step(object_created("a", at_ms=BASE_MS + 50 * 365 * 24 * HOUR_MS), timestamp_ms=stamp_ms)
    assert decode_row(world.ledger.rows[b"a"]).created_at_ms == min(stamp_ms, world.now_ms)
    assert decode_times(world.expiry.rows[TIMES_KEY]).objects_ms == min(stamp_ms, world.now_ms)
    ((start_ms, _kind),) = world.counts(WINDOW_MS)
    assert start_ms <= world.now_ms
    assert told_before < future_stamps.count


@pytest.mark.parametrize(("task_count", "result_bytes"), [(40, 65_000), (1_000, 2_200)])
def test_results_of_an_object_do_not_outgrow_a_record(task_count, result_bytes):
    """Allowed objects whose results came to more than a record may have stopped the statistics for good."""
    world = World()
    result = b'"' + b"r" * (result_bytes - 2) + b'"'
    events = [
        task_event(kind, "a", sequence, at_ms=BASE_MS, task_count=task_count, result=result)
        for sequence in range(task_count)
        for kind in (TasksCreated, TaskStarted, TaskFinished)
    ]
    step = world.step(object_created("a", at_ms=BASE_MS), *events)
    for rows in step.rows_of.values():
        assert all(len(key) + len(value or b"") < MAX_RECORD_BYTES // 2 for key, value in rows.changed.items())
    assert task_count == decode_row(world.ledger.rows[b"a"]).finished_count
    assert {result} == {decode_result_row(packed).result for packed in world.results.rows.values()}
    assert [result_key(b"a", sequence) for sequence in range(task_count)] == list(world.results.keys())


def test_result_that_no_row_has_room_for_is_a_dead_letter_with_the_reason():
    """Our workers never write one (EBS_MAX_RESULT_BYTES); an outside producer's must not stop the statistics."""
    world = World()
    large = b'"' + b"r" * MAX_RESULT_BYTES + b'"'
    step = world.step(encode_unchecked(TaskFinished, result=large))
    (letter,) = step.sent_to(DEAD_LETTERS)
    message = dict(letter.headers)["kafka_dlt-exception-message"].decode()
    assert "the result has 1048578 bytes of JSON, at most 1048576 are kept" in message
    assert {} == world.ledger.rows


def encode_unchecked(event_type: Any, *, result: bytes) -> bytes:
    """Return an event with a result that our own code refuses to write."""
    event = task_event(event_type, "a", 0, at_ms=BASE_MS, result=b"7")
    return encode(event).replace(b'"result":7', b'"result":' + result)


def test_kinds_beyond_the_limit_are_counted_together():
    """Ids in the place of kinds: a row of the tables and a line of each answer for everyone of a million."""
    world = RecordedPartition()
    count = MAX_KINDS + 50

    def live(at_ms: int, *types: Any) -> None:
        for number in range(count):
            kind = f"k{number:05}"
            if TasksCreated in types:
                world.write(object_created(kind, at_ms=at_ms, kind=kind), at_ms)
            for one in types:
                world.write(task_event(one, kind, 0, at_ms=at_ms, kind=kind), at_ms)

    live(BASE_MS, TasksCreated)
    while world.step(limit=400):
        pass
    live(BASE_MS + 20_000, TaskStarted, TaskFinished)
    while world.step(limit=400):
        pass
    rows = {decode_window_key(key): decode_counts(data) for key, data in world.stores[WINDOWS_TABLE].rows.items()}
    totals = {key.kind: counts for key, counts in rows.items() if key.size_ms == TOTAL_SIZE_MS}
    others = totals[OTHERS]
    assert MAX_KINDS + 1 == len(totals)
    assert (50, 50, 50, 0) == (others.objects_created, others.objects_finished, others.finished_now, others.imbalance)
    assert {1} == {one.objects_finished for kind, one in totals.items() if kind != OTHERS}
    assert all(key.kind in totals for key in rows)
    assert [] == world.recount().differences


def test_replay_asks_for_no_join_or_callback_and_tells_no_end_once_more():
    """`ebs offsets reset` notes how far that was done; behind it everything goes on."""
    world = World()
    created = msgspec.structs.replace(
        task_event(TasksCreated, "a", 0, at_ms=BASE_MS), about=AboutObject(callback_url=URL)
    )
    ending = task_event(TaskFinished, "a", 0, at_ms=BASE_MS + 1)
    first = world.step(created, ending)
    told = [OBJECT_EVENTS, TASK_REQUESTS, TASK_EVENTS]
    assert told == [one.topic for one in first.sent]
    for told_to, expected in ((2, []), (1, told)):
        again = World()
        again.expiry.rows[TOLD_TO_KEY] = encode_told_to(told_to)
        assert expected == [one.topic for one in again.step(created, ending).sent]
        assert again.ledger.rows == world.ledger.rows


@pytest.mark.parametrize(("kind", "topic"), [("embed", "task-requests-gpu"), ("mail", TASK_REQUESTS)])
def test_join_goes_to_the_queue_of_the_kind_and_a_callback_to_the_default_one(kind, topic):
    """The statistics ask for both."""
    world, about = World(project="queued_project"), AboutObject(callback_url=URL)
    world.now_ms = BASE_MS + 1_000
    created = TasksCreated("c-a", "a", PARTITION, kind, 0, 1, 1, BASE_MS, joins=True, about=about)
    joining = world.step(created, task_event(TaskFinished, "a", 0, at_ms=BASE_MS + 1, task_count=1, kind=kind))
    (join,) = joining.sent_to(topic)
    assert "a-join" == decode_task_request(join.value).task_id
    fact = TasksCreated("c-a-join", "a", PARTITION, kind, JOIN_SEQUENCE, 1, 1, BASE_MS + 2, role="join")
    joined = task_event(TaskFinished, "a", JOIN_SEQUENCE, at_ms=BASE_MS + 3, kind=kind)
    ended = world.step(fact, msgspec.structs.replace(joined, role="join"))
    (callback,) = ended.sent_to(TASK_REQUESTS)
    assert "callback" == decode_task_request(callback.value).role


def test_step_that_makes_many_joins_due_leaves_events_to_the_next_one():
    """Each join has up to 1 MB of results, and the event that makes it due may be tiny."""
    world, ids = World(), [f"o{number}" for number in range(24)]
    large = b'"' + b"x" * 900_000 + b'"'
    world.now_ms = BASE_MS + 1_000
    for one in ids:
        fact = TasksCreated(f"c-{one}", one, PARTITION, "default", 0, 2, 2, BASE_MS, joins=True)
        world.step(fact, task_event(TaskFinished, one, 0, at_ms=BASE_MS, task_count=2, result=large))
    world.restart()
    ending = [task_event(TaskFinished, one, 1, at_ms=BASE_MS, task_count=2) for one in ids]
    step = world.step(*ending)
    assert ids[:19] == [decode_task_request(one.value or b"").object_id for one in step.sent_to(TASK_REQUESTS)]
    # The batch of the last one is left behind its only record, those that follow are left as they are.
    assert [2 * len(ids) + number for number in (19, *range(19, 24))] == [offset for _, offset in step.left]
    rest = world.step(*ending[19:])
    assert ids[19:] == [decode_task_request(one.value or b"").object_id for one in rest.sent_to(TASK_REQUESTS)]
