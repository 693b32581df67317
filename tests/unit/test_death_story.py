"""What the log says of dead letters: each sort of error at once, and not more than a line a second of it."""

from __future__ import annotations

import pytest

from agents.dead_letters import DeathStory
from app.rules.dead_letters import Origin


@pytest.fixture
def tell(caplog):
    """Return a function that tells of deaths and returns what the log says of them."""
    story = DeathStory()

    def tell(*deaths: tuple[float, BaseException]) -> list[str]:
        caplog.clear()
        for at_s, error in deaths:
            story.tell(Origin("task-requests", 1, round(at_s * 10), 0), error, at_s)
        return caplog.messages

    return tell


def test_each_sort_of_error_is_told_at_once(tell):
    """Where it lay and what was wrong; another task's number makes no other sort."""
    said = tell((5.0, ValueError("no order 1")), (5.1, KeyError("size")), (5.2, ValueError("no order 2")))
    assert [
        "task-requests-1@50 goes to the dead letters: no order 1",
        "task-requests-1@51 goes to the dead letters: 'size'",
    ] == said


def test_those_alike_are_counted_and_told_a_second_later(tell):
    """None is kept back for good while more come."""
    said = tell(*((5.0 + number / 10, ValueError(f"no order {number}")) for number in range(24)))
    assert [
        "task-requests-1@50 goes to the dead letters: no order 0",
        "task-requests-1@60 goes to the dead letters: no order 10 (9 alike before it)",
        "task-requests-1@70 goes to the dead letters: no order 20 (9 alike before it)",
    ] == said


def test_what_has_no_text_is_told_too(tell):
    """An error class is anybody's code."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert ["task-requests-1@50 goes to the dead letters: (its text cannot be had: RuntimeError)"] == tell((5, Mute()))
