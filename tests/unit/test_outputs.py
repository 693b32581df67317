"""What a context gathers, without any worker: contents, bounds, and calls that come too late."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from app.events import MAX_TASKS
from app.kafka.partitioner import partition_of_key
from app.rules.submitted import WorkerOutputRules, object_of
from ebs import Context, Item, Reject, Task
from ebs.outputs import MAX_OUTPUT_BYTES, MAX_OUTPUTS

TASK: Task[Any] = Task("c-a-0", "a", "a-0", 0, "mail", 0, 1, 1, 0)


def context(rules: WorkerOutputRules | None = None) -> Context:
    """Return the context of an attempt; with no rules as a test of a user makes one."""
    return Context(TASK, 60.0) if rules is None else Context(TASK, 60.0, rules=rules)


def test_a_context_made_by_hand_gathers_what_is_submitted() -> None:
    """A user's own test looks at it; dates and items become JSON as in a result."""
    attempt = context()
    assert attempt.outputs is None
    first = attempt.submit("mail", {"at": dt.date(2026, 11, 28)}, name="a mail")
    attempt.submit("mail", tasks=[1, Item(2, name="second")], id="mine")
    assert attempt.outputs is not None
    one, two = attempt.outputs.objects
    assert (first, "mail", "a mail", b'{"at":"2026-11-28"}', 1) == (one.id, one.kind, one.name, one.content, one.depth)
    assert ("mine", b"null", b'[{"content":1},{"content":2,"name":"second"}]') == (two.id, two.content, two.items)


def test_ids_differ_by_call_and_by_task() -> None:
    """Thirty-two hexadecimal digits, as the API's."""
    attempt, other = context(), Context(Task("c-a-1", "a", "a-1", 0, "mail", 1, 2, 1, 0), 60.0)
    ids = {attempt.submit("mail"), attempt.submit("mail"), other.submit("mail")}
    assert 3 == len(ids)
    assert all(len(one) == 32 and int(one, 16) for one in ids)
    assert context().submit("mail") in ids


def test_one_object_too_many_is_refused() -> None:
    """The error says how many there may be, and what to do instead."""
    attempt = context()
    for _ in range(MAX_OUTPUTS):
        attempt.submit("mail")
    with pytest.raises(Reject, match=f"at most {MAX_OUTPUTS:,} objects and records: let several tasks produce them"):
        attempt.submit("mail")


def test_too_many_bytes_are_refused() -> None:
    """Each object fits, all of them do not."""
    attempt, content = context(), "x" * 900_000
    with pytest.raises(Reject, match=f"at most {MAX_OUTPUT_BYTES:,} bytes: produce references"):  # noqa: PT012  # which call it is does not matter
        for _ in range(30):
            attempt.submit("mail", content)
    assert attempt.outputs is not None
    assert 18 == len(attempt.outputs.objects)


@pytest.mark.parametrize("content", [object(), "\ud800", {1j: 2}, float])
def test_a_content_that_is_no_json_is_refused_at_the_call(content: Any) -> None:
    """With its type."""
    with pytest.raises(Reject, match=rf"context\.submit: the content, of type {type(content).__name__}, is not JSON"):
        context().submit("mail", content)


def test_a_content_that_no_reader_could_decode_is_refused_at_the_call() -> None:
    """Distribution would bury the object, and its parent would have finished."""
    deep: list[Any] = []
    for _ in range(501):
        deep = [deep]
    with pytest.raises(Reject, match="the content cannot be taken: it is nested deeper than 500 levels"):
        context(WorkerOutputRules()).submit("mail", deep)
    with pytest.raises(Reject, match="the content cannot be taken: it is nested deeper than 500 levels"):
        context(WorkerOutputRules()).submit("mail", tasks=[1, deep])


def test_an_attempt_that_is_cancelled_produces_nothing_more() -> None:
    """A thread that goes on after its time limit hears it."""
    attempt = context()
    attempt.cancelled = True
    with pytest.raises(Reject, match="cancelled or over its time limit"):
        attempt.submit("mail")


def test_copies_that_are_too_large_together_are_refused() -> None:
    """Distribution would refuse the object."""
    rules = WorkerOutputRules(max_tasks_per_object=MAX_TASKS)
    with pytest.raises(Reject, match="would be copied 1000 times"):
        context(rules).submit("mail", "x" * 100_000, tasks=1_000)


def test_an_object_without_tasks_leaves_their_number_to_distribution() -> None:
    """Its kind may have a split."""
    attempt = context(WorkerOutputRules())
    attempt.submit("mail")
    assert attempt.outputs is not None
    assert object_of(attempt.outputs.objects[0], TASK, 1).asked_tasks is None


def test_records_are_gathered_in_their_order() -> None:
    """Bytes as they are, text as UTF-8, the rest as JSON; None is a tombstone."""
    attempt = context()
    for value in (b"\x00", bytearray(b"\x01"), "größer", {"n": 1}, None):
        attempt.send("sales", b"k", value, headers=[("a", "b"), ("a", b"c")])
    assert attempt.outputs is not None
    assert [b"\x00", b"\x01", "größer".encode(), b'{"n":1}', None] == [one.value for one in attempt.outputs.records]
    assert {"sales"} == {one.topic for one in attempt.outputs.records}
    assert [("a", b"b"), ("a", b"c")] == attempt.outputs.records[0].headers


def test_objects_and_records_count_together() -> None:
    """They are sent in one transaction."""
    attempt = context()
    for _ in range(MAX_OUTPUTS // 2):
        attempt.submit("mail")
        attempt.send("sales", "k", "v")
    with pytest.raises(Reject, match=f"at most {MAX_OUTPUTS:,} objects and records"):
        attempt.send("sales", "k", "v")
    with pytest.raises(Reject, match=f"at most {MAX_OUTPUT_BYTES:,} bytes"):
        context().send("sales", "k", b"x" * MAX_OUTPUT_BYTES)


@pytest.mark.parametrize(
    ("key", "hash_"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_keys_go_where_java_s_clients_put_them(key: bytes, hash_: int) -> None:
    """The hashes are those of Kafka's own test (UtilsTest.testMurmur2)."""
    for count in (1, 4, 8, 12, 1_000):
        assert (hash_ & 0x7FFF_FFFF) % count == partition_of_key(key, count)
