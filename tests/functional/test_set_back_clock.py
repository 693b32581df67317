"""A worker whose clock goes back: retries wait for their pauses all the same, and nothing else becomes due."""

from __future__ import annotations

import pytest
from engine_bench import NOW_MS, request
from fakes import until
from waiting_requests import due

HOUR_MS = 3_600_000


@pytest.mark.parametrize("ahead_ms", [0, HOUR_MS])
async def test_retry_waits_for_its_pause_when_the_clock_goes_back(bench, gate, ahead_ms):
    """By an hour, from the right time or to it; the delayed task waits for its instant."""
    one = await bench(gate, max_attempts=5)
    one.now_ms += ahead_ms
    one.worker.ownership.give(0)
    one.put(0, request("a"), due("b", ahead_ms + 5_000))
    await until(lambda: gate.running)
    gate.fail("a", ConnectionError("not yet"))
    await until(lambda: len(one.waiting()) == 2)
    pause_ms = {task.object_id: key.due_at_ms - one.now_ms for key, task in one.waiting()}["a"]
    one.now_ms -= HOUR_MS
    one.engine.waiting._look()
    await until(lambda: one.now_ms + pause_ms in {key.due_at_ms for key, _ in one.waiting()})
    one.now_ms += pause_ms
    one.engine.waiting._look()
    one.engine.waiting._on_due()
    await until(lambda: gate.started == ["a", "a"])
    gate.finish("a")
    await until(lambda: one.finished() == {"a"})
    assert [NOW_MS + ahead_ms + 5_000] == [key.due_at_ms for key, _ in one.waiting()]


async def test_small_step_changes_nothing(bench, gate):
    """As a time service does it: a retry is late by that much."""
    one = await bench(gate, max_attempts=5)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    gate.fail("a", ConnectionError("not yet"))
    await until(one.waiting)
    before = [key for key, _ in one.waiting()]
    one.now_ms -= 5_000
    one.engine.waiting._look()
    one.put(0, request("b"), start=1)
    await until(lambda: "b" in gate.running)
    gate.finish("b")
    await until(lambda: one.finished() == {"b"})
    assert before == [key for key, _ in one.waiting()]
