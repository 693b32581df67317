"""Which dead letters are meant."""

from __future__ import annotations

from types import SimpleNamespace

import msgspec
import pytest

from app.rules.letter_acts import LetterState
from app.rules.letter_filter import CONDITIONS, LetterFilter, filter_from

LETTER = SimpleNamespace(
    kind="mail",
    topic="task-requests",
    object_id="o1",
    error_type="builtins.KeyError",
    message="Size 71",
    state=LetterState.DEAD,
)
GROUP = SimpleNamespace(**vars(LETTER), first_at_ms=10, last_at_ms=20)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, True),
        ({"kind": "mail", "topic": "task-requests", "error": "keyerror: size", "state": LetterState.DEAD}, True),
        ({"kind": "image"}, False),
        ({"topic": "objects"}, False),
        ({"object_id": "o1"}, True),
        ({"object_id": "o"}, False),
        ({"error": "72"}, False),
        ({"state": LetterState.REDRIVEN}, False),
    ],
)
def test_all_conditions_must_hold(conditions, expected):
    """An error is looked for in type and message, in any case."""
    assert expected is LetterFilter(**conditions).takes(LETTER)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"since_ms": 20, "before_ms": 11, "state": LetterState.REDRIVEN}, True),
        ({"since_ms": 21}, False),
        ({"before_ms": 10}, False),
        ({"kind": "image"}, False),
    ],
)
def test_group_is_meant_if_letters_of_it_may_be(conditions, expected):
    """It lies in the time if any of its letters may; its states are looked at later."""
    assert expected is LetterFilter(**conditions).takes_group(GROUP)


def test_filter_is_made_of_whatever_has_such_fields():
    """Fields that are not there are no conditions, and others are passed over."""
    asked = SimpleNamespace(kind="mail", before_ms=5, limit=3)
    assert LetterFilter(kind="mail", before_ms=5) == filter_from(asked)
    assert LetterFilter(kind="mail", state=LetterState.DEAD) == LetterFilter(kind="mail").only(LetterState.DEAD)


def test_a_run_is_asked_for_by_seven_conditions_and_tells_only_those_that_it_has():
    """The names are those of the record on the topic."""
    assert ("fingerprint", "kind", "error", "topic", "object_id", "since_ms", "before_ms") == CONDITIONS
    assert b'{"kind":"mail"}' == msgspec.json.encode(LetterFilter(kind="mail"))
