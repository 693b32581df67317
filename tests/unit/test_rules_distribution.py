"""How objects become tasks, and how long an id is remembered."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime

import msgspec
import pytest
from histories import BASE_MS, SEEDS, URL, object_created
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from plain_names import BARE

from app.errors import DecodeError
from app.events import ItemRecord, encode
from app.rules.distribution import SeenKeys, expired_keys, split
from app.rules.routing import Routes

SOME = settings(max_examples=80, deadline=None)
LIMITS = {
    "record_bytes": 100,
    "default_task_count": 3,
    "max_task_count": 1_000,
    "at_ms": BASE_MS + 5,
}
DAY_MS = 86_400_000


@SOME
@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 49))
def test_tasks_are_complete_and_spread(task_count, partition_count, object_partition):
    """Every sequence once, from the object's own partition round and round, none with more than one task extra."""
    object_partition %= partition_count
    made = split(object_created("7f3a", at_ms=BASE_MS, task_count=task_count), object_partition, **LIMITS)
    requests, routes = made.requests, Routes(BARE, partition_count)
    assert list(range(task_count)) == [request.sequence for request in requests]
    assert [f"7f3a-{sequence}" for sequence in range(task_count)] == [request.task_id for request in requests]
    spread = [(object_partition + n) % partition_count for n in range(task_count)]
    assert spread == [routes.partition(request) for request in requests]
    assert {(object_partition, task_count, 1)} == {
        (request.object_partition, request.task_count, request.attempt) for request in requests
    }
    assert (0, task_count, task_count) == (made.fact.first, made.fact.count, made.fact.task_count)


def test_tasks_of_a_key_stay_together():
    """In the partition of the key, as CRC-32 says; without one in that of their object, if the kind counts by key."""
    event = object_created("7f3a", at_ms=BASE_MS, task_count=5)
    routes = Routes(BARE, 8, kinds_by_key=lambda kind: kind == event.kind)
    assert [3] * 5 == [routes.partition(request) for request in split(event, 3, **LIMITS).requests]
    items = [ItemRecord(), ItemRecord(key="of the item")]
    keyed = msgspec.structs.replace(event, task_count=None, items=items, key="customer-17")
    made = split(keyed, 3, **LIMITS).requests
    assert ["customer-17", "of the item"] == [request.key for request in made]
    wanted = [zlib.crc32(key) % 8 for key in (b"customer-17", b"of the item")]
    assert wanted == [routes.partition(request) for request in made] == [Routes(BARE, 8).partition(one) for one in made]


@pytest.mark.parametrize("splits", [True, False])
def test_first_fact_tells_where_the_ends_of_the_object_are_sent(splits):
    """That of its split, where it has one: it may be the only one."""
    event = msgspec.structs.replace(object_created("7f3a", at_ms=BASE_MS), callback_url=URL)
    assert URL == split(event, 3, splits=splits, **LIMITS).fact.about.callback_url
    plain = object_created("7f3a", at_ms=BASE_MS)
    assert b"callback_url" not in encode(split(plain, 3, splits=splits, **LIMITS).fact)


def test_request_has_the_content():
    """It has what a handler needs; the fact tells kind and time."""
    made = split(object_created("7f3a", at_ms=BASE_MS, kind="mail", task_count=1), 3, **LIMITS)
    (request,) = made.requests
    assert ("a name", b'"some content"', "mail", BASE_MS + 5) == (
        request.name,
        bytes(request.content),
        request.kind,
        request.at_ms,
    )
    assert ("c-7f3a-0", "c-7f3a") == (request.id, made.fact.id)
    assert (3, "mail", BASE_MS + 5) == (made.fact.object_partition, made.fact.kind, made.fact.at_ms)


def test_object_that_asks_for_no_number_gets_the_default():
    """The setting decides."""
    assert 3 == len(split(object_created("7f3a", at_ms=BASE_MS), 0, **LIMITS).requests)


def test_object_whose_copies_would_be_too_large_is_refused():
    """One transaction has them all: content times tasks is bounded, and the error says what to do."""
    large = msgspec.structs.replace(
        object_created("7f3a", at_ms=BASE_MS, task_count=100), content=Raw(b'"%b"' % (b"x" * 700_000))
    )
    with pytest.raises(DecodeError, match=r"7f3a would be copied 100 times .* send a reference"):
        split(large, 0, **LIMITS)
    assert 90 == len(split(msgspec.structs.replace(large, task_count=90), 0, **LIMITS).requests)


def test_each_item_is_a_task_with_its_own_content():
    """The item's name counts, or else the object's; the object's own content goes nowhere."""
    items = [ItemRecord(content=Raw(b'{"sku":"a"}')), ItemRecord(name="second", content=Raw(b"[1]")), ItemRecord()]
    made = split(msgspec.structs.replace(object_created("7f3a", at_ms=BASE_MS), items=items), 3, **LIMITS)
    assert [("a name", b'{"sku":"a"}'), ("second", b"[1]"), ("a name", b"null")] == [
        (request.name, bytes(request.content)) for request in made.requests
    ]
    assert {(3, 3)} == {(request.task_count, made.fact.count) for request in made.requests}


def test_object_with_too_many_items_is_refused():
    """An item is a task, and as many are allowed."""
    event = msgspec.structs.replace(object_created("7f3a", at_ms=BASE_MS), items=[ItemRecord()] * 11)
    with pytest.raises(DecodeError, match=r"7f3a asks for 11 tasks, at most 10 .*EBS_MAX_TASKS_PER_OBJECT"):
        split(event, 0, **(LIMITS | {"max_task_count": 10}))


def test_long_name_is_not_copied_to_thousands_of_items():
    """Each item without a name takes that of its object, which must not make one record into gigabytes."""
    event = msgspec.structs.replace(
        object_created("7f3a", at_ms=BASE_MS), name="n" * 100_000, items=[ItemRecord()] * 1_000
    )
    with pytest.raises(DecodeError, match="give the items shorter names"):
        split(event, 0, **LIMITS)
    named = msgspec.structs.replace(event, items=[ItemRecord(name="short")] * 1_000)
    assert 1_000 == len(split(named, 0, **LIMITS).requests)


def test_object_that_asks_for_too_many_tasks_is_refused():
    """The error names the object, both numbers and the setting."""
    limits = LIMITS | {"max_task_count": 10}
    with pytest.raises(DecodeError, match=r"7f3a asks for 11 tasks, at most 10 .*EBS_MAX_TASKS_PER_OBJECT"):
        split(object_created("7f3a", at_ms=BASE_MS, task_count=11), 0, **limits)
    assert 10 == len(split(object_created("7f3a", at_ms=BASE_MS, task_count=10), 0, **limits).requests)


@SOME
@given(st.integers(1, 365 * DAY_MS), st.integers(0, 2 * BASE_MS), st.floats(0, 1))
def test_id_is_found_for_the_whole_retention(retention_ms, seen_at_ms, part):
    """From the moment it was written until the retention has passed, and it is not expired before."""
    seen = SeenKeys(retention_ms)
    key = seen.write_key("7f3a", seen_at_ms)
    later_ms = seen_at_ms + round(part * retention_ms)
    assert key in seen.look_up_keys("7f3a", later_ms)
    assert not seen.is_expired(key, later_ms)


@SOME
@given(st.integers(1, 365 * DAY_MS), st.integers(0, 2 * BASE_MS), st.integers(0, 3 * 365 * DAY_MS))
def test_id_is_expired_exactly_when_it_is_looked_for_no_more(retention_ms, seen_at_ms, age_ms):
    """So that no row is left behind, and none is deleted that would still be found."""
    seen = SeenKeys(retention_ms)
    key = seen.write_key("7f3a", seen_at_ms)
    now_ms = seen_at_ms + age_ms
    assert seen.is_expired(key, now_ms) is (key not in seen.look_up_keys("7f3a", now_ms))


@SOME
@given(st.integers(4, 365 * DAY_MS), st.integers(0, 2 * BASE_MS))
def test_id_is_forgotten_one_bucket_after_the_retention_at_the_latest(retention_ms, seen_at_ms):
    """Half of the retention is how coarse it is."""
    seen = SeenKeys(retention_ms)
    key = seen.write_key("7f3a", seen_at_ms)
    assert seen.is_expired(key, seen_at_ms + 3 * (retention_ms // 2 + 1))


def test_look_ups_are_few_and_of_this_id_only():
    """Three keys whatever the retention; at the beginning of time no more than there are."""
    seen = SeenKeys(DAY_MS)
    assert 3 == len(set(seen.look_up_keys("7f3a", BASE_MS)))
    assert 1 == len(seen.look_up_keys("7f3a", 0))
    assert all(key.endswith(b"7f3a") for key in seen.look_up_keys("7f3a", BASE_MS))
    assert set(seen.look_up_keys("7f3a", BASE_MS)).isdisjoint(seen.look_up_keys("7f3b", BASE_MS))


@SOME
@given(st.lists(st.integers(0, 10 * DAY_MS), min_size=1, max_size=30), SEEDS)
def test_expired_keys_are_the_front_of_the_table(seen_at_ms, now_ms):
    """The table's order is that of time: all that is expired comes first, and no more than asked for is returned."""
    seen = SeenKeys(DAY_MS)
    now_ms %= 12 * DAY_MS
    keys = sorted({seen.write_key(f"id-{number}", at_ms) for number, at_ms in enumerate(seen_at_ms)})
    expired = [key for key in keys if seen.is_expired(key, now_ms)]
    assert expired == expired_keys(iter(keys), seen, now_ms, 1_000)
    assert expired[:2] == expired_keys(iter(keys), seen, now_ms, 2)
    assert [] == expired_keys(iter(keys), seen, now_ms, 0)


@SOME
@given(st.integers(1, 365 * DAY_MS), st.integers(0, 2 * BASE_MS))
def test_key_tells_when_it_was_written(retention_ms, seen_at_ms):
    """Not later than it was, and near enough that its own bucket is the newest one looked into."""
    seen = SeenKeys(retention_ms)
    key = seen.write_key("7f3a", seen_at_ms)
    assert seen.written_at_ms(key) <= seen_at_ms
    assert key == seen.look_up_keys("7f3a", seen.written_at_ms(key))[0]


def test_delays_become_due_times():
    """Of the object for all its tasks, of an item for its own; an item without one starts with its object."""
    items = [
        ItemRecord(),
        ItemRecord(delay_s=2.5),
        ItemRecord(due_at=datetime.fromtimestamp(BASE_MS / 1_000 + 60, UTC)),
    ]
    event = msgspec.structs.replace(object_created("7f3a", at_ms=BASE_MS), task_count=None, items=items, delay_s=10)
    requests = split(event, 3, **LIMITS).requests
    assert [BASE_MS + 10_000, BASE_MS + 2_500, BASE_MS + 60_000] == [one.due_at_ms for one in requests]
    assert [one.due_at_ms for one in requests] == [one.starts_at_ms for one in requests]
    (request,) = split(event, 3, splits=True, **LIMITS).requests
    assert BASE_MS + 10_000 == request.due_at_ms
    ahead = msgspec.structs.replace(event, at_ms=BASE_MS + DAY_MS)
    assert BASE_MS + 5 + 10_000 == split(ahead, 3, splits=True, **LIMITS).requests[0].due_at_ms


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"delay_s": 1.0, "due_at": datetime.fromtimestamp(BASE_MS / 1_000, UTC)}, "give one of them"),
        ({"due_at": datetime.fromtimestamp(BASE_MS / 1_000 + 400 * 86_400, UTC)}, "more than a year from now"),
        ({"task_count": None, "items": [ItemRecord(due_at=datetime(2999, 1, 1, tzinfo=UTC))]}, "item (number 0)"),
    ],
)
def test_start_that_cannot_be_is_refused(changes, said):
    """Other producers write what they like: such an object is a dead letter."""
    event = msgspec.structs.replace(object_created("7f3a", at_ms=BASE_MS), **changes)
    with pytest.raises(DecodeError) as refused:
        split(event, 3, **LIMITS)
    assert said in str(refused.value)
