"""Callbacks as tasks of the engine: retries, deaths, redrives, and a worker that dies before its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from callback_receiver import SECRET, Receiver, answering, hang
from engine_bench import NOW_MS
from fakes import until
from histories import task_event
from loaded_handlers import in_hand
from plain_names import BARE, DEAD_LETTERS

from agents.execution.loading import CALLBACK_BACKOFF_S, Handlers, load_handlers
from app.events import (
    FinishedObject,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
    decode_task_request,
    encode,
)
from app.rules.breaker import DeadShares
from app.rules.callbacks import callback_of
from app.rules.redrive import DeadLetterRecord, RedrivePlan, RedrivePolicy
from app.rules.routing import Routes
from app.settings.settings import Settings
from ebs import Context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

END = FinishedObject("e-a-1", "a", "order", NOW_MS - 20, NOW_MS - 90, 1, 1, 0, 0, 1, msgspec.Raw(b"7"))
GONE = answering(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")
BROKEN = answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Return a receiver that confirms."""
    async with Receiver() as one:
        yield one


@pytest.fixture
async def handlers() -> AsyncIterator[Handlers]:
    """Return the handlers of a worker that may call this machine."""
    settings = Settings(
        webhook_hosts=("127.0.0.1",),
        webhook_secret=SECRET,  # type: ignore[arg-type]  # pydantic's
        webhook_timeout_s=600,
        process_time="0",
    )
    loaded = load_handlers(settings)
    yield loaded
    await loaded.close()


def request(receiver: Receiver, object_id: str = "a") -> bytes:
    """Return the request of a callback."""
    end = msgspec.structs.replace(END, object_id=object_id)
    (made,) = callback_of(end, receiver.url(), 3, NOW_MS - 12).requests
    return encode(made)


async def begun(bench: Callable[..., Any], handlers: Handlers, value: bytes, **options: Any) -> Any:
    """Return an engine that has a request to work."""
    one = await bench(in_hand(None, mode="coroutine"), handlers=handlers, **options)
    one.worker.ownership.give(0)
    one.put(0, value)
    return one


async def test_delivery_is_the_end_of_its_task(bench: Any, handlers: Handlers, receiver: Receiver) -> None:
    """With the receiver's status as result, under role and kind of callbacks."""
    one = await begun(bench, handlers, request(receiver))
    await until(lambda: one.types() == [TaskStarted, TaskFinished])
    finished = one.events()[-1]
    assert (b'{"status":200}', "callback", "ebs.callback", "f-a-callback1", 3) == (
        bytes(finished.result),
        finished.role,
        finished.kind,
        finished.id,
        finished.object_partition,
    )


async def test_failed_delivery_waits_for_its_next_attempt(bench: Any, handlers: Handlers, receiver: Receiver) -> None:
    """By the back-off of callbacks; the next attempt sends the same id with a new timestamp."""
    receiver.behave = BROKEN
    one = await begun(bench, handlers, request(receiver))
    await until(lambda: one.types() == [TaskStarted, TaskFailed, TaskRetried])
    assert "CallbackFailed: the receiver answered 500 Oops" == one.events()[-1].error
    ((_, again),) = one.waiting()
    assert (2, NOW_MS + CALLBACK_BACKOFF_S[0] * 1_000) == (again.attempt, again.due_at_ms)
    receiver.behave = answering()
    second = await begun(bench, handlers, encode(msgspec.structs.replace(again, due_at_ms=NOW_MS)))
    await until(lambda: second.types() == [TaskStarted, TaskFinished])
    assert ["e-a-1", "e-a-1"] == [each.headers["webhook-id"] for each in receiver.received]
    assert all(each.is_signed for each in receiver.received)


async def test_dead_callback_is_redriven_like_any_task(bench: Any, handlers: Handlers, receiver: Receiver) -> None:
    """From its dead letter, as it was: the same event goes to the same receiver under the same id."""
    receiver.behave = GONE
    one = await begun(bench, handlers, request(receiver))
    await until(lambda: one.types() == [TaskStarted, TaskFailed, TaskDead])
    (letter,) = one.producer.sent_to(DEAD_LETTERS)
    policy = RedrivePolicy(BARE, Routes(BARE, 4))
    plan = policy.plan(DeadLetterRecord(letter.key, letter.value, letter.headers), at_ms=NOW_MS)
    assert isinstance(plan, RedrivePlan)
    receiver.behave = answering()
    task = decode_task_request(plan.request.value or b"")
    assert ("a-callback1", "callback", 1, 1) == (task.task_id, task.role, task.redrive, task.attempt)
    await handlers.for_task(task).function(task, Context(task, 60.0))
    assert ["e-a-1", "e-a-1"] == [each.headers["webhook-id"] for each in receiver.received]


async def test_receiver_that_hangs_holds_up_neither_others_nor_tasks(
    bench: Any, handlers: Handlers, receiver: Receiver
) -> None:
    """More callbacks hang than the pool has places."""
    async with Receiver(hang) as silent:
        hanging = [request(silent, f"h{number}") for number in range(4)]
        task = encode(task_event(TaskCreated, "b", 0, at_ms=NOW_MS - 12))
        one = await bench(in_hand(None, mode="coroutine"), handlers=handlers, concurrency=2)
        one.worker.ownership.give(0)
        one.put(0, *hanging, request(receiver), task)
        await until(lambda: one.finished() == {"a", "b"})
        assert 4 == len(silent.received)


async def test_callback_that_takes_no_place_lets_the_next_one_start_at_once(
    bench: Any, handlers: Handlers, receiver: Receiver
) -> None:
    """Not only after the next commit."""
    async with Receiver(hang) as silent:
        one = await bench(in_hand(None, mode="coroutine"), handlers=handlers, concurrency=1, commit_interval_s=3_600)
        one.worker.ownership.give(0)
        one.put(0, request(silent, "h"), request(receiver))
        await until(lambda: len(receiver.received) == 1)


async def test_dead_callbacks_pause_nothing(bench: Any, handlers: Handlers, receiver: Receiver) -> None:
    """They would pause the callbacks to all other receivers."""
    receiver.behave = GONE
    shares = DeadShares(limit=0.1, window_s=60, min_count=1)
    one = await bench(in_hand(None, mode="coroutine"), handlers=handlers, dead_shares=shares)
    one.worker.ownership.give(0)
    one.put(0, request(receiver), request(receiver, "b"))
    await until(lambda: one.types().count(TaskDead) == 2)
    assert not one.control.has_pauses


async def test_worker_that_dies_before_its_commit_sends_again_with_the_same_id(
    bench: Any, handlers: Handlers, receiver: Receiver
) -> None:
    """At least once: the receiver drops what it has by the id; the delivery counts once."""
    first = await begun(bench, handlers, request(receiver), commit_interval_s=3_600)
    await until(lambda: len(receiver.received) == 1)
    offset, metadata = first.committed()
    second = await bench(in_hand(None, mode="coroutine"), handlers=handlers)
    second.worker.ownership.give(0, offset=offset, metadata=metadata)
    second.put(0, request(receiver))
    await until(lambda: TaskFinished in second.types())
    assert ["e-a-1", "e-a-1"] == [each.headers["webhook-id"] for each in receiver.received]
    assert [1] == [[*first.types(), *second.types()].count(TaskFinished)]
