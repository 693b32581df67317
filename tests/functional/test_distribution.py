"""The distributor with tables in memory: one set of tasks an object, whatever comes, comes again or cannot be read."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from fake_steps import FakeStep, FakeStore
from fakes import NOW_MS, Sent, batch, record, unreadable
from histories import object_created
from msgspec import structs
from plain_names import DEAD_LETTERS, TASK_EVENTS, TASK_REQUESTS

from agents.distribution import Distributor
from agents.future_stamps import future_stamps
from app.events import (
    AboutObject,
    ItemRecord,
    Parent,
    TasksCreated,
    decode_task_event,
    decode_task_request,
    encode,
)
from app.kafka.types import LOG_APPEND_TIME
from app.names import SEEN_TABLE
from app.rules.distribution import MAX_OBJECT_BYTES
from app.settings.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiokafka.structs import ConsumerRecord

HOUR_MS = 3_600_000


def submitted(object_id: str, *, offset: int = 0, at_ms: int = NOW_MS, **fields: Any) -> ConsumerRecord:
    """Return a record of `objects` in partition 3, written at an instant."""
    event = object_created(object_id, at_ms=at_ms, **fields)
    return record("objects", 3, offset, encode(event), key=object_id.encode(), timestamp_ms=at_ms)


class World:
    """The table `seen` of partition 3, and a distributor that works step after step."""

    def __init__(self, project: str = "") -> None:
        self.store = FakeStore()
        self.full_bytes = math.inf
        self._project = project
        self.restart()

    def restart(self) -> None:
        """Begin a new life: the table stays, the memory goes."""
        limits = {"tasks_per_object": 3, "max_tasks_per_object": 10, "seen_retention_h": 4}
        settings = load(partitions=4, project=self._project, **limits)
        self.distributor = Distributor(settings)

    def step(self, *batches: Iterable[ConsumerRecord], commit: bool = True, now_ms: int = 0) -> FakeStep:
        """Distribute batches of records in one step, by default once all of them are written."""
        newest_ms = max(NOW_MS, *(one.timestamp for records in batches for one in records))
        gathered = [batch("objects", 3, records, assignment=None) for records in batches]
        step = FakeStep(gathered, {(SEEN_TABLE, 3): self.store})
        step.full_bytes = self.full_bytes
        untyped: Any = step
        for one in gathered:
            self.distributor.distribute(untyped, one, (now_ms or newest_ms) + 5)
        if commit:
            step.commit()
        return step


@pytest.fixture
def world() -> World:
    """Return an empty table and a distributor with 4 partitions, 3 tasks an object and a retention of 4 h."""
    return World()


def requested(step: FakeStep) -> Counter[str]:
    """Return how many requests of each object a step sends."""
    return Counter(decode_task_request(one.value or b"").object_id for one in step.sent_to(TASK_REQUESTS))


def test_requests_go_to_the_queue_of_their_kind():
    """Those of a split, too; a kind without a queue goes to the default one."""
    step = World("queued_project").step([submitted("h", kind="mail"), submitted("j", offset=1, kind="embed")])
    assert ["h-0", "h-1", "h-2"] == [decode_task_request(one.value).task_id for one in step.sent_to(TASK_REQUESTS)]
    (split,) = step.sent_to("task-requests-gpu")
    assert ("j-split", split.partition) == (decode_task_request(split.value).task_id, 3)


def test_full_step_leaves_objects_to_the_next_one(world):
    """A few objects may have many large requests: no transaction could send those of all within its timeout."""
    ids = [name for name in map(str, range(100)) if zlib.crc32(name.encode()) % 4 == 3][:4]
    events = [structs.replace(object_created(name, at_ms=NOW_MS, task_count=10), name="x" * 1_000) for name in ids]
    objects = [record("objects", 3, offset, encode(event)) for offset, event in enumerate(events)]
    world.full_bytes = 15_000
    step = world.step(objects[:3], objects[3:])
    assert dict.fromkeys(ids[:2], 10) == requested(step)
    assert [(3, 2), (3, 3)] == [(batch.partition, offset) for batch, offset in step.left]
    world.full_bytes = math.inf
    assert dict.fromkeys(ids[2:], 10) == requested(world.step(objects[2:3], objects[3:]))


def test_object_becomes_requests_and_a_fact(world):
    """Requests are spread from the object's partition on, keyed by task; the fact stays in it, keyed by object."""
    step = world.step([submitted("h")])
    requests = step.sent_to(TASK_REQUESTS)
    assert [(3, b"h-0"), (0, b"h-1"), (1, b"h-2")] == [(one.partition, one.key) for one in requests]
    decoded = [decode_task_request(one.value or b"") for one in requests]
    assert {("h", 3, 3, b'"some content"', NOW_MS + 5)} == {
        (one.object_id, one.object_partition, one.task_count, bytes(one.content), one.at_ms) for one in decoded
    }
    (fact,) = step.sent_to(TASK_EVENTS)
    assert (3, b"h") == (fact.partition, fact.key)
    expected = TasksCreated("c-h", "h", 3, "default", 0, 3, 3, NOW_MS + 5, about=AboutObject("a name"))
    assert expected == decode_task_event(fact.value or b"")
    assert 4 == len(step.sent)


@pytest.mark.parametrize("tasks", [None, [ItemRecord(), ItemRecord(name="second")]])
def test_tasks_know_how_deep_their_object_is(world, tasks):
    """The fact tells parent, depth and name, a long one cut: the statistics need them at the object's end."""
    parent = Parent("p", "p-0")
    items = msgspec.UNSET if tasks is None else tasks
    event = object_created("h", at_ms=NOW_MS)
    event = msgspec.structs.replace(event, name="x" * 501, parent=parent, depth=7, items=items)
    step = world.step([record("objects", 3, 0, encode(event), key=b"h")])
    assert {7} == {decode_task_request(one.value or b"").depth for one in step.sent_to(TASK_REQUESTS)}
    (fact,) = (decode_task_event(one.value or b"") for one in step.sent_to(TASK_EVENTS))
    assert AboutObject("x" * 500, parent, 7) == fact.about


def test_object_may_ask_for_its_number_of_tasks(world):
    """Up to the limit."""
    step = world.step([submitted("1", task_count=1), submitted("ten", task_count=10)])
    assert {"1": 1, "ten": 10} == requested(step)


@pytest.mark.parametrize("arrivals", [[["a", "a"]], [["a"], ["a"]]], ids=["one batch", "two batches"])
def test_object_submitted_twice_in_a_step_makes_one_set_of_tasks(world, arrivals):
    """A step sees what it has written itself."""
    step = world.step(*[[submitted(object_id) for object_id in records] for records in arrivals])
    assert Counter(a=3) == requested(step)


def test_object_submitted_again_makes_no_tasks(world):
    """In a later step, after a restart, until the retention is over."""
    world.step([submitted("a")])
    assert Counter(c=3) == requested(world.step([submitted("a"), submitted("c")]))
    world.restart()
    assert Counter() == requested(world.step([submitted("a", at_ms=NOW_MS + 4 * HOUR_MS)]))


def test_step_that_did_not_commit_is_repeated(world):
    """A crash leaves no id behind for which nobody has made tasks."""
    world.step([submitted("a")], commit=False)
    world.restart()
    assert Counter(a=3) == requested(world.step([submitted("a")]))


def test_id_is_remembered_when_stream_time_seems_to_go_back(world):
    """Another clock, another worker: an older time stamp after a restart does not make a repetition news."""
    world.step([submitted("a", at_ms=NOW_MS)])
    world.restart()
    assert Counter() == requested(world.step([submitted("a", at_ms=NOW_MS - 2 * HOUR_MS)]))


def test_id_is_remembered_when_stream_time_goes_back_within_a_step(world):
    """Also before the table knows of it."""
    step = world.step([submitted("a", at_ms=NOW_MS)], [submitted("a", at_ms=NOW_MS - 2 * HOUR_MS)])
    assert Counter(a=3) == requested(step)


def test_id_is_forgotten_after_the_retention(world):
    """The same id is a new object then, and the old row is deleted by a tombstone."""
    world.step([submitted("a")])
    (old,) = world.store.keys()
    step = world.step([submitted("c", at_ms=NOW_MS + 6 * HOUR_MS)])
    assert old in step.rows_of[SEEN_TABLE, 3].changed
    assert step.rows_of[SEEN_TABLE, 3].changed[old] is None
    assert 1 == len(world.store.rows)
    assert Counter(a=3) == requested(world.step([submitted("a", at_ms=NOW_MS + 6 * HOUR_MS)]))


@pytest.mark.parametrize("object_id", ["7f3a", "e", "日本", "é"])
def test_record_in_another_partition_is_moved_to_that_of_its_id(world, object_id):
    """As it is, keyed by its id, and makes no tasks here; the one that lies right does."""
    value = encode(object_created(object_id, at_ms=NOW_MS))
    stray = record("objects", 3, 5, value, key=b"another key", headers=[("traceparent", b"00-1")])
    step = world.step([stray])
    (moved,) = step.sent
    right = zlib.crc32(object_id.encode()) % 4
    assert right != 3
    assert ("objects", right, object_id.encode(), value) == moved[:4]
    assert [("traceparent", b"00-1"), ("ebs-moved-from", b"objects-3@5")] == moved.headers
    assert ({}, 1) == (world.store.rows, world.distributor.moved_count)


def test_id_is_one_object_whatever_partitions_it_comes_in_on(world):
    """By HTTP, then by a producer with a partitioner of its own, then moved."""
    world.step([submitted("a")])
    assert [] == world.step([submitted("a")]).sent


@pytest.mark.parametrize("spare_bytes", [0, 1_100])
def test_record_that_is_too_large_to_be_moved_is_buried(world, spare_bytes):
    """The header that says whence it comes must fit, or the step would fail for ever."""
    event = object_created("e", at_ms=NOW_MS, task_count=1)
    room = MAX_OBJECT_BYTES - len(encode(event)) - spare_bytes
    value = encode(msgspec.structs.replace(event, content=msgspec.Raw(b'"some content%b"' % (b"x" * room))))
    (sent,) = world.step([record("objects", 3, 5, value)]).sent
    assert ("objects" if spare_bytes else DEAD_LETTERS) == sent.topic
    if not spare_bytes:
        assert b"objects takes at most" in dict(sent.headers)["kafka_dlt-exception-message"]


@pytest.mark.parametrize("ahead_ms", [61_000, 100 * 365 * 24 * HOUR_MS])
def test_stamp_of_the_future_makes_nobody_forget(world, ahead_ms):
    """It counts as now, and is told: a repeated submit still makes no tasks."""
    told_before = future_stamps.count
    world.step([submitted("a")], now_ms=NOW_MS)
    value = encode(object_created("c", at_ms=NOW_MS))
    world.step([record("objects", 3, 1, value, timestamp_ms=NOW_MS + ahead_ms)], now_ms=NOW_MS)
    world.restart()
    assert Counter() == requested(world.step([submitted("a")], now_ms=NOW_MS))
    assert told_before < future_stamps.count
    assert {NOW_MS // (2 * HOUR_MS)} == {int.from_bytes(key[:6], "big") for key in world.store.rows}


BAD = [
    (None, "tombstone"),
    (b"garbage", "malformed"),
    (b'{"type":"OBJECT_CREATED","object_id":"x"}', "`name`"),
    (encode(object_created("x", at_ms=NOW_MS, task_count=11)), "asks for 11 tasks, at most 10"),
    (b'{"type":"OBJECT_CREATED","x":' + b"[" * 20_000, "nested too deeply"),
]


@pytest.mark.parametrize(("value", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_record_that_is_not_an_object_becomes_a_dead_letter(world, value, reason):
    """Its bytes, key and headers go to the dead letters of its own partition."""
    bad = record("objects", 3, 1, value, key=b"key", headers=[("traceparent", b"00-1")])
    step = world.step([submitted("a"), bad, submitted("c", offset=2)])
    assert Counter(a=3, c=3) == requested(step)
    (letter,) = step.sent_to(DEAD_LETTERS)
    assert (3, b"key", value) == (letter.partition, letter.key, letter.value)
    headers = dict(letter.headers)
    assert (b"00-1", b"objects", b"1") == (
        headers["traceparent"],
        headers["kafka_dlt-original-topic"],
        headers["kafka_dlt-original-offset"],
    )
    assert reason.encode() in headers["kafka_dlt-exception-message"]


def test_object_that_is_larger_than_its_topic_takes_is_buried(world):
    """Compressed it got in. Its letter has the beginning, and says so."""
    value = encode(object_created("x", at_ms=NOW_MS, task_count=1))[:-1] + b" " * MAX_OBJECT_BYTES + b"}"
    step = world.step([submitted("a"), record("objects", 3, 1, value, key=b"x"), submitted("c", offset=2)])
    assert Counter(a=3, c=3) == requested(step)
    (letter,) = step.sent_to(DEAD_LETTERS)
    headers = dict(letter.headers)
    assert f"x has {len(value)} bytes, at most {MAX_OBJECT_BYTES}" in headers["kafka_dlt-exception-message"].decode()
    assert (value[:65_536], b"x") == (letter.value, letter.key)
    assert f"the first 65536 of {len(value)} bytes of its value" in headers["ebs-incomplete"].decode()


LARGE = msgspec.Raw(b'"%b"' % (b"c" * 60_000))


@pytest.mark.parametrize(
    "changes",
    [{"content": LARGE}, {"items": [ItemRecord(), ItemRecord(content=LARGE), ItemRecord()]}],
    ids=["copies", "one item"],
)
def test_object_whose_requests_do_not_fit_their_topic_is_buried_as_a_whole(world, changes):
    """No request of it is sent and its id is not remembered, so it can be redriven once the topic takes it."""
    event = msgspec.structs.replace(object_created("x", at_ms=NOW_MS), **changes)
    large = [record("objects", 3, 0, encode(event), key=b"x")]
    gathered = [batch("objects", 3, large, assignment=None)]
    step = FakeStep(gathered, {(SEEN_TABLE, 3): world.store})
    step.transactions.topic_limits.record_bytes[TASK_REQUESTS] = 50_000
    untyped: Any = step
    world.distributor.distribute(untyped, gathered[0], NOW_MS)
    step.commit()
    assert [DEAD_LETTERS] == [one.topic for one in step.sent]
    assert (
        b"task-requests takes at most 50000 bytes a record" in dict(step.sent[0].headers)["kafka_dlt-exception-message"]
    )
    assert Counter(x=3) == requested(world.step(large))


def test_unreadable_record_becomes_a_dead_letter_and_the_rest_continues(world):
    """The letter says why and has what there is; of a piece of the log it says for which offsets it stands."""
    lost = unreadable("objects", 3, 1, b"log", "a wrong CRC", last_offset=4)
    named = unreadable("objects", 3, 5, b"{}", "its header", key=b"key", headers=(("na\\xff", None), ("fine", b"1")))
    step = world.step([submitted("a"), lost, named, submitted("c", offset=6)])
    assert Counter(a=3, c=3) == requested(step)
    log, letter = step.sent_to(DEAD_LETTERS)
    headers = dict(log.headers)
    assert (None, b"log", b"1", b"4") == (
        log.key,
        log.value,
        headers["kafka_dlt-original-offset"],
        headers["ebs-last-offset"],
    )
    assert (b"app.errors.Unreadable", b"a wrong CRC") == (
        headers["kafka_dlt-exception-fqcn"],
        headers["kafka_dlt-exception-message"],
    )
    assert b"raw bytes of the log" in headers["ebs-incomplete"]
    headers = dict(letter.headers)
    assert (b"key", b"{}", None, b"1") == (letter.key, letter.value, headers["na\\xff"], headers["fine"])
    assert not {"ebs-last-offset", "ebs-incomplete"} & headers.keys()


def test_replay_writes_the_same_bytes():
    """Ids and order are made of the object alone: a repeated step cannot be told from the first."""

    def sent() -> list[Sent]:
        return World().step([submitted("a"), submitted("c", offset=1)]).sent

    assert sent() == sent()


@pytest.mark.parametrize("off_ms", [-HOUR_MS, HOUR_MS])
def test_delay_begins_by_the_clock_of_the_broker(world, off_ms):
    """Whatever the worker's own clock says: with one that is an hour behind, a delay of ten minutes would be over."""
    event = structs.replace(object_created("h", at_ms=NOW_MS), delay_s=600)
    taken = record("objects", 3, 0, encode(event), key=b"h", timestamp_ms=NOW_MS + 3)
    stamped = replace(taken, timestamp_type=LOG_APPEND_TIME)
    requests = world.step([stamped], now_ms=NOW_MS + off_ms).sent_to(TASK_REQUESTS)
    assert {NOW_MS + 600_000} == {decode_task_request(one.value or b"").due_at_ms for one in requests}


def test_delay_of_a_producer_that_is_ahead_begins_when_the_broker_took_it(world):
    """Not at its own time, nor at that of the worker."""
    event = structs.replace(object_created("h", at_ms=NOW_MS + 86_400_000), delay_s=600)
    taken = record("objects", 3, 0, encode(event), key=b"h", timestamp_ms=NOW_MS + 3)
    stamped = replace(taken, timestamp_type=LOG_APPEND_TIME)
    requests = world.step([stamped], now_ms=NOW_MS + HOUR_MS).sent_to(TASK_REQUESTS)
    assert {NOW_MS + 600_003} == {decode_task_request(one.value or b"").due_at_ms for one in requests}
