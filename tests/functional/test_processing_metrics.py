"""The metrics of a processing worker: how many attempts ended, by role and outcome."""

from __future__ import annotations

from typing import Any

import msgspec
from engine_bench import Bench, Gate, request
from fakes import until

from agents.engine.processing_metrics import ProcessingCollector
from agents.execution.loading import load_handlers
from app.events import SPLIT_SEQUENCE, decode_task_request, encode, task_id_of
from app.settings.settings import Settings


def attempts(bench: Bench) -> dict[tuple[str, str], float]:
    """Return the attempts on `/metrics` by role and outcome."""
    (family,) = [one for one in ProcessingCollector(bench.engine).collect() if one.name == "ebs_attempts"]
    return {(one.labels["role"], one.labels["outcome"]): one.value for one in family.samples}


async def test_attempts_are_counted_by_role_and_outcome() -> None:
    """A split whose function is gone is dead; a task of the same worker finishes."""
    bench = Bench(None, handlers=load_handlers(Settings(project="any_kind_project")), owned=0)
    await bench.start()
    task, split_id = decode_task_request(request("a")), task_id_of("a", SPLIT_SEQUENCE)
    split = msgspec.structs.replace(task, task_id=split_id, sequence=SPLIT_SEQUENCE, role="split")
    bench.put(0, encode(split), request("b"))
    await until(lambda: bench.finished() == {"b"} and len(attempts(bench)) == 2)
    assert {("split", "dead"): 1, ("task", "finished"): 1} == attempts(bench)
    await bench.stop()


async def test_attempt_that_is_tried_again_has_failed(bench: Any, gate: Gate) -> None:
    """It is not dead."""
    one: Bench = await bench(gate, max_attempts=2)
    one.worker.ownership.give(0)
    one.put(0, request("a"))
    await until(lambda: gate.running)
    gate.fail("a", ValueError("not now"))
    await until(lambda: attempts(one))
    assert {("task", "failed"): 1} == attempts(one)
