"""What an attempt produces beside its result: it is committed with the attempt's end, or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from callback_receiver import SECRET
from engine_bench import NOW_MS, PARTITIONS, Bench
from fakes import until
from histories import task_event
from plain_names import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS
from producing_project import SORTS, late

from agents.execution.loading import load_handlers
from app.events import (
    JOIN_SEQUENCE,
    SPLIT_SEQUENCE,
    Parent,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskStarted,
    decode_object,
    decode_task_request,
    encode,
    task_id_of,
)
from app.rules.placement import partition_of
from app.settings.settings import Settings
from app.topics.shapes import TopicShape
from ebs import Reject

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fakes import Sent

GONE = "gone"
"""A topic that EBS_OUTPUT_TOPICS names and that does not exist."""
TOPICS = {
    "sales": TopicShape("sales", 12, 1),
    "tiny": TopicShape("tiny", 1, 1, max_message_bytes=200),
    "latest": TopicShape("latest", 3, 1, frozenset({"compact"})),
}
URL = "https://shop.example/hooks"
PAIR = {"submit": [{"kind": "thread", "content": {"n": 1}, "name": "first"}, {"kind": "inline", "tasks": [1, "two"]}]}


def request(kind: str, content: Any, *, object_id: str = "a", sequence: int = 0, **fields: Any) -> bytes:
    """Return the request of a task."""
    task: TaskCreated = task_event(TaskCreated, object_id, 0, at_ms=NOW_MS - 12)
    fields = {"task_id": task_id_of(object_id, sequence), "sequence": sequence, **fields}
    return encode(msgspec.structs.replace(task, kind=kind, content=msgspec.Raw(json.dumps(content).encode()), **fields))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """Return an engine that runs the project."""
    settings = Settings(
        project="producing_project",
        max_depth=3,
        max_tasks_per_object=5,
        output_topics=(*TOPICS, GONE),
        webhook_hosts=("shop.example",),
        webhook_secret=SECRET,  # type: ignore[arg-type]  # pydantic's
    )
    bench = Bench(None, handlers=load_handlers(settings), owned=0, output_topics=TOPICS)
    limits = {name: topic.max_message_bytes for name, topic in TOPICS.items() if topic.max_message_bytes}
    bench.worker.transactions.topic_limits.record_bytes.update(limits)
    await bench.start()
    yield bench
    await bench.stop()


def submitted(bench: Bench) -> list[Sent]:
    """Return the records of the committed objects."""
    return bench.producer.sent_to(OBJECTS)


async def dead(bench: Bench) -> str:
    """Wait until a task is dead; returns why."""
    await until(lambda: TaskDead in bench.types())
    (event,) = [one for one in bench.events() if isinstance(one, TaskDead)]
    return event.error


@pytest.mark.parametrize("kind", SORTS)
async def test_objects_are_committed_with_the_end_of_the_attempt(bench: Bench, kind: str) -> None:
    """From each sort of function: the records lie in the very transaction that has TASK_FINISHED."""
    bench.put(0, request(kind, PAIR))
    await until(lambda: bench.finished() == {"a"})
    (commit,) = [one for one in bench.producer.commits if any(sent.topic == OBJECTS for sent in one)]
    (finished,) = [sent for sent in commit if sent.topic == TASK_EVENTS and b"TASK_FINISHED" in (sent.value or b"")]
    first, second = (decode_object(one.value or b"") for one in submitted(bench))
    assert [first.object_id, second.object_id] == json.loads(finished.value or b"")["result"]
    assert ("thread", "first", b'{"n":1}', None) == (first.kind, first.name, bytes(first.content), first.task_count)
    assert isinstance(second.items, list)
    assert [b"1", b'"two"'] == [bytes(item.content) for item in second.items]
    assert (Parent("a", "a-0"), 1, NOW_MS) == (second.parent, second.depth, second.at_ms)
    for sent in submitted(bench):
        assert sent.key is not None
        assert partition_of(sent.key, PARTITIONS) == sent.partition


@pytest.mark.parametrize("kind", SORTS)
@pytest.mark.parametrize("then", ["fail", "reject", "no-json"])
async def test_what_a_failed_attempt_has_produced_is_gone(bench: Bench, kind: str, then: str) -> None:
    """Whether it raises, or returns what is no JSON."""
    bench.put(0, request(kind, PAIR | {"send": [{"topic": "sales", "key": "k", "value": 1}], "then": then}, attempt=2))
    await dead(bench)
    assert [] == submitted(bench)
    assert [] == bench.producer.sent_to("sales")


async def test_a_second_attempt_makes_the_same_objects() -> None:
    """Their ids come from the task's id and the number of the call."""
    ids = []
    for attempt, then in ((1, None), (2, "retry")):
        bench = Bench(None, handlers=load_handlers(Settings(project="producing_project")), owned=0)
        await bench.start()
        bench.put(0, request("coroutine", PAIR | {"then": then}, attempt=attempt))
        await until(lambda bench=bench: bench.finished() == {"a"})
        ids.append([sent.key for sent in submitted(bench)])
        await bench.stop()
    assert ids[0] == ids[1]
    assert 2 == len(set(ids[0]))


async def test_a_given_id_is_the_object_s(bench: Bench) -> None:
    """Whoever submits it again makes no second object: distribution knows the id."""
    bench.put(0, request("inline", {"submit": [{"kind": "inline", "id": "order-7"}]}))
    await until(lambda: bench.finished() == {"a"})
    assert ["order-7"] == [decode_object(sent.value or b"").object_id for sent in submitted(bench)]


async def test_a_submitted_object_has_its_callback(bench: Bench) -> None:
    """As if a client had submitted it."""
    bench.put(0, request("process", {"submit": [{"kind": "inline", "callback_url": URL}, {"kind": "inline"}]}))
    await until(lambda: bench.finished() == {"a"})
    assert [URL, msgspec.UNSET] == [decode_object(sent.value or b"").callback_url for sent in submitted(bench)]


async def test_split_and_join_submit_too(bench: Bench) -> None:
    """A split's objects come with its tasks; what comes from both knows its depth."""
    bench.put(
        0,
        request("joined", PAIR, sequence=SPLIT_SEQUENCE, role="split", depth=2),
        request("joined", [1], object_id="b", sequence=JOIN_SEQUENCE, role="join"),
    )
    await until(lambda: bench.finished() == {"a", "b"})
    parents = {decode_object(sent.value or b"").parent for sent in submitted(bench)}
    assert {Parent("a", "a-split"), Parent("b", "b-join")} == parents
    assert {1, 3} == {decode_object(sent.value or b"").depth for sent in submitted(bench)}
    tasks = [decode_task_request(sent.value or b"") for sent in bench.producer.sent_to(TASK_REQUESTS)]
    assert [2, 2] == [task.depth for task in tasks]


@pytest.mark.parametrize(("sequence", "role"), [(SPLIT_SEQUENCE, "split"), (JOIN_SEQUENCE, "join")])
async def test_a_split_or_join_that_the_project_lost_is_dead(sequence: int, role: str) -> None:
    """The function for all other kinds does not get it: it would take an object for a task."""
    bench = Bench(None, handlers=load_handlers(Settings(project="any_kind_project")), owned=0)
    await bench.start()
    bench.put(0, request("order", [], sequence=sequence, role=role), request("order", 1, object_id="b"))
    reason = await dead(bench)
    await until(lambda: bench.finished() == {"b"})
    assert f"no {role} for kind order" in reason
    assert f'put @project.{role}("order") back, then redrive the task' in reason
    await bench.stop()


async def test_a_join_knows_its_object(bench: Bench) -> None:
    """Its id, kind and name."""
    bench.put(0, request("joined", [1], sequence=JOIN_SEQUENCE, role="join", name="the name"))
    await until(lambda: bench.finished() == {"a"})
    (sent,) = submitted(bench)
    assert "joined a the name" == decode_object(sent.value or b"").name


@pytest.mark.parametrize("kind", SORTS)
async def test_a_loop_of_objects_ends(bench: Bench, kind: str) -> None:
    """At EBS_MAX_DEPTH the call is rejected, and the task is dead at once."""
    bench.put(0, request(kind, PAIR, depth=3))
    reason = await dead(bench)
    assert "4 objects would stand above the new one, at most 3 may (EBS_MAX_DEPTH)" in reason
    assert 1 == bench.types().count(TaskFailed)
    assert [] == submitted(bench)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"kind": "threat"}, 'no function of the project works on kind "threat" (did you mean "thread"?)'),
        ({"kind": "no kind"}, "is not a kind"),
        ({"kind": {"total": 3}}, "is not a kind"),
        (
            {"kind": "inline", "content": [[]] * 2 + ["x" * 1_000_000]},
            "at most 1,000,000 are allowed: submit references",
        ),
        ({"kind": "inline", "tasks": 6}, "at most 5 are allowed (EBS_MAX_TASKS_PER_OBJECT)"),
        ({"kind": "inline", "tasks": 0}, "an object has at least one task"),
        ({"kind": "inline", "tasks": []}, "empty list"),
        ({"kind": "inline", "tasks": "abc"}, "give a number, or a list"),
        ({"kind": "inline", "tasks": {"a": 1}}, "give a number, or a list"),
        ({"kind": "inline", "name": 3}, "is not a text"),
        ({"kind": "inline", "id": ""}, "is not a text of 1 to 200 characters"),
        ({"kind": "inline", "id": "x" * 201}, "is not a text of 1 to 200 characters"),
        ({"kind": "inline", "id": 7}, "is not a text of 1 to 200 characters"),
        ({"kind": "inline", "callback_url": 7}, "callback_url=7 is not a text"),
        ({"kind": "inline", "callback_url": "shop.example"}, "callback_url: it must be a http:// or https:// URL"),
        ({"kind": "inline", "callback_url": "https://evil.example/"}, "evil.example are not allowed: add it to EBS_"),
    ],
)
async def test_what_cannot_be_submitted_is_an_error_that_says_what_to_change(
    bench: Bench, call: dict[str, Any], words: str
) -> None:
    """At the call; a second attempt would not help."""
    bench.put(0, request("inline", {"submit": [{"kind": "inline"}, call]}))
    reason = await dead(bench)
    assert words in reason
    assert reason.startswith("Reject: context.submit: ")
    assert [] == submitted(bench)
    assert 1 == len(bench.producer.sent_to(DEAD_LETTERS))


@pytest.mark.parametrize("kind", SORTS)
async def test_records_are_committed_with_the_end_of_the_attempt(bench: Bench, kind: str) -> None:
    """In the same transaction as TASK_FINISHED, in the partition that Java's clients choose."""
    calls = [
        {"topic": "sales", "key": "foobar", "value": {"n": 1}, "headers": {"source": "test"}},
        {"topic": "sales", "key": "21", "value": "plain text"},
        {"topic": "latest", "key": "k", "value": None},
        {"topic": "sales", "key": None, "value": 3},
    ]
    bench.put(0, request(kind, {"send": calls}))
    await until(lambda: bench.finished() == {"a"})
    (commit,) = [one for one in bench.producer.commits if any(sent.topic == "sales" for sent in one)]
    assert any(b"TASK_FINISHED" in (sent.value or b"") for sent in commit)
    one, two, three = bench.producer.sent_to("sales")
    java = [(hash_ & 0x7FFF_FFFF) % 12 for hash_ in (-790332482, -973932308)]
    assert (java[0], b"foobar", b'{"n":1}', [("source", b"test")]) == one[1:]
    assert (java[1], b"21", b"plain text", []) == two[1:]
    assert (0, None, b"3") == three[1:4]
    assert [(b"k", None)] == [(sent.key, sent.value) for sent in bench.producer.sent_to("latest")]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"topic": "sale"}, 'EBS_OUTPUT_TOPICS does not name the topic "sale" (did you mean "sales"?): add it there'),
        ({"topic": "task-events"}, "EBS_OUTPUT_TOPICS does not name the topic"),
        ({"topic": 7}, "the first argument is the topic"),
        ({"topic": "sales", "key": 7}, "a key is text, bytes or None"),
        ({"topic": "sales", "headers": {"n": 7}}, "the header n is a int: give text or bytes"),
        ({"topic": "sales", "headers": ["ab", "cd"]}, "is not a header"),
        ({"topic": "sales", "headers": 5}, "is not a header"),
        ({"topic": "latest", "key": None}, "latest is compacted (cleanup.policy), so its records need a key"),
        ({"topic": "tiny", "value": "x" * 300}, "tiny takes at most 200 bytes a record (max.message.bytes)"),
    ],
)
async def test_what_cannot_be_sent_is_an_error_that_says_what_to_change(
    bench: Bench, call: dict[str, Any], words: str
) -> None:
    """What the broker would refuse ends no worker."""
    sends = [{"topic": "sales", "key": "k", "value": 1}, {"key": "k", "value": 1} | call]
    bench.put(0, request("inline", {"send": sends}))
    reason = await dead(bench)
    assert words in reason
    assert reason.startswith("Reject: context.send: ")
    assert [] == bench.producer.sent_to("sales")


@pytest.mark.parametrize("kind", SORTS)
async def test_a_task_whose_topic_does_not_exist_waits(bench: Bench, kind: str) -> None:
    """It is no failed attempt, and nothing that the function has produced is there."""
    sends = [{"topic": "sales", "key": "k", "value": 1}, {"topic": GONE, "key": "k", "value": 1}]
    bench.put(0, request(kind, {"send": sends}))
    await until(lambda: bench.waiting() != [])
    ((_, task),) = bench.waiting()
    assert 1 == task.attempt
    assert [TaskStarted] == bench.types()
    assert [] == bench.producer.sent_to("sales")


async def test_a_call_after_the_end_is_refused(bench: Bench) -> None:
    """It would have no effect, and nobody would notice."""
    bench.put(0, request("late", None))
    await until(lambda: bench.finished() == {"a"})
    with pytest.raises(Reject, match="called after the function had returned"):
        late.pop().submit("inline")
