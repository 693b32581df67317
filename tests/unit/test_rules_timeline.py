"""An object's events as spans, task by task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.timeline import Event, Span, What, timeline_of


def told(kind: str, at_ms: int, attempt: int = 1, **fields) -> Event:
    """Return an event of task a-0."""
    event_id = f"{kind}-{attempt}-{fields.get('redrive', 0)}"
    if kind == "CREATED":
        return Event("TASKS_CREATED", event_id, "a", at_ms, first=0, count=1, attempt=attempt, **fields)
    return Event(f"TASK_{kind}", event_id, "a", at_ms, "a-0", 0, attempt=attempt, **fields)


def spans(*events: Event) -> list[tuple[What, int, int | None, str]]:
    """Return the spans of the one task."""
    (task,) = timeline_of(events).tasks
    return [(span.what, span.from_ms, span.to_ms, span.outcome) for span in task.spans]


def test_plain_task_waits_and_is_worked_on():
    """Queue wait until it starts, work until it finishes."""
    assert [(What.QUEUE, 10, 30, "TASK_STARTED"), (What.WORK, 30, 90, "TASK_FINISHED")] == spans(
        told("CREATED", 10), told("STARTED", 30), told("FINISHED", 90)
    )


def test_retried_task_waits_until_it_is_due_and_then_in_the_queue():
    """What passed before the attempt was due is retry wait, what the worker counts as wait is queue wait."""
    assert [
        (What.QUEUE, 10, 30, "TASK_STARTED"),
        (What.WORK, 30, 40, "TASK_FAILED"),
        (What.RETRY, 40, 1_040, "due"),
        (What.QUEUE, 1_040, 1_060, "TASK_STARTED"),
        (What.WORK, 1_060, 1_100, "TASK_FINISHED"),
    ] == spans(
        told("CREATED", 10),
        told("STARTED", 30, wait_ms=20),
        told("FAILED", 40, error="no"),
        told("RETRIED", 40),
        told("STARTED", 1_060, 2, wait_ms=20),
        told("FINISHED", 1_100, 2),
    )


def test_dead_task_is_dead_until_it_is_redriven():
    """The redrive ends the time in which nobody worked on it; then it waits in the queue again."""
    assert [
        (What.QUEUE, 10, 20, "TASK_STARTED"),
        (What.WORK, 20, 30, "TASK_FAILED"),
        (What.DEAD, 30, 500, "TASKS_CREATED"),
        (What.QUEUE, 500, 510, "TASK_STARTED"),
        (What.WORK, 510, None, ""),
    ] == spans(
        told("CREATED", 10),
        told("STARTED", 20),
        told("FAILED", 30),
        told("DEAD", 30),
        told("CREATED", 500, redrive=1),
        told("STARTED", 510, redrive=1),
    )


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([("CREATED", 1), ("CANCELLED", 5)], [(What.QUEUE, 1, 5, "TASK_CANCELLED")]),
        (
            [("CREATED", 1), ("STARTED", 2), ("CANCELLED", 5)],
            [(What.QUEUE, 1, 2, "TASK_STARTED"), (What.WORK, 2, 5, "TASK_CANCELLED")],
        ),
        ([("CREATED", 9), ("STARTED", 5)], [(What.QUEUE, 9, 9, "TASK_STARTED"), (What.WORK, 5, None, "")]),
        ([("STARTED", 5), ("FINISHED", 7)], [(What.WORK, 5, 7, "TASK_FINISHED")]),
        ([("FINISHED", 7)], []),
    ],
)
def test_odd_stories_are_told_too(events, expected):
    """A cancelled task, clocks that differ, events that the topic's retention has taken: nothing below 0, no error."""
    assert expected == spans(*(told(kind, at_ms) for kind, at_ms in events))


def test_object_has_its_creation_distribution_and_sums():
    """Tasks come by sequence; sums are by sort, up to now where a span goes on; duplicates count once."""
    events = [
        Event("OBJECT_CREATED", "o-a", "a", 100),
        Event("TASKS_CREATED", "c-a", "a", 120, first=0, count=2),
        Event("TASK_STARTED", "s-0", "a", 150, "a-0", 0, worker="w", wait_ms=30),
        Event("TASK_STARTED", "s-0", "a", 150, "a-0", 0, worker="w", wait_ms=30),
        Event("TASK_FINISHED", "f-0", "a", 250, "a-0", 0, worker="v", spent_ms=40),
    ]
    timeline = timeline_of(events)
    assert (100, 20, 250, ["a-0", "a-1"]) == (
        timeline.created_at_ms,
        timeline.distribution_ms,
        timeline.last_at_ms,
        [task.task_id for task in timeline.tasks],
    )
    first, second = timeline.tasks
    assert (30, 100, 880) == (
        first.total_ms(What.QUEUE, 1_000),
        first.total_ms(What.WORK, 1_000),
        second.total_ms(What.QUEUE, 1_000),
    )
    assert Span(What.WORK, 150, 250, worker="v", spent_ms=40, outcome="TASK_FINISHED") == first.spans[1]


def test_nothing_known_is_an_empty_timeline():
    """No events, no times."""
    timeline = timeline_of([])
    assert (None, None, None, []) == (
        timeline.created_at_ms,
        timeline.distribution_ms,
        timeline.last_at_ms,
        timeline.tasks,
    )


def test_start_by_a_clock_that_is_behind_ends_the_wait_where_it_began():
    """A retry that began, by its worker's clock, before it was told to wait: a wait of no time, not of less."""
    events = [
        Event("TASK_RETRIED", "1", "a", 100, "a-0", 0, attempt=1),
        Event("TASK_STARTED", "2", "a", 90, "a-0", 0, attempt=2),
    ]
    (task,) = timeline_of(events).tasks
    assert [(100, 100), (100, 100), (90, None)] == [(span.from_ms, span.to_ms) for span in task.spans]


KINDS = st.sampled_from(["CREATED", "STARTED", "FINISHED", "FAILED", "RETRIED", "DEAD", "CANCELLED"])


@given(st.lists(st.tuples(KINDS, st.integers(0, 1_000), st.integers(1, 4), st.integers(0, 500)), max_size=20))
def test_any_story_has_at_most_one_open_span_which_is_the_last(story):
    """Whatever comes in whatever order: no span is longer than its end says, and only the last one goes on."""
    events = [
        Event(
            "TASKS_CREATED" if kind == "CREATED" else f"TASK_{kind}",
            str(number),
            "a",
            at_ms,
            "a-0",
            count=1,
            attempt=attempt,
            wait_ms=wait_ms,
        )
        for number, (kind, at_ms, attempt, wait_ms) in enumerate(story)
    ]
    for task in timeline_of(events).tasks:
        assert all(span.to_ms is not None for span in task.spans[:-1])
        assert all(span.to_ms is None or span.from_ms <= span.to_ms for span in task.spans)
