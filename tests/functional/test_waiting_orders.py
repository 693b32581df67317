"""What operators ask of waiting tasks: started now, cancelled, by a worker and by the one that comes after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from engine_bench import NOW_MS, Gate, again, request
from fake_steps import FakeStore
from fakes import settle, until
from plain_names import TASK_REQUESTS

from app.events import TaskCancelled, TaskFinished, TaskStarted, decode_task_request, encode
from app.names import WAITING_TABLE
from app.rules.commands import CancelWaiting, LimitKind, StartTask, StartWaiting, encode_command, filter_name
from app.rules.waiting_rows import WaitingRow, encode_row, key_in_line, line_of, timed_key
from ebs.function import StartLimits

if TYPE_CHECKING:
    from engine_bench import Bench

HOUR_MS = 3_600_000


def row(
    name: str, offset: int, *, attempt: int = 1, kind: str = "default", since_ms: int = NOW_MS - 1, in_ms: int = HOUR_MS
) -> tuple[bytes, bytes]:
    """Return the row of a task that waits for an hour."""
    task = decode_task_request(request(name, attempt=attempt, kind=kind))
    value = encode(msgspec.structs.replace(task, due_at_ms=NOW_MS + in_ms))
    stored = WaitingRow(NOW_MS, name.encode(), value, [], since_ms, "" if attempt == 1 else "OSError: no")
    return timed_key(NOW_MS + in_ms, offset, attempt), encode_row(stored)


def own(one: Bench, store: FakeStore, number: int = 0) -> None:
    """Let a bench own a partition with what waits in a store."""
    one.worker.ownership.give(number, stores={WAITING_TABLE: store}, offset=50)


def ask(one: Bench, command: Any) -> None:
    """Let an operator ask for something."""
    name = command.task_id if isinstance(command, StartTask) else filter_name(command)
    family = {StartTask: "start:task", StartWaiting: "start:waiting", CancelWaiting: "cancel:waiting"}[type(command)]
    assert one.control.apply(f"{family}:{name}".encode(), encode_command(command))
    one.engine.control_changed()


def start_of(key: bytes, task_id: str, partition: int = 0) -> StartTask:
    """Return the command that starts the task of a row."""
    return StartTask(task_id, partition, key, NOW_MS)


async def test_one_task_is_started_now(bench, gate):
    """The others wait on; its row is due now, and goes with the end of the attempt."""
    store = FakeStore(dict([row("a", 1), row("b", 2)]))
    one = await bench(gate)
    own(one, store)
    ask(one, start_of(row("a", 1)[0], "a-0"))
    await until(lambda: gate.started == ["a"])
    await until(lambda: [(NOW_MS, 1, 1, b""), (NOW_MS + HOUR_MS, 2, 1, b"")] == [key for key, _ in one.waiting()])
    gate.finish()
    await until(lambda: one.types("a") == [TaskStarted, TaskFinished] and len(one.waiting()) == 1)


@pytest.mark.parametrize("wrong", [start_of(row("a", 1)[0], "b-0"), start_of(row("a", 1)[0], "a-0", partition=1)])
async def test_start_means_the_row_of_its_task_and_partition_alone(bench, gate, wrong):
    """Another task's row under the same key, as in another partition, stays as it is."""
    store = FakeStore(dict([row("a", 1)]))
    one = await bench(gate)
    own(one, store)
    ask(one, wrong)
    await settle()
    assert [] == gate.started


async def test_orders_for_one_queue_leave_the_other_alone(bench):
    """Two queues have rows under the same partition and key; each command reaches the workers of both."""
    benches = [(await bench(gate := Gate()), gate) for _ in range(2)]
    key = row("a", 1)[0]
    for (one, _), name in zip(benches, "ag", strict=True):
        own(one, FakeStore({key: row(name, 1)[1], row("x", 2)[0]: row(f"{name}x", 2, kind=f"of-{name}")[1]}))
        ask(one, start_of(key, "g-0"))
        ask(one, CancelWaiting(NOW_MS, kind="of-a"))
    (default, idle), (_, gpu) = benches
    await until(lambda: gpu.started == ["g"])
    await until(lambda: default.types("ax") == [TaskCancelled])
    await settle()
    assert [] == idle.started
    assert ["a-0"] == [task.task_id for _, task in default.waiting()]
    assert ["g-0", "gx-0"] == [task.task_id for _, task in benches[1][0].waiting()]


@pytest.mark.parametrize(
    ("queue", "concurrency", "sent_to"), [("gpu", 9, ("task-requests-gpu", 3)), ("default", 1, (TASK_REQUESTS, 0))]
)
async def test_task_that_is_started_stays_due_wherever_it_goes(bench, gate, queue, concurrency, sent_to):
    """To its new queue, or to a partition with a place: its request names the time for which it was to wait."""
    one = await bench(gate, queues={"default": queue, "mail": "default"})
    one.control.apply(b"limit:default", encode_command(LimitKind("default", concurrency=concurrency)))
    own(one, FakeStore(dict([row("a", 1)])), 3)
    ask(one, start_of(row("a", 1)[0], "a-0", 3))
    await until(lambda: one.producer.sent_to(sent_to[0]))
    (sent,) = one.producer.sent_to(sent_to[0])
    assert (sent_to[1], NOW_MS) == (sent.partition, decode_task_request(sent.value).due_at_ms)
    await until(lambda: not one.waiting())


async def test_start_of_a_wait_does_not_hasten_the_next_wait(bench, gate):
    """The command stays in force, and its task waits again after a failure: as long as its back-off says."""
    store = FakeStore(dict([row("a", 1, attempt=2)]))
    one = await bench(gate, max_attempts=5)
    own(one, store)
    ask(one, start_of(row("a", 1, attempt=2)[0], "a-0"))
    ask(one, StartWaiting(NOW_MS))
    await until(lambda: gate.started == ["a"])
    one.now_ms += 10
    gate.fail("a", ValueError("again"))
    await until(lambda: [key.attempt for key, _ in one.waiting()] == [3])
    one.engine.control_changed()
    one.worker.ownership.take_away(0)
    own(one, store)
    await settle()
    assert gate.started == ["a"]
    ask(one, StartWaiting(one.now_ms + 1))
    await until(lambda: gate.started == ["a", "a"])


@pytest.mark.parametrize(
    ("fields", "started"),
    [
        ({}, {"a", "b", "c"}),
        ({"kind": "mail"}, {"a"}),
        ({"reason": "retry"}, {"b"}),
        ({"reason": "delay"}, {"a", "c"}),
        ({"object_id": "c"}, {"c"}),
        ({"kind": "mail", "reason": "retry"}, set()),
    ],
)
async def test_what_a_filter_means_starts_now(bench, gate, fields, started):
    """All that began to wait before; a row that came later waits on."""
    rows = [row("a", 1, kind="mail"), row("b", 2, attempt=2), row("c", 3), row("late", 4, since_ms=NOW_MS + 1)]
    store = FakeStore(dict(rows))
    one = await bench(gate, max_attempts=5)
    own(one, store)
    ask(one, StartWaiting(NOW_MS, **fields))
    await until(lambda: set(gate.started) == started)
    await settle()
    assert len(gate.started) == len(started)


async def test_what_a_filter_means_is_cancelled(bench, gate):
    """Only what waits: what runs goes on."""
    rows = [row("a", 1, kind="mail"), row("b", 2), row("run", 3, kind="mail", in_ms=0)]
    one = await bench(gate)
    own(one, FakeStore(dict(rows)))
    await until(lambda: gate.started == ["run"])
    ask(one, CancelWaiting(NOW_MS, kind="mail"))
    await until(lambda: one.types("a") == [TaskCancelled])
    await settle()
    assert gate.running
    assert ["run-0", "b-0"] == [task.task_id for _, task in one.waiting()]


async def test_cancel_means_what_is_loaded_from_the_table(bench, gate):
    """The first ones of a line, and a retry whose kind is paused, are in memory: `ebs waiting` lists them."""
    line = line_of("mail")
    rows = dict(row(f"t{number}", number, kind="mail") for number in range(450))
    in_line = {key_in_line(line, number, 1): value for number, value in enumerate(rows.values())}
    one = await bench(gate)
    one.control.apply(b"limit:mail", b'{"type":"LIMIT","kind":"mail","concurrency":4}')
    one.control.apply(b"pause:other", b'{"type":"PAUSE","at_ms":1}')
    one.engine.control_changed()
    own(one, FakeStore(in_line | dict([row("r", 500, kind="other", attempt=2, in_ms=0)])))
    await until(lambda: gate.started == ["t0"])
    ask(one, CancelWaiting(NOW_MS))
    await until(lambda: ["t0-0"] == [task.task_id for _, task in one.waiting()])
    assert all(one.types(name) == [TaskCancelled] for name in ("r", *(f"t{number}" for number in range(1, 450))))
    gate.finish()
    await until(lambda: not one.waiting())


async def test_keys_go_on_when_the_line_of_their_kind_is_cancelled(bench, gate):
    """They waited for what an earlier life had in the line of the kind; nothing else tells them that it is empty."""
    of_kind, of_key = line_of("default"), line_of("default", "k")
    values = [row(name, 1)[1] for name in ("run", "gone", "k")]
    keyed = encode_row(WaitingRow(NOW_MS, b"k", again(request("k"), key="k"), [], NOW_MS - 1))
    store = FakeStore(
        {key_in_line(of_kind, 1, 1): values[0], key_in_line(of_kind, 2, 1): values[1], key_in_line(of_key, 3, 1): keyed}
    )
    one = await bench(gate, starts=StartLimits(per_key=1, concurrency=4))
    own(one, store)
    await until(lambda: gate.started == ["run"])
    ask(one, CancelWaiting(NOW_MS, reason="kind"))
    await until(lambda: one.types("gone") == [TaskCancelled])
    gate.finish("run")
    await until(lambda: gate.started == ["run", "k"])


async def test_next_owner_carries_out_what_the_former_one_did_not(bench, gate):
    """A worker that dies amid a sweep leaves rows that are due and rows that are not: each task runs once."""
    store = FakeStore(dict(row(f"t{number}", number) for number in range(450)))
    one = await bench(gate, concurrency=1)
    own(one, store)
    ask(one, StartWaiting(NOW_MS))
    await until(lambda: any(key.due_at_ms == NOW_MS for key, _ in one.waiting()))
    one.worker.ownership.take_away(0)
    left = FakeStore(dict(store.rows))
    other = await bench(gate, control=one.control, concurrency=1_000)
    own(other, left)
    await until(lambda: len(gate.running) == 450)
    assert len(other.waiting()) == 450
    gate.finish()
    await until(lambda: not left.rows)


async def test_two_rows_that_get_the_same_key_are_both_kept(bench, gate):
    """Two requests of one offset (of two topics) may wait: each stays a row."""
    store = FakeStore(dict([row("a", 1, in_ms=HOUR_MS), row("b", 1, in_ms=HOUR_MS + 1)]))
    one = await bench(gate)
    own(one, store)
    ask(one, StartWaiting(NOW_MS))
    await until(lambda: set(gate.started) == {"a", "b"})


async def test_new_lane_alone_is_swept(bench, gate):
    """The commands in force are carried out once in a lane, not anew in all whenever one comes."""
    one = await bench(gate)
    own(one, FakeStore(dict([row("a", 1)])))
    ask(one, StartWaiting(NOW_MS, kind="other"))
    ask(one, CancelWaiting(NOW_MS, kind="other"))
    await settle()
    window = next(iter(one.lanes)).window
    looked = []
    sweeps = one.engine.waiting._sweeps
    read = sweeps._read
    sweeps._read = lambda lane, *found: looked.append(lane.partition.number) or read(lane, *found)
    assert window is not None
    own(one, FakeStore(dict([row("b", 1)])), number=1)
    await until(lambda: looked)
    await settle()
    assert [1] == looked


async def test_row_that_is_due_keeps_its_turn(bench, gate):
    """A start of what is due already would put it behind what came later."""
    store = FakeStore(dict([row("run", 1, in_ms=-20), row("a", 2, in_ms=-10), row("b", 3, in_ms=-5)]))
    one = await bench(gate, concurrency=1)
    own(one, store)
    await until(lambda: gate.started == ["run"])
    ask(one, start_of(row("a", 2, in_ms=-10)[0], "a-0"))
    ask(one, StartWaiting(NOW_MS))
    await settle()
    assert [NOW_MS - 20, NOW_MS - 10, NOW_MS - 5] == [key.due_at_ms for key, _ in one.waiting()]


async def test_command_with_a_row_that_is_no_key_does_nothing(bench, gate):
    """Another program may write anything to `control`; no worker must end of it."""
    one = await bench(gate)
    own(one, FakeStore(dict([row("a", 1)])))
    assert not one.control.apply(b"start:task:a-0", encode_command(StartTask("a-0", 0, b"no key", NOW_MS)))
    one.engine.control_changed()
    await settle()
    assert [] == gate.started
