"""What several routes answer alike: names of problems, cursors."""

from __future__ import annotations

import pytest

from api.server import problems
from app.errors import AccessRefused, BrokerUnavailable, OutcomeUnknown, RecordRefused


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BrokerUnavailable, "broker-unavailable"),
        (RecordRefused, "record-refused"),
        (OutcomeUnknown, "outcome-unknown"),
        (AccessRefused, "outcome-unknown"),
    ],
)
def test_what_a_broker_may_have_taken_is_of_unknown_outcome(error, expected):
    """Only two errors say for sure that nothing was written."""
    assert expected == problems.name_of(error("x"))


def test_cursor_names_a_place_or_is_refused():
    """Left out, it names none."""

    def parse(text: str) -> int | None:
        return int(text) if text.isdecimal() else None

    assert (None, 0, 7) == tuple(problems.place_in(cursor, parse) for cursor in (None, "0", "7"))
    with pytest.raises(problems.Problem, match="cursor: Input should be the next_cursor of an answer"):
        problems.place_in("x", parse)
