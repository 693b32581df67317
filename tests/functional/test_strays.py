"""Requests in a queue that is not that of their kind: they are moved, not run, and nothing is lost or doubled."""

from __future__ import annotations

import pytest
from engine_bench import NOW_MS, request
from fake_steps import FakeStore
from fakes import batch, record, until
from plain_names import TASK_EVENTS, TASK_REQUESTS
from waiting_requests import due, own, row

from agents.engine.strays import MAX_MOVES, MOVES_HEADER
from app.events import TaskFinished, decode_task_request
from ebs import inline

GPU = "task-requests-gpu"
ELSEWHERE = {"default": "gpu", "mail": "default"}
"""The kind of most requests has another queue than that of the bench, which is the default one."""
RETIRED = {"*": "gpu"}
"""No kind has the queue of the bench."""


@inline
def work(_task: object) -> str:
    """Return at once."""
    return "done"


async def test_request_of_another_queue_is_sent_there_and_not_run(bench):
    """With its partition, key, bytes and headers; the requests around it run, and the offset passes it."""
    one = await bench(work, queues=ELSEWHERE)
    one.worker.ownership.give(3)
    one.put(3, request("a", kind="mail"), request("b"), request("c", kind="mail"))
    await until(lambda: one.finished() == {"a", "c"} and one.producer.sent_to(GPU))
    (moved,) = one.producer.sent_to(GPU)
    assert (3, request("b"), [(MOVES_HEADER, b"1")]) == (moved.partition, moved.value, moved.headers)
    assert {"a", "c"} == one.finished()
    assert [] == one.events("b")


async def test_request_that_waits_moves_when_it_is_read_and_keeps_its_due_time(bench):
    """It waits there: the workers of its own queue may stay, those of this one need not."""
    one = await bench(work, queues=ELSEWHERE)
    one.worker.ownership.give(0)
    one.put(0, due("b", 60_000, attempt=2))
    await until(lambda: one.producer.sent_to(GPU))
    task = decode_task_request(one.producer.sent_to(GPU)[0].value)
    assert (NOW_MS + 60_000, 2) == (task.due_at_ms, task.attempt)
    assert [] == one.waiting()


async def test_row_of_another_queue_moves_when_it_is_due(bench):
    """The row goes in the same commit; rows of this queue run."""
    one = await bench(work, queues=ELSEWHERE)
    own(one, FakeStore(dict([row("b", -5, 7), row("later", 60_000, 8)])), offset=9)
    await until(lambda: one.producer.sent_to(GPU))
    assert [8] == [key.offset for key, _ in one.waiting()]
    assert [] == one.events()


async def test_queue_that_no_kind_has_any_more_is_emptied_at_once(bench):
    """However many rows wait, and for however long; it needs no worker then."""
    one = await bench(work, queues=RETIRED, max_waiting_keys=10)
    rows = dict(row(f"o{number}", 60_000 + number, number) for number in range(3_000))
    own(one, FakeStore(rows), offset=3_000)
    await until(lambda: len(one.producer.sent_to(GPU)) == 3_000 and not one.waiting())
    moved = [decode_task_request(sent.value) for sent in one.producer.sent_to(GPU)]
    assert {f"o{number}" for number in range(3_000)} == {task.object_id for task in moved}
    assert {NOW_MS + 60_000 + number for number in range(3_000)} == {task.due_at_ms for task in moved}


@pytest.mark.parametrize(("moves", "is_moved"), [(MAX_MOVES - 1, True), (MAX_MOVES, False)])
async def test_request_that_was_moved_to_and_fro_runs_where_it_is(bench, moves, is_moved):
    """Workers with an older project would send it back, and those with the new one away, until all are restarted."""
    one = await bench(work, queues=ELSEWHERE)
    one.worker.ownership.give(0)
    stray = record(TASK_REQUESTS, 0, 0, request("b"), headers=[(MOVES_HEADER, str(moves).encode())])
    one.stream.put(batch(TASK_REQUESTS, 0, [stray], assignment=one.worker.ownership.assignment))
    await until(lambda: one.producer.offsets and one.committed()[0] == 1)
    assert is_moved == bool(one.producer.sent_to(GPU))
    assert is_moved != any(isinstance(event, TaskFinished) for event in one.events("b"))
    if is_moved:
        assert [(MOVES_HEADER, str(MAX_MOVES).encode())] == one.producer.sent_to(GPU)[0].headers


async def test_system_with_one_queue_looks_at_nothing(bench):
    """No request can be in a wrong queue, so no task pays for the look."""
    one = await bench(work)
    assert not one.engine._strays.can_be
    one.worker.ownership.give(0)
    one.put(0, request("a", kind="anything"))
    await until(lambda: one.finished() == {"a"})
    assert {TASK_EVENTS} == {sent.topic for sent in one.producer.records}
