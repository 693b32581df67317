"""What handlers are given: the context, the log, and the two ways to say how a failure is meant."""

from __future__ import annotations

import logging
import math
import pickle
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from running_handlers import some_task

from agents.execution.default_handler import default_handler
from agents.worker import _set_log_level
from app.settings.settings import ProcessTime
from ebs.context import Context
from ebs.errors import Reject, Retry


def test_a_context_knows_its_attempt_and_deadline() -> None:
    """The deadline is a point on the clock of `time.monotonic()`, the time limit after the start."""
    context = Context(some_task(attempt=3), 10.0, began_at_s=1_000.0)
    assert (3, 1_010.0, False, None) == (
        context.attempt,
        context.deadline,
        context.cancelled,
        context.last_progress,
    )


def test_what_remains_is_never_below_zero() -> None:
    """A client's timeout below 0 would be an error of its own."""
    now_s = time.monotonic()
    assert 0.0 == Context(some_task(), 1_000.0, began_at_s=now_s - 2_000.0).remaining_s
    assert 900.0 < Context(some_task(), 1_000.0, began_at_s=now_s).remaining_s <= 1_000.0


def test_a_context_that_nobody_started_starts_when_it_is_looked_at() -> None:
    """Inline handlers have a deadline too, and pay for the clock only if they look at it."""
    context = Context(some_task(), 10.0)
    before_s = time.monotonic()
    first = context.deadline
    assert before_s + 10.0 <= first <= time.monotonic() + 10.0
    assert first == context.deadline


@pytest.mark.parametrize(
    ("fraction", "kept"),
    [
        *[(0.4, 0.4), (0, 0.0), (1, 1.0), (-0.1, 0.0), (1.0000001, 1.0), (math.nan, 0.0), (10**400, 1.0)],
        *[(Decimal("0.5"), 0.5), (Fraction(1, 4), 0.25), (True, 1.0)],
    ],
)
def test_progress_never_fails_a_task(fraction: Any, kept: float) -> None:
    """A fraction out of range is taken for the nearest one; only the last progress is kept."""
    context = Context(some_task(), 10.0)
    context.progress(0.2)
    context.progress(fraction, "m" * 500)
    assert context.last_progress is not None
    assert (kept, "m" * 200) == context.last_progress[:2]
    assert (float, str) == tuple(map(type, context.last_progress[:2]))
    assert time.monotonic() >= context.last_progress.said_at_s


@pytest.mark.parametrize(("message", "kept"), [(None, "None"), (["a"], "['a']"), (b"\xff", "b'\\xff'"), (5, "5")])
def test_progress_message_becomes_a_text(message: Any, kept: str) -> None:
    """Heartbeats carry it: with anything else they would fail, and the worker would count as gone."""
    context = Context(some_task(), 10.0)
    context.progress(0.5, message)
    assert context.last_progress is not None
    assert (0.5, kept) == context.last_progress[:2]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("half done",), "task 50%d-0, attempt 2: half done"),
        (("50% done",), "task 50%d-0, attempt 2: 50% done"),
        (("%d of %s", 3, "all"), "task 50%d-0, attempt 2: 3 of all"),
    ],
)
def test_a_log_line_begins_with_the_task(
    arguments: tuple[Any, ...], line: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the id looks like: an object's id is anybody's text. Place and fields are right too."""
    task = msgspec.structs.replace(some_task(attempt=2), task_id="50%d-0")
    with caplog.at_level(logging.INFO):
        Context(task, 10.0).log.info(*arguments, extra={"size": 3})
    record: Any
    (record,) = [one for one in caplog.records if one.getMessage() == line]
    assert ("50%d-0", 2, 3) == (record.task_id, record.attempt, record.size)
    assert "test_a_log_line_begins_with_the_task" == record.funcName


@pytest.mark.parametrize(
    ("error", "delay_s", "words"),
    [
        (Retry(), None, "the handler asks for another attempt"),
        (Retry(2.5), 2.5, "the handler asks for another attempt"),
        (Retry(delay_s=0, reason="busy"), 0, "busy"),
    ],
)
def test_a_retry_keeps_its_delay_on_the_way_out_of_a_process(error: Retry, delay_s: float | None, words: str) -> None:
    """Pickling an exception keeps only its message, unless it says otherwise."""
    again = pickle.loads(pickle.dumps(error))
    assert (Retry, delay_s, words) == (type(again), again.delay_s, str(again))


@pytest.mark.parametrize("delay_s", [-1, math.nan, math.inf])
def test_a_delay_that_is_none_is_refused(delay_s: float) -> None:
    """A wrong delay is an error in the handler, said where it is made."""
    with pytest.raises(ValueError, match="a delay is 0 or more seconds, not"):
        Retry(delay_s)


def test_a_reason_in_the_delays_place_is_refused() -> None:
    """The commonest slip has its own words."""
    with pytest.raises(
        TypeError, match=r"the first argument is the delay in seconds: Retry\(delay_s=10, reason=...\), not 'busy'"
    ):
        Retry("busy")  # type: ignore[arg-type]  # that is the test


def test_a_reject_keeps_its_reason() -> None:
    """The reason is what people read in the dead letters."""
    again = pickle.loads(pickle.dumps(Reject("no image")))
    assert ("no image", "no image") == (again.reason, str(again))


async def test_the_default_handler_takes_the_time_it_is_told_to() -> None:
    """It takes a random time between two bounds."""
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return 0.0

    task = some_task()
    assert await default_handler(ProcessTime(3.0, 5.0), draw)(task, Context(task, 10.0)) is None
    assert [(3.0, 5.0)] == drawn
    assert default_handler(ProcessTime(0.0, 0.0))(task, Context(task, 10.0)) is None


def test_lines_of_a_handler_follow_the_log_level():
    """EBS_LOG_LEVEL is for all of our loggers, that of `context.log` too."""
    levels = {name: logging.getLogger(name).level for name in ("agents", "app", "ebs")}
    try:
        heard = [
            _set_log_level(level) and Context(some_task(), 1.0).log.isEnabledFor(logging.INFO)
            for level in ("info", "warn")
        ]
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    assert [True, False] == heard
