"""Types that changed between the submit and the work: what was written for the old one is rejected, with its field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from ending_project import GATED
from engine_bench import NOW_MS, Bench
from fakes import until
from histories import task_event

from agents.execution.loading import load_handlers
from app.events import JOIN_SEQUENCE, SPLIT_SEQUENCE, TaskCreated, TaskDead, TaskFailed, encode, task_id_of
from app.settings.settings import Settings


@pytest.mark.parametrize(
    ("sequence", "role", "content", "words"),
    [
        (SPLIT_SEQUENCE, "split", {"lines": 3}, "Expected `int`, got `object`"),
        (0, msgspec.UNSET, "three", "Expected `int`, got `str`"),
        (JOIN_SEQUENCE, "join", [0, {"cents": 5}], "Expected `int`, got `object` - at `$[1]`"),
    ],
)
async def test_content_or_result_of_an_older_type_is_dead_at_once(
    sequence: int, role: Any, content: object, words: str
) -> None:
    """No retry can mend it; the object of another request is worked."""
    bench = Bench(None, handlers=load_handlers(Settings(project="ending_project")), owned=0)
    await bench.start()
    old: TaskCreated = task_event(TaskCreated, "a", 0, at_ms=NOW_MS - 12)
    old = msgspec.structs.replace(old, kind=GATED, content=msgspec.Raw(b"3"), name="n")
    wanted = {"task_id": task_id_of("a", sequence), "sequence": sequence, "role": role}
    bench.put(
        0,
        encode(msgspec.structs.replace(old, content=msgspec.Raw(json.dumps(content).encode()), **wanted)),
        encode(msgspec.structs.replace(old, object_id="b", task_id="b-0")),
    )
    await until(lambda: TaskDead in bench.types() and bench.finished() == {"b"})
    (dead,) = [one for one in bench.events() if isinstance(one, TaskDead)]
    assert words in dead.error
    assert 1 == bench.types().count(TaskFailed)
    await bench.stop()
