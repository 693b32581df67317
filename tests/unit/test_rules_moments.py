"""What was so at each moment, from windows and from what is so now."""

from __future__ import annotations

from app.rules.moments import moments, per_s_now

NOW_MS = 1_795_489_276_303

NAMES = ("created", "started", "finished", "failed", "died", "cancelled")


def window(start_ms: int, **figures: int) -> dict[str, int]:
    """Return a window as the API answers it."""
    return {"start_ms": start_ms, **{f"tasks_{name}": figures.get(name, 0) for name in NAMES}}


def test_queue_of_the_past_follows_from_now_and_the_events_since():
    """What waits and runs now, less what came, started and ended since; two kinds of a slot add up."""
    newest_ms = NOW_MS - NOW_MS % 10_000
    line = moments(
        [
            window(newest_ms, created=4, started=1),
            window(newest_ms, started=2, finished=3, failed=1, died=1),
            window(newest_ms - 10_000, created=6, started=3),
            window(newest_ms - 90_000, created=99),
        ],
        {"tasks_queued": 4, "tasks_in_progress": 2, "tasks_waiting_retry": 1},
        3,
        NOW_MS,
    )
    assert [(1, 0, 0), (4, 3, 0), (5, 2, 3)] == [(one.waiting, one.in_progress, one.finished) for one in line]
    assert [newest_ms - 20_000, newest_ms - 10_000, newest_ms] == [moment.start_ms for moment in line]


def test_past_that_redrives_made_unclear_is_not_below_nothing():
    """A redrive is in no window: what it makes negative is drawn as none."""
    newest_ms = NOW_MS - NOW_MS % 10_000
    line = moments([window(newest_ms, created=5, started=5)], {"tasks_in_progress": 1}, 2, NOW_MS)
    assert [(0, 0), (0, 1)] == [(one.waiting, one.in_progress) for one in line]


def test_window_ahead_of_the_clock_counts_as_newest():
    """A producer whose clock is ahead is not left out."""
    line = moments([window(NOW_MS + 60_000, finished=3)], {}, 2, NOW_MS)
    assert [0, 3] == [moment.finished for moment in line]


def test_rate_of_now_is_over_the_last_whole_window_and_what_has_passed_of_the_next():
    """In the middle of a window, and at its first instant: then there is only the whole one."""
    assert 2.0 == per_s_now([99, 20, 10], 1_005_000)
    assert 3.0 == per_s_now([99, 20, 10], 1_000_000)
