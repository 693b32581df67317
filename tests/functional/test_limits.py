"""Limits by kind and by key: order, counts, what waits in the table, restarts, what is passed on."""

from __future__ import annotations

import msgspec
import pytest
from engine_bench import NOW_MS, again, request
from fake_steps import FakeStore
from fakes import settle, until
from plain_names import TASK_REQUESTS
from waiting_requests import own

from agents.engine.kind_limits import share_of_partition
from agents.engine.lane_lines import MAX_PARKED
from app.events import TaskDead, TaskFinished, TaskStarted, decode_task_request
from app.rules.waiting_rows import WaitingRow, encode_row, key_in_line, line_of
from ebs import Reject, Retry, inline
from ebs.function import StartLimits

PAUSE = b'{"type":"PAUSE","at_ms":1,"reason":"for a test"}'
IN_ORDER = StartLimits(per_key=1)


def keyed(name: str, key: str, **changes: object) -> bytes:
    """Return a request of a key."""
    return again(request(name), key=key, **changes)


def limit(one, kind: str = "default", **limits: int) -> None:
    """Let an operator limit a kind, or no longer."""
    value = msgspec.json.encode({"type": "LIMIT", "kind": kind, **limits}) if limits else None
    one.control.apply(f"limit:{kind}".encode(), value)
    one.engine.control_changed()


async def test_failed_task_keeps_its_key_until_its_last_attempt(bench, gate):
    """The tasks behind it wait for its retries; those of other keys do not."""
    one = await bench(gate, starts=IN_ORDER, max_attempts=2)
    one.worker.ownership.give(0)
    one.put(0, keyed("a", "k"), keyed("b", "k"), keyed("c", "l"))
    await until(lambda: gate.started == ["a", "c"])
    gate.fail("a", Retry(delay_s=60))
    await until(lambda: len(one.waiting()) == 1)
    await settle()
    assert ["a", "c"] == gate.started
    one.now_ms += 60_000
    one.engine.waiting._timer_rings()
    await until(lambda: gate.started == ["a", "c", "a"])
    gate.fail("a", Reject("never"))
    await until(lambda: gate.started == ["a", "c", "a", "b"])


async def test_next_owner_waits_for_the_retry_of_a_key(bench, gate):
    """The row of the retry says that its key waits for it."""
    one = await bench(gate, starts=IN_ORDER, max_attempts=2)
    store = FakeStore()
    own(one, store)
    one.put(0, keyed("a", "k"), keyed("b", "k"))
    await until(lambda: gate.started == ["a"])
    gate.fail("a", Retry(delay_s=60))
    await until(lambda: store.rows)

    second = await bench(gate, starts=IN_ORDER, max_attempts=2)
    own(second, store, offset=1, end=2)
    second.put(0, keyed("b", "k"), keyed("c", "l"), start=1)
    await until(lambda: gate.started == ["a", "c"])
    assert {"retry": 1, "key": 1} == counts(second)


def counts(one) -> dict[str, int]:
    """Return how many tasks wait by reason."""
    return {told.reason: told.waiting_count for told in one.engine.report.waiting_counts() if told.waiting_count}


async def test_long_line_of_a_key_keeps_its_order_through_the_table(bench):
    """Far more than fit into memory: each starts after the one before it, and other keys are not behind them."""
    worked: list[str] = []
    one = await bench(inline(lambda task: worked.append(task.object_id)), starts=IN_ORDER)
    one.worker.ownership.give(0)
    one.control.apply(b"pause:default", b'{"type":"PAUSE","at_ms":1}')
    names = [f"n{number}" for number in range(MAX_PARKED + 300)]
    one.put(0, *(keyed(name, "k") for name in names), again(request("other"), kind="mail"))
    await until(lambda: len(one.waiting()) == 300 and worked == ["other"])
    one.control.apply(b"pause:default", None)
    one.engine.control_changed()
    await until(lambda: len(worked) == len(names) + 1)
    assert names == worked[1:]
    await until(lambda: not one.waiting())


async def test_rows_wait_for_the_log_that_lies_before_them(bench, gate):
    """What waited in the memory of a dead owner comes again from the log: its rows were asked for later."""
    store = FakeStore()
    value = encode_row(WaitingRow(NOW_MS, b"late-0", keyed("late", "k"), []))
    store.rows[key_in_line(line_of("default", "k"), 5, 1)] = value
    one = await bench(gate, starts=IN_ORDER)
    own(one, store, offset=3, end=6)
    await settle()
    assert [] == gate.started
    one.put(0, keyed("early", "k"), start=3, end=6)
    await until(lambda: gate.started == ["early"])
    gate.finish("early")
    await until(lambda: gate.started == ["early", "late"])
    gate.finish("late")
    await until(lambda: one.finished() == {"early", "late"} and not store.rows)


async def test_rows_of_a_key_wait_for_older_ones_of_its_kind(bench):
    """A dead owner had moved some tasks from the line of the kind to that of the key, and had others in memory."""
    store = FakeStore()
    names = [f"n{number}" for number in range(150)]
    for offset, name in enumerate(names):
        line = line_of("default", "k") if offset in {20, 149} else line_of("default")
        store.rows[key_in_line(line, offset, 1)] = encode_row(WaitingRow(NOW_MS, b"", keyed(name, "k"), []))
    worked: list[str] = []
    one = await bench(inline(lambda task: worked.append(task.object_id)), starts=IN_ORDER)
    own(one, store, offset=150, end=150)
    await until(lambda: len(worked) == 150)
    assert names == worked
    await until(lambda: not store.rows)
    assert "" == one.engine.report.could_go_on()


async def test_no_row_is_lost_to_one_of_the_same_place(bench):
    """Offsets begin again in a topic that was made anew: both tasks run."""
    store = FakeStore()
    old = encode_row(WaitingRow(NOW_MS, b"old-0", request("old"), []))
    store.rows[key_in_line(line_of("default"), MAX_PARKED, 1)] = old
    worked: list[str] = []
    one = await bench(inline(lambda task: worked.append(task.object_id)))
    one.control.apply(b"pause:default", b'{"type":"PAUSE","at_ms":1}')
    own(one, store)
    one.put(0, *(request(f"n{number}") for number in range(MAX_PARKED + 1)))
    await until(lambda: len(store.rows) == MAX_PARKED + 2)
    one.control.apply(b"pause:default", None)
    one.engine.control_changed()
    await until(lambda: len(worked) == MAX_PARKED + 2)
    assert "old" in worked


async def test_so_many_of_a_key_and_of_a_kind_run_at_once(bench, gate):
    """Live limits: two of each key, five of the kind; a cancel gives a turn to the next one."""
    one = await bench(gate)
    for number in range(8):
        one.worker.ownership.give(number)
    limit(one, per_key=2, concurrency=40)
    one.put(0, *(keyed(f"a{number}", "k") for number in range(4)), *(keyed(f"b{number}", "l") for number in range(4)))
    await until(lambda: len(gate.started) == 4)
    await settle()
    assert ["a0", "a1", "b0", "b1"] == sorted(gate.started)
    gate.finish("a1")
    await until(lambda: "a2" in gate.started)
    one.control.apply(b"cancel:object:b0", b'{"type":"CANCEL","object_id":"b0","at_ms":1}')
    one.engine.control_changed()
    await until(lambda: "b2" in gate.started)
    limit(one)
    await until(lambda: {"a3", "b3"} <= set(gate.started))


async def test_fewer_places_than_partitions_are_shared_by_passing_tasks_on(bench, gate):
    """A partition without a place sends its requests to one with a place, in the transaction that ends them there."""
    one = await bench(gate)
    for number in range(2):
        one.worker.ownership.give(number)
    limit(one, concurrency=1)
    passed_on = again(request("a"), object_partition=1)
    one.put(1, passed_on)
    await until(lambda: one.producer.sent_to(TASK_REQUESTS) and one.committed(1) == (1, ""))
    (sent,) = one.producer.sent_to(TASK_REQUESTS)
    assert (0, decode_task_request(passed_on)) == (sent.partition, decode_task_request(sent.value or b""))
    assert [] == gate.started


@pytest.mark.parametrize(("limited", "partitions"), [(1, 8), (8, 8), (20, 8), (200, 3), (3, 1)])
def test_shares_of_lanes_add_up(limited, partitions):
    """To the limit, and no two differ by more than one."""
    shares = [share_of_partition(limited, number, partitions) for number in range(partitions)]
    assert limited == sum(shares)
    assert max(shares) - min(shares) <= 1


async def test_end_of_a_task_is_written_before_the_next_of_its_key_starts(bench, gate):
    """A dead task's end waits for others, as a rule; here a crash could let it run again after the next one."""
    one = await bench(gate, starts=IN_ORDER, gather_s=60)
    one.worker.ownership.give(0)
    one.put(0, keyed("first", "l"), keyed("a", "k"), keyed("b", "k"))
    await until(lambda: gate.started == ["first", "a"])
    gate.fail("first", Reject("no"))
    await until(lambda: TaskDead in one.types("first"))
    gate.fail("a", Reject("no"))
    await until(lambda: gate.started == ["first", "a", "b"])
    await until(lambda: TaskDead in one.types("a") and TaskStarted in one.types("b"))
    order = [(type(event), event.object_id) for event in one.events()]
    assert order.index((TaskDead, "a")) < order.index((TaskStarted, "b"))
    gate.finish("b")
    await until(lambda: TaskFinished in one.types("b"))


async def test_task_from_the_log_does_not_overtake_those_that_have_just_left_their_line(bench, gate):
    """A resume lets all tasks of a kind go on at once; until they have started, a later one of their key comes."""
    one = await bench(gate, starts=IN_ORDER)
    one.worker.ownership.give(0)
    one.control.apply(b"pause", PAUSE)
    one.put(0, keyed("a", "k"), keyed("b", "k"))
    (lane,) = one.lanes
    await until(lambda: lane.lines.parked_count == 2)
    one.control.apply(b"pause", None)
    one.engine.control_changed()
    one.engine.take(one.worker.batch(0, [keyed("c", "k")], start=2))
    for started in (["a"], ["a", "b"], ["a", "b", "c"]):
        await until(lambda started=started: gate.started == started)
        gate.finish(started[-1])
    await until(lambda: one.finished() == {"a", "b", "c"})
