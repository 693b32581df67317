"""What the log says of failures: each sort of error at once, not more than a line a second of it, or 20 of all."""

from __future__ import annotations

import logging

import pytest
from fakes import record
from histories import task_event

from agents.dead_letters import dead_letter
from agents.failure_story import FailureStory, describe
from app.events import TaskCreated


@pytest.fixture
def tell(caplog):
    """Return a function that tells of failures (when, and what is alike) and returns what the log says of them."""
    story = FailureStory(logging.getLogger("agents.story"))

    def tell(*failures: tuple[float, str]) -> list[str]:
        caplog.clear()
        for at_s, alike in failures:
            story.tell(alike, at_s, "%s at %.1f", alike, at_s)
        return caplog.messages

    return tell


def test_each_type_of_error_is_reported_at_once(tell):
    """Another one of a sort that was just told is not."""
    assert ["a at 5.0", "b at 5.1"] == tell((5.0, "a"), (5.1, "b"), (5.2, "a"))


def test_equal_errors_are_counted_and_logged_a_second_later(tell):
    """None is kept back for good while more come."""
    said = tell(*((5.0 + number / 10, "a") for number in range(24)))
    assert ["a at 5.0", "a at 6.0 (9 alike before it)", "a at 7.0 (9 alike before it)"] == said


def test_errors_that_are_all_different_do_not_flood_the_log(tell):
    """A text may have random words in it; what was left out is counted in the next line."""
    said = tell(*((5.0, f"word {number}") for number in range(1_000)))
    assert (20, "word 0 at 5.0", "word 19 at 5.0") == (len(said), said[0], said[-1])
    assert ["another at 6.0 (980 more were not logged)"] == tell((6.0, "another"))


class Limits:
    """A broker that takes a megabyte."""

    def limit_bytes(self, _topic: str) -> int:
        """See `agents.dead_letters.Limits`."""
        return 1 << 20


def test_the_line_of_a_death_names_error_task_object_kind_and_attempt(caplog):
    """What an operator looks for first."""
    task = task_event(TaskCreated, "o1", 2, at_ms=1, attempt=3)
    request = record("task-requests", 1, 50, b"{}")
    dead_letter(request, KeyError("size 71"), topic="dead-letters", attempts=3, limits=Limits(), task=task)
    (said,) = caplog.messages
    assert said.startswith("task o1-2 of object o1, kind default, attempt 3 (task-requests-1@50) goes to the dead ")
    assert said.endswith("letters: KeyError: 'size 71'")
    assert "task o1-2 of object o1, kind default, attempt 3" == describe(task)


def test_the_line_of_a_death_that_is_no_task_names_its_place(caplog):
    """An error class is anybody's code: what has no text is told too."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    dead_letter(record("objects", 1, 50, b"{}"), Mute(), topic="dead-letters", limits=Limits())
    (said,) = caplog.messages
    assert said.startswith("objects-1@50 goes to the dead letters: ")
    assert said.endswith("Mute: (its text cannot be had: RuntimeError)")
