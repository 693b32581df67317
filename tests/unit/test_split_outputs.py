"""What leaves with the end of a split: bounded, whatever its object is called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from plain_names import BARE
from running_handlers import some_task

from agents.engine.split_outputs import SplitOutputs
from app.rules.distribution import MAX_COPIED_BYTES
from app.rules.routing import Routes
from ebs import Reject
from ebs.pieces import pieces_of


def attempt(name: str) -> Any:
    """Return an attempt at the split of an object of this name."""
    task = msgspec.structs.replace(some_task(), name=name)
    return SimpleNamespace(task=task, loaded=SimpleNamespace(name="shop:split", joins=False), traced=None, key=b"o1")


@pytest.mark.parametrize("count", [10, 11])
def test_split_whose_names_are_too_much_is_refused(count: int) -> None:
    """Each item without a name has that of its object, which may have a megabyte."""
    outputs = SplitOutputs(BARE, Routes(BARE, 4), max_task_count=1_000)
    room = MAX_COPIED_BYTES // 10 - len("1")
    one, pieces = attempt("n" * room), pieces_of([1] * count, "shop:split")
    if count == 10:
        assert count + 1 == len(outputs.records(one, pieces, 1))
        return
    with pytest.raises(Reject, match=r"11 items of the split shop:split have .* bytes with their names"):
        outputs.records(one, pieces, 1)
