"""What a task's events tell of its attempts."""

from __future__ import annotations

import random

import msgspec
import pytest

from app.events import (
    TaskCancelled,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
)
from app.rules.attempts import AttemptOutcome, AttemptRecord, attempts_of

AT_MS = 1_795_489_276_303


def common(attempt: int, at_ms: int) -> tuple:
    """Return the fields that all events of the task have."""
    return ("a", "a-0", 0, "mail", 0, 1, attempt, AT_MS + at_ms)


def failed(event_type, attempt: int, at_ms: int, *, worker: str = "w-1", **more):
    """Return an event of a failure."""
    cause = {"error_type": "ValueError", "fingerprint": "f"}
    return event_type(f"{event_type}", *common(attempt, at_ms), worker, 10, 50, "ValueError: no", **cause, **more)


STORY = [
    TasksCreated("c", "a", 0, "mail", 0, 1, 1, AT_MS),
    TaskStarted("s1", *common(1, 20), "w-1", 10),
    failed(TaskFailed, 1, 70, stack_trace="Traceback: 1"),
    failed(TaskRetried, 1, 70, due_at_ms=AT_MS + 1_000),
    TaskStarted("s2", *common(2, 1_010), "w-2", 10),
    failed(TaskFailed, 2, 1_070, worker="w-3", stack_trace="Traceback: 2"),
    failed(TaskDead, 2, 1_070, worker="w-3"),
    TasksCreated("c-r1", "a", 0, "mail", 0, 1, 1, AT_MS + 5_000, 1),
    TaskStarted("s3", *common(1, 5_010), "w-1", 9, 1),
    TaskFinished("f", *common(1, 6_000), "w-1", 9, 990, msgspec.Raw(b"7"), 1),
]
FAILURE = ("ValueError", "ValueError: no")
ATTEMPTS = [
    AttemptRecord(
        0, 1, AttemptOutcome.FAILED, "w-1", AT_MS + 20, AT_MS + 70, 10, 50, *FAILURE, "Traceback: 1", AT_MS + 1_000
    ),
    AttemptRecord(0, 2, AttemptOutcome.FAILED, "w-3", AT_MS + 1_010, AT_MS + 1_070, 10, 50, *FAILURE, "Traceback: 2"),
    AttemptRecord(1, 1, AttemptOutcome.FINISHED, "w-1", AT_MS + 5_010, AT_MS + 6_000, 9, 990),
]


def test_each_attempt_says_what_became_of_it():
    """The worker that ended an attempt counts, not the one that began it and died; a redrive counts from 1 again."""
    assert ATTEMPTS == attempts_of(STORY)


@pytest.mark.parametrize("seed", range(20))
def test_order_and_repetition_do_not_matter(seed):
    """As for the ledger's row."""
    draw = random.Random(seed)
    arriving = [*STORY, *draw.choices(STORY, k=5)]
    draw.shuffle(arriving)
    assert ATTEMPTS == attempts_of(arriving)


def test_attempt_that_runs_has_no_outcome():
    """It has begun, and that is all."""
    assert [AttemptRecord(0, 1, None, "w-1", AT_MS + 20, None, 10)] == attempts_of(STORY[:2])


def test_cancel_ends_the_attempt_that_runs_and_makes_none_of_one_that_waits():
    """TASK_CANCELLED names the attempt that would have been next."""
    (cut,) = attempts_of([*STORY[:2], TaskCancelled("k", *common(1, 40))])
    assert (AttemptOutcome.CANCELLED, AT_MS + 40) == (cut.outcome, cut.ended_at_ms)
    assert ATTEMPTS[:1] == attempts_of([*STORY[:4], TaskCancelled("k", *common(2, 90))])


def test_result_outranks_a_cancel_that_came_too_late():
    """As in the ledger, in any order."""
    events = [STORY[1], TaskFinished("f", *common(1, 90), "w-1", 10, 70), TaskCancelled("k", *common(1, 95))]
    assert [AttemptOutcome.FINISHED] * 2 == [attempts_of(told)[0].outcome for told in (events, events[::-1])]


def test_attempt_whose_start_has_left_the_topic_is_still_told():
    """What the retention of the topic has deleted is None."""
    (left,) = attempts_of(STORY[2:3])
    assert (None, AT_MS + 70, "Traceback: 1") == (left.started_at_ms, left.ended_at_ms, left.stack_trace)
