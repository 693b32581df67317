"""What can be cancelled, and by which command."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from app.events import JOIN_SEQUENCE, SPLIT_SEQUENCE, parse_task_id, task_id_of
from app.rules.cancels import BadFilter, cancel_by_filter, task_in
from app.rules.commands import Cancel
from app.rules.ledger_rows import CREATED_MARK, FINISHED_MARK, JOINS, TOLD, ObjectRow, TaskRow
from app.rules.ledger_states import TaskState

NOW_MS = 1_795_489_276_303


@pytest.mark.parametrize("object_id", ["a", "a-b", "a-1", "-", "7f3a\nb"])
def test_task_id_is_taken_apart_as_it_was_put_together(object_id):
    """Also where the object's id has dashes and numbers."""
    assert (object_id, 12) == parse_task_id(task_id_of(object_id, 12))


@pytest.mark.parametrize("text", ["", "a", "a-", "-1", "a-01", "a-x", "a-\u0663", "a-1 ", "a-" + "9" * 5_000])
def test_other_texts_are_no_task_ids(text):
    """A command for one would cancel nothing."""
    assert parse_task_id(text) is None


@pytest.mark.parametrize(
    ("task_count", "sequence", "expected"),
    [(2, 0, TaskState.FINISHED), (2, 1, TaskState.QUEUED), (3, 2, TaskState.UNKNOWN), (2, 2, None), (0, 2, "UNKNOWN")],
)
def test_task_is_unknown_only_while_it_may_still_come(task_count, sequence, expected):
    """How many there are is known from the first event on."""
    row = ObjectRow(task_count=task_count, tasks=[TaskRow(CREATED_MARK | FINISHED_MARK), TaskRow(CREATED_MARK)])
    assert expected == task_in(row, sequence)


@pytest.mark.parametrize(
    ("facts", "sequence", "expected"),
    [
        (0, SPLIT_SEQUENCE, TaskState.UNKNOWN),
        (0, JOIN_SEQUENCE, TaskState.UNKNOWN),
        (TOLD, SPLIT_SEQUENCE, None),
        (TOLD, JOIN_SEQUENCE, None),
        (TOLD | JOINS, JOIN_SEQUENCE, TaskState.UNKNOWN),
        (0, JOIN_SEQUENCE + 1, None),
    ],
)
def test_split_and_join_can_be_cancelled_before_they_come(facts, sequence, expected):
    """Once all tasks are told of, it is known whether there was a split, and whether a join follows."""
    row = ObjectRow(task_count=1, facts=facts, tasks=[TaskRow(CREATED_MARK)])
    assert expected == task_in(row, sequence)


def test_split_and_join_are_tasks_that_can_be_cancelled():
    """They lie beside those that the object was split into."""
    row = ObjectRow(task_count=1, split=TaskRow(CREATED_MARK | FINISHED_MARK), join=TaskRow(CREATED_MARK))
    assert [TaskState.FINISHED, TaskState.QUEUED] == [task_in(row, one) for one in (SPLIT_SEQUENCE, JOIN_SEQUENCE)]


@pytest.mark.parametrize(
    ("kind", "before_ms", "name", "command"),
    [
        ("mail", None, f"mail-{NOW_MS}", Cancel(kind="mail", created_before_ms=NOW_MS, at_ms=NOW_MS, reason="why")),
        ("mail", 5, "mail-5", Cancel(kind="mail", created_before_ms=5, at_ms=NOW_MS, reason="why")),
        (None, 5, "*-5", Cancel(kind=UNSET, created_before_ms=5, at_ms=NOW_MS, reason="why")),
    ],
)
def test_filter_names_its_command(kind, before_ms, name, command):
    """The same filter is the same command; no kind means all kinds."""
    place, made = cancel_by_filter(kind, before_ms, at_ms=NOW_MS, reason="why")
    assert (f"cancel:filter:{name}".encode(), command) == (place.encoded(), made)


@pytest.mark.parametrize(("kind", "before_ms", "field"), [(None, None, ""), ("mail", NOW_MS + 1, "created_before_ms")])
def test_filter_that_would_cancel_too_much_is_refused(kind, before_ms, field):
    """Everything, or what is yet to come."""
    with pytest.raises(BadFilter) as refused:
        cancel_by_filter(kind, before_ms, at_ms=NOW_MS, reason="")
    assert field == refused.value.field
