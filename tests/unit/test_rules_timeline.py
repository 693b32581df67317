"""An object's events as spans, task by task."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events import (
    CALLBACK_SEQUENCE,
    TaskCancelled,
    TaskDead,
    TaskEvent,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    encode,
)
from app.rules.ledger import apply_task_event
from app.rules.ledger_descriptions import describe_task
from app.rules.ledger_rows import ObjectRow
from app.rules.ledger_states import TaskState
from app.rules.results import NO_RESULT
from app.rules.row_spans import TaskTimes, Wait, spans_of
from app.rules.tally import Tally
from app.rules.timeline import Event, Span, TaskTimeline, What, timeline_of, with_wait


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
def test_odd_stories_are_shown_too(events, expected):
    """A cancelled task, clocks that differ, events that the topic's retention has taken: nothing below 0, no error."""
    assert expected == spans(*(told(kind, at_ms) for kind, at_ms in events))


def test_work_that_was_cancelled_was_not_measured():
    """No figure, which would look as if the work had begun again."""
    (task,) = timeline_of([told("STARTED", 2), told("CANCELLED", 4_005)]).tasks
    assert task.spans[-1].spent_ms is None


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


def test_callback_is_reported_and_does_not_lengthen_the_object():
    """It may take hours; the object has ended before."""
    about = {"task_id": "a-callback1", "sequence": CALLBACK_SEQUENCE}
    events = [
        Event("TASKS_CREATED", "c-a", "a", 120, first=0, count=1),
        Event("TASK_FINISHED", "f-0", "a", 250, "a-0", 0, worker="v", spent_ms=40),
        Event("TASKS_CREATED", "c-a-callback1", "a", 260, first=CALLBACK_SEQUENCE, count=1),
        Event("TASK_STARTED", "s-1", "a", 900, **about),
        Event("TASK_FINISHED", "f-1", "a", 990, **about),
    ]
    timeline = timeline_of(events)
    assert (250, ["a-0", "a-callback1"]) == (timeline.last_at_ms, [task.task_id for task in timeline.tasks])


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


GAPS = st.integers(1, 5_000)


@st.composite
def histories(draw) -> list[TaskEvent]:
    """Draw the events of one task that is redriven now and then, cut off anywhere."""
    at_ms = draw(st.integers(1, 1_000))
    events: list[TaskEvent] = []
    for redrive in range(draw(st.integers(1, 3))):
        given_redrive = {"redrive": redrive} if redrive else {}

        def common(attempt: int, kind: str, at_ms: int, redrive: int = redrive) -> tuple:
            return (f"{kind}-{attempt}-{redrive}", "a", "a-0", 0, "mail", 0, 1, attempt, at_ms)

        events.append(TasksCreated(f"c-{redrive}", "a", 0, "mail", 0, 1, 1, at_ms, **given_redrive))
        attempts = draw(st.integers(1, 3))
        for attempt in range(1, attempts + 1):
            wait_ms, work_ms = draw(GAPS), draw(GAPS)
            at_ms += wait_ms + (0 if attempt == 1 else draw(GAPS))
            events.append(TaskStarted(*common(attempt, "s", at_ms), "w", wait_ms, **given_redrive))
            at_ms += work_ms
            failure = ("w", wait_ms, work_ms, "no")
            if attempt == attempts and draw(st.booleans()):
                return [*events, TaskFinished(*common(1, "f", at_ms), "w", wait_ms, work_ms, **given_redrive)]
            events.append(TaskFailed(*common(attempt, "x", at_ms), *failure, **given_redrive))
            end = TaskRetried if attempt < attempts else TaskDead
            events.append(end(*common(attempt, "e", at_ms), *failure, **given_redrive))
        at_ms += draw(GAPS)
    return events


def both_timelines(events: list[TaskEvent], now_ms: int) -> tuple[TaskTimeline, TaskTimeline, TaskTimes]:
    """Return what the events tell (`ebs explain`), what the ledger's row tells (the page), and that row."""
    row = ObjectRow()
    for event in events:
        apply_task_event(row, event, Tally())
    (told_by_events,) = timeline_of([msgspec.json.decode(encode(one), type=Event) for one in events]).tasks
    times = msgspec.convert(describe_task("a", row, 0, NO_RESULT), TaskTimes)
    return told_by_events, TaskTimeline("a-0", 0, "", spans_of(times, now_ms)), times


WAITS = (What.QUEUE, What.RETRY, What.DEAD, What.WAITS)


@given(histories(), st.data())
def test_the_row_tells_the_same_times_as_the_events(events, data):
    """The page and `ebs explain` agree on work and on waits; of one attempt they tell the same spans."""
    events = events[: data.draw(st.integers(1, len(events)))]
    if isinstance(events[-1], TaskFailed):
        events.pop()  # it is committed together with what follows
    if isinstance(events[-1], TaskStarted | TasksCreated | TaskRetried):
        now_ms = events[-1].at_ms + data.draw(st.integers(0, 5_000))
    else:
        now_ms = events[-1].at_ms
    by_events, by_row, times = both_timelines(events, now_ms)
    assert by_events.total_ms(What.WORK, now_ms) == by_row.total_ms(What.WORK, now_ms)
    assert sum(by_events.total_ms(one, now_ms) for one in WAITS) == sum(by_row.total_ms(one, now_ms) for one in WAITS)
    if times.attempts <= 1 and len({event.redrive for event in events}) == 1:
        for what in What:
            assert by_events.total_ms(what, now_ms) == by_row.total_ms(what, now_ms)


@pytest.mark.parametrize("started", [False, True])
def test_cancelled_task_of_one_attempt_is_shown_the_same(started):
    """Cancelled in the queue, or while it ran."""
    common = ("a", "a-0", 0, "mail", 0, 1, 1)
    events = [
        TasksCreated("c", "a", 0, "mail", 0, 1, 1, 10),
        TaskStarted("s", *common, 30, "w", 20),
        TaskCancelled("k", *common, 90),
    ]
    by_events, by_row, _ = both_timelines(events if started else [events[0], events[2]], 500)
    expected = [(What.QUEUE, 10, 30), (What.WORK, 30, 90)] if started else [(What.QUEUE, 10, 90)]
    for told_by in (by_events, by_row):
        assert expected == [(span.what, span.from_ms, span.to_ms) for span in told_by.spans]


def test_work_that_was_begun_again_lasts_from_its_first_start_for_both():
    """Its worker died: the handler took 40 ms, the attempt 160 ms. The page once left a hole there."""
    common = ("a", "a-0", 0, "mail", 0, 1, 1)
    events = [TasksCreated("c", "a", 0, "mail", 0, 1, 1, 10), TaskStarted("s", *common, 30, "w", 20)]
    by_events, by_row, _ = both_timelines([*events, TaskFinished("f", *common, 190, "w", 20, 40)], 500)
    assert 160 == by_events.total_ms(What.WORK, 500) == by_row.total_ms(What.WORK, 500)


def test_clocks_that_differ_make_no_time_negative():
    """A worker's clock is ahead of the one that ended the task, or behind the one that created it."""
    for started_at_ms in (5, 500):
        times = TaskTimes("FINISHED", 1, 10, started_at_ms, 90, 40)
        spans = spans_of(msgspec.convert(msgspec.to_builtins(times), TaskTimes), 1_000)
        assert 80 == sum(span.lasted_ms(1_000) for span in spans)


def test_delayed_task_is_delayed_until_it_may_start_and_then_in_the_queue():
    """TASK_STARTED tells when it could start; a task that was started before that was delayed until then."""
    assert [
        (What.DELAY, 10, 5_000, "due"),
        (What.QUEUE, 5_000, 5_020, "TASK_STARTED"),
        (What.WORK, 5_020, None, ""),
    ] == spans(told("CREATED", 10), told("STARTED", 5_020, starts_at_ms=5_000, wait_ms=20))
    assert [
        (What.DELAY, 10, 300, "due"),
        (What.QUEUE, 300, 300, "TASK_STARTED"),
        (What.WORK, 300, None, ""),
    ] == spans(told("CREATED", 10), told("STARTED", 300, starts_at_ms=5_000))


def test_redriven_task_was_not_delayed_again():
    """Its request still says when its first attempt could start."""
    redriven = (told("CREATED", 7_000, redrive=1), told("STARTED", 7_010, starts_at_ms=5_000, redrive=1))
    again = spans(told("CREATED", 10), told("DEAD", 6_000), *redriven)
    assert [What.QUEUE, What.DEAD, What.QUEUE, What.WORK] == [what for what, *_ in again]


@pytest.mark.parametrize(
    ("events", "reason", "what"),
    [
        ([told("CREATED", 10)], "delay", What.DELAY),
        ([told("CREATED", 10)], "paused", What.QUEUE),
        ([told("CREATED", 10), told("STARTED", 20), told("RETRIED", 30)], "retry", What.RETRY),
    ],
)
def test_wait_that_goes_on_tells_what_for_and_until_when(events, reason, what):
    """As the table of waiting tasks says; the timeline that was given stays as it was."""
    (task,) = timeline_of(events).tasks
    last = with_wait(task.spans, reason, 9_000)[-1]
    assert (what, 9_000, reason) == (last.what, last.due_at_ms, last.waits_for)
    assert task.spans[-1].due_at_ms is None


def test_work_that_goes_on_waits_for_nothing():
    """A row stays in the table while its attempt runs."""
    (task,) = timeline_of([told("CREATED", 10), told("STARTED", 20)]).tasks
    assert task.spans == with_wait(task.spans, "delay", 15)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (
            TaskTimes(TaskState.IN_PROGRESS, 1, 10, 5_020, wait_ms=20),
            [(What.DELAY, 10, 5_000), (What.QUEUE, 5_000, 5_020), (What.WORK, 5_020, 6_000)],
        ),
        (TaskTimes(TaskState.UNKNOWN, 0, 10, waiting=Wait("delay", 9_000)), [(What.DELAY, 10, 6_000)]),
        (
            TaskTimes(TaskState.UNKNOWN, 0, 10, waiting=Wait("delay", 4_000)),
            [(What.DELAY, 10, 4_000), (What.QUEUE, 4_000, 6_000)],
        ),
        (TaskTimes(TaskState.UNKNOWN, 0, 10, waiting=Wait("paused")), [(What.QUEUE, 10, 6_000)]),
        (TaskTimes(TaskState.IN_PROGRESS, 1, 10, 5_020), [(What.QUEUE, 10, 5_020), (What.WORK, 5_020, 6_000)]),
    ],
)
def test_row_of_a_delayed_task_tells_the_delay(task, expected):
    """By the wait from the due time; without that it is not known, and all of it is queue wait."""
    assert expected == [(span.what, span.from_ms, span.to_ms) for span in spans_of(task, 6_000)]
