"""When a wait for an object is over."""

from __future__ import annotations

import pytest

from app.rules.ledger_states import ENDED_OBJECT_STATES, ENDED_STATES, ObjectState, TaskState
from app.rules.waiting import WaitOutcome, outcome_of, parse_until


def test_ends_are_the_states_that_nothing_follows():
    """All states of objects and tasks are either on the way or an end."""
    assert {"FINISHED", "FAILED", "CANCELLED"} == ENDED_OBJECT_STATES
    assert {"FINISHED", "DEAD", "CANCELLED"} == ENDED_STATES
    assert {"CREATED", "DISTRIBUTED", "PROCESSING"} == set(ObjectState) - ENDED_OBJECT_STATES
    assert {"UNKNOWN", "QUEUED", "IN_PROGRESS", "RETRYING"} == set(TaskState) - ENDED_STATES


@pytest.mark.parametrize(
    ("text", "expected"),
    [("end", ENDED_OBJECT_STATES), ("FINISHED", {"FINISHED"}), (" failed , End", ENDED_OBJECT_STATES)],
)
def test_states_and_the_end_are_understood_in_any_case(text, expected):
    """Several are separated by commas."""
    assert expected == parse_until(text)


@pytest.mark.parametrize("text", ["", "done", "FINISHED,", "DEAD"])
def test_other_words_are_refused_with_those_that_there_are(text):
    """The states of tasks are none of objects."""
    with pytest.raises(ValueError, match="CREATED, DISTRIBUTED, PROCESSING, FINISHED, FAILED, CANCELLED or end"):
        parse_until(text)


@pytest.mark.parametrize(
    ("state", "wanted", "expected"),
    [
        ("CREATED", {"CREATED"}, WaitOutcome.REACHED),
        ("CREATED", {"DISTRIBUTED"}, None),
        ("PROCESSING", {"DISTRIBUTED"}, WaitOutcome.REACHED),
        ("FINISHED", {"PROCESSING"}, WaitOutcome.REACHED),
        ("FINISHED", {"FAILED"}, WaitOutcome.UNREACHABLE),
        ("CANCELLED", {"FINISHED"}, WaitOutcome.UNREACHABLE),
        ("FAILED", {"FINISHED"}, None),
    ],
)
def test_wait_ends_where_the_state_is_passed_or_out_of_reach(state, wanted, expected):
    """A redrive may still finish what has failed."""
    assert expected == outcome_of(ObjectState(state), frozenset(map(ObjectState, wanted)))
