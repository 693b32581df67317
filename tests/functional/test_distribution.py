"""The distributor with tables in memory: one set of tasks an object, whatever comes, comes again or cannot be read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from fake_steps import FakeStep, FakeStore
from fakes import NOW_MS, Sent, batch, record
from histories import object_created

from agents.distribution import Distributor
from app.events import decode_task_event, decode_task_request, encode
from app.settings import load
from app.topics import DEAD_LETTERS, SEEN_TABLE, TASK_EVENTS, TASK_REQUESTS

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

    def __init__(self) -> None:
        self.store = FakeStore()
        self.restart()

    def restart(self) -> None:
        """Begin a new life: the table stays, the memory goes."""
        settings = load(partitions=4, tasks_per_object=3, max_tasks_per_object=10, seen_retention_h=4)
        self.distributor = Distributor(settings)

    def step(self, *batches: Iterable[ConsumerRecord], commit: bool = True, now_ms: int = 0) -> FakeStep:
        """Distribute batches of records in one step, by default once all of them are written."""
        newest_ms = max(NOW_MS, *(one.timestamp for records in batches for one in records))
        gathered = [batch("objects", 3, records, assignment=None) for records in batches]
        step = FakeStep(gathered, {(SEEN_TABLE, 3): self.store})
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


def test_object_becomes_requests_and_facts(world):
    """Requests are spread from the object's partition on, keyed by task; facts stay in it, keyed by object."""
    step = world.step([submitted("h")])
    requests = step.sent_to(TASK_REQUESTS)
    assert [(3, b"h-0"), (0, b"h-1"), (1, b"h-2")] == [(one.partition, one.key) for one in requests]
    decoded = [decode_task_request(one.value or b"") for one in requests]
    assert {("h", 3, 3, "some content", NOW_MS + 5)} == {
        (one.object_id, one.object_partition, one.task_count, one.content, one.at_ms) for one in decoded
    }
    facts = step.sent_to(TASK_EVENTS)
    assert {(3, b"h")} == {(one.partition, one.key) for one in facts}
    assert [one.id for one in decoded] == [decode_task_event(one.value or b"").id for one in facts]
    assert 6 == len(step.sent)


def test_object_may_ask_for_its_number_of_tasks(world):
    """Up to the limit."""
    step = world.step([submitted("one", task_count=1), submitted("ten", task_count=10)])
    assert Counter(one=1, ten=10) == requested(step)


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


BAD = [
    (None, "tombstone"),
    (b"garbage", "malformed"),
    (b'{"type":"OBJECT_CREATED","object_id":"x"}', "`name`"),
    (encode(object_created("x", at_ms=NOW_MS, task_count=11)), "asks for 11 tasks, at most 10"),
    (b'{"type":"OBJECT_CREATED","x":' + b"[" * 20_000, "nested too deeply"),
]


@pytest.mark.parametrize(("value", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_record_that_is_no_object_is_buried_and_the_rest_goes_on(world, value, reason):
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


def test_replay_writes_the_same_bytes():
    """Ids and order are made of the object alone: a repeated step cannot be told from the first."""

    def sent() -> list[Sent]:
        return World().step([submitted("a"), submitted("c", offset=1)]).sent

    assert sent() == sent()
