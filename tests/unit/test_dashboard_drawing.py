"""How the dashboard words figures and lays out its strips."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from api.dashboard import words
from api.objects.timeline_drawing import segments_of
from api.statistics.strips import HEIGHT, WIDTH, nice_top, shares, stacked
from app.rules.row_spans import TaskTimes, spans_of
from app.rules.timeline import Span, What

NOW_MS = 1_795_489_276_303


@pytest.mark.parametrize(
    ("value_ms", "expected"),
    [
        (None, words.NOTHING),
        (-5, "0 ms"),
        (0, "0 ms"),
        (999, "999 ms"),
        (1_540, "1.5 s"),
        (59_400, "59 s"),
        (60_000, "1 min"),
        (184_000, "3 min 4 s"),
        (7_500_000, "2 h 5 min"),
        (2 * 86_400_000 + 3_600_000, "2 d 1 h"),
    ],
)
def test_durations_read_well(value_ms, expected):
    """Two units at most; what is not known is a dash."""
    assert expected == words.duration(value_ms)


def test_instants_are_exact_for_mouse_hovers():
    """Date, ms and zone are in the title; what lies ahead was just now, what is beyond all years is shown."""
    assert ">14 s ago<" in words.ago(NOW_MS - 14_000, NOW_MS)
    assert 'title="2026-11-24 03:01:02.303 UTC"' in words.ago(NOW_MS - 14_000, NOW_MS)
    assert ">just now<" in words.ago(NOW_MS + 5_000, NOW_MS)
    assert "9999" in words.day_and_moment(10**17)
    assert ("now", "in 2.0 s", words.NOTHING) == (
        words.until(NOW_MS, NOW_MS),
        words.until(NOW_MS + 2_000, NOW_MS),
        words.until(None, NOW_MS),
    )


@given(some.lists(some.tuples(some.integers(0, 10**6), some.integers(0, 10**6)), min_size=1, max_size=90))
def test_bars_stay_inside(values):
    """Whatever the values are, all is within the drawing, and each slot can be pointed at."""
    strip = stacked([("a", [a for a, _ in values]), ("b", [b for _, b in values])], ["x"] * len(values), "s")
    assert len(values) == len(strip.slots)
    for bar in strip.bars:
        assert bar.x >= 0
        assert bar.y >= -0.02
        assert bar.x + bar.width <= WIDTH + 0.02
        assert bar.y + bar.height <= HEIGHT + 0.02


@given(some.floats(0.001, 1e9))
def test_top_of_an_axis_is_round_and_near(highest):
    """Not below the highest value, and at most 2.5 times it."""
    top = nice_top(highest)
    assert highest <= top
    assert top <= highest * 2.500001
    assert 1 == nice_top(0)


@given(some.lists(some.integers(0, 10**7), min_size=6, max_size=6))
def test_shares_fill_the_bar(counts):
    """What there is is seen, however little of all it is; together they are the whole."""
    placed = shares([(str(index), count) for index, count in enumerate(counts)])
    assert [count for count in counts if count] == [count for _, count, _, _ in placed]
    assert all(width >= 0.5 for _, _, _, width in placed)
    assert not placed or abs(sum(width for _, _, _, width in placed) - 100) < 0.1


def task(**changes) -> dict[str, object]:
    """Return a task as the API answers it."""
    fields = {"state": "FINISHED", "attempts": 1, "created_at_ms": 0, "started_at_ms": 400, "ended_at_ms": 1_000}
    return {**fields, "wait_ms": 400, "spent_ms": 600, **changes}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [("queued", 0, 400), ("finished", 400, 600)]),
        ({"created_at_ms": None}, []),
        ({"state": "QUEUED", "started_at_ms": None, "ended_at_ms": None, "spent_ms": 0}, [("queued", 0, 1_000)]),
        ({"state": "IN_PROGRESS", "ended_at_ms": None, "spent_ms": 0}, [("queued", 0, 400), ("progress", 400, 600)]),
        (
            {"state": "DEAD", "attempts": 3, "spent_ms": 100, "started_at_ms": 950},
            [("retry", 0, 900), ("dead", 900, 100)],
        ),
    ],
)
def test_tasks_time_is_cut_into_waits_and_work(changes, expected):
    """In thousandths of the whole line, which is one second here. The waits of three attempts are one stretch."""
    asked = task(**changes)
    found = segments_of(spans_of(msgspec.convert(asked, TaskTimes), 1_000), asked["state"], 0, 1_000, now_ms=1_000)
    assert expected == [(one.part, one.x, one.width) for one in found]


def test_work_has_the_colour_of_its_own_end_where_the_events_tell_it():
    """Of several attempts each one; the time in which a task lay dead is left out."""
    spans = [
        Span(What.WORK, 0, 100, outcome="TASK_FAILED"),
        Span(What.RETRY, 100, 300, outcome="due"),
        Span(What.WORK, 300, 400, outcome="TASK_FAILED"),
        Span(What.DEAD, 400, 900, outcome="TASKS_CREATED"),
        Span(What.WORK, 900, None),
    ]
    found = segments_of(spans, "IN_PROGRESS", 0, 1_000, now_ms=1_000)
    assert [("failed", 0), ("retry", 100), ("failed", 300), ("progress", 900)] == [(one.part, one.x) for one in found]
