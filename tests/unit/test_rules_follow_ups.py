"""What the ends of tasks make due: a join once all results are there, and one event for each end of an object."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from told_object import PARTITION, Told, cancel, created, death, redriven, run, special, tasks

from app.events import (
    JOIN_SEQUENCE,
    SPLIT_SEQUENCE,
    AboutObject,
    CancelledObject,
    FailedObject,
    FinishedObject,
    Parent,
)
from app.rules.follow_ups import MAX_JOINED_BYTES
from app.rules.ledger_rows import ObjectRow, decode_row, encode_row
from app.rules.ledger_states import ObjectState, ended_at_ms

WHOLE = [
    created(),
    special(SPLIT_SEQUENCE),
    *run(SPLIT_SEQUENCE),
    tasks(3),
    *run(0, 3, '{"n":0}'),
    *run(1, 3),
    *run(2, 3, "[2]"),
    special(JOIN_SEQUENCE),
    *run(JOIN_SEQUENCE, 3, '"all"'),
]
"""The life of an object of three tasks with a split and a join."""


def test_results_are_joined_in_the_order_of_the_tasks_and_the_join_ends_the_object() -> None:
    """Whatever the order in which the tasks end; until the join has finished, the object goes on."""
    told = Told([*WHOLE[:5], *run(2, 3, "[2]"), *run(0, 3, '{"n":0}')])
    assert [] == told.joins()
    told.hear(*run(1, 3))
    (request,) = told.joins()
    assert b'[{"n":0},null,[2]]' == bytes(request.content)
    assert ("a-join", "join", PARTITION, JOIN_SEQUENCE) == (
        request.task_id,
        request.role,
        request.object_partition,
        request.sequence,
    )
    assert (ObjectState.PROCESSING, [], None) == (told.state, told.ends, ended_at_ms(told.row))
    told.hear(*WHOLE[-3:])
    (end,) = told.ends
    assert isinstance(end, FinishedObject)
    assert ("e-a-1", 1, 3, 3, 0, b'"all"') == (
        end.id,
        end.end,
        end.tasks_total,
        end.tasks_finished,
        end.tasks_dead,
        bytes(end.result),
    )
    assert (ObjectState.FINISHED, end.at_ms) == (told.state, told.row.finished_at_ms)
    assert 1 == told.tally.totals()["order"].objects_finished
    assert 0 == told.tally.totals()["order"].imbalance


@given(st.permutations(WHOLE), st.integers(0, len(WHOLE) - 1))
def test_any_order_and_any_repetition_give_the_same_row(events: list[Any], repeated: int) -> None:
    """The object ends once; a join is asked for once at most: never if it was heard of before."""
    told, expected = Told([*events, events[repeated]]), Told(WHOLE)
    assert encode_row(expected.row) == encode_row(told.row)
    assert expected.tally.totals() == told.tally.totals()
    assert (1, ObjectState.FINISHED) == (len(told.ends), told.state)
    assert len(told.joins()) <= 1


def test_each_end_is_told_once_and_a_redrive_lets_the_object_end_again() -> None:
    """A dead task fails the object; redriven, it finishes, the join runs then, and the second end says so."""
    told = Told([created(), tasks(2), *run(0, 2, "1"), death(1, 2), death(1, 2), *run(0, 2, "1")])
    (failed,) = told.ends
    assert isinstance(failed, FailedObject)
    assert ("e-a-1", 1, 1) == (failed.id, failed.tasks_finished, failed.tasks_dead)
    assert [] == told.joins()
    told.hear(redriven(1))
    assert ObjectState.PROCESSING == told.state
    told.hear(*run(1, 2, "2", redrive=1))
    (request,) = told.joins()
    assert b"[1,2]" == bytes(request.content)
    told.hear(special(JOIN_SEQUENCE), *run(JOIN_SEQUENCE, 2))
    finished = told.ends[-1]
    assert isinstance(finished, FinishedObject)
    assert (2, "e-a-2", 2) == (len(told.ends), finished.id, finished.end)


@pytest.mark.parametrize(("ends", "sort"), [(death, FailedObject), (cancel, CancelledObject)])
@pytest.mark.parametrize("sequence", [SPLIT_SEQUENCE, JOIN_SEQUENCE])
def test_object_ends_with_its_split_and_with_its_join(ends: Any, sort: type, sequence: int) -> None:
    """Nothing else runs then."""
    before = [created(), special(SPLIT_SEQUENCE)]
    if sequence == JOIN_SEQUENCE:
        before += [*run(SPLIT_SEQUENCE), tasks(1), *run(0), special(JOIN_SEQUENCE)]  # type: ignore[list-item]
    told = Told([*before, ends(sequence)])
    (end,) = told.ends
    assert isinstance(end, sort)
    assert told.state.value == sort.__name__.removesuffix("Object").upper()


@pytest.mark.parametrize("joins", [True, False])
def test_split_into_nothing_continues_at_once(*, joins: bool) -> None:
    """To the join of no results, or to the end."""
    told = Told([created(), special(SPLIT_SEQUENCE), *run(SPLIT_SEQUENCE), tasks(0, joins=joins)])
    if joins:
        (request,) = told.joins()
        assert b"[]" == bytes(request.content)
        told.hear(special(JOIN_SEQUENCE), *run(JOIN_SEQUENCE, 1, "0"))
    (end,) = told.ends
    assert isinstance(end, FinishedObject)
    assert (0, 0) == (end.tasks_total, end.tasks_finished)


def test_results_too_large_for_one_request_are_refused_with_what_to_do() -> None:
    """The request goes out without them, so that the failure is a task's like any other."""
    large = '"' + "x" * (MAX_JOINED_BYTES // 2) + '"'
    told = Told([created(), tasks(2), *run(0, 2, large), *run(1, 2, large)])
    (request,) = told.joins()
    assert b"null" == bytes(request.content)
    assert "return references instead of the data" in request.refusal


def test_results_are_read_only_as_far_as_they_may_be_joined() -> None:
    """10,000 results of 1 MiB each would be 10 GB in the memory of the statistics."""
    told, read = Told([created(), tasks(8)]), []

    def large(_id: str, sequence: int) -> bytes:
        read.append(sequence)
        return b"0" * (MAX_JOINED_BYTES // 2)

    told.follow_ups._result_of = large  # rows of that size would have to be made otherwise
    told.hear(*(event for sequence in range(8) for event in run(sequence, 8, '"x"')))
    (request,) = told.joins()
    assert ([0, 1], b"null") == (read, bytes(request.content))


@pytest.mark.parametrize(("spare_bytes", "fits"), [(0, True), (-1, False)])
def test_results_that_just_fit_are_joined(spare_bytes: int, *, fits: bool) -> None:
    """The list with its brackets and commas counts."""
    first = '"' + "x" * (MAX_JOINED_BYTES - len('["",1]') - spare_bytes) + '"'
    told = Told([created(), tasks(2), *run(0, 2, first), *run(1, 2, "1")])
    (request,) = told.joins()
    assert (fits, MAX_JOINED_BYTES if fits else len("null")) == (
        request.refusal is msgspec.UNSET,
        len(request.content),
    )


def test_object_without_a_join_ends_with_its_last_task() -> None:
    """As before there were joins."""
    told = Told([created(), tasks(2, joins=False), *run(0, 2), *run(1, 2)])
    assert ([], [FinishedObject]) == (told.joins(), [type(end) for end in told.ends])


def test_rows_written_before_there_were_joins_are_read() -> None:
    """They have fewer fields."""
    old = msgspec.msgpack.encode(["order", 2, 1, 0, 1, []])
    assert ObjectRow("order", 2, 1, 0, 1, []) == decode_row(old)


ABOUT = AboutObject("an order", Parent("p", "p-join"), 3)


def test_an_end_names_the_object_and_its_parent() -> None:
    """As the first fact told it, and whichever facts came after."""
    first = msgspec.structs.replace(special(SPLIT_SEQUENCE), about=ABOUT)
    split = [created(), first, *run(SPLIT_SEQUENCE), tasks(1, joins=False)]
    told = Told([*split, death(0), redriven(0), *run(0, redrive=1)])
    assert [("an order", ABOUT.parent)] * 2 == [(end.name, end.parent) for end in told.ends]
    (end,) = Told([created(), tasks(1, joins=False), *run(0)]).ends
    assert ("", None) == (end.name, end.parent)


def test_a_join_knows_its_object_s_name_and_depth() -> None:
    """What it submits is one deeper than its object, as with any task."""
    (join,) = Told([msgspec.structs.replace(tasks(1), about=ABOUT), *run(0)]).joins()
    assert ("an order", 3) == (join.name, join.depth)
    (join,) = Told([msgspec.structs.replace(tasks(1), about=AboutObject()), *run(0)]).joins()
    assert ("", msgspec.UNSET) == (join.name, join.depth)
