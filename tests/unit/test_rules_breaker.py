"""When too many tasks of a kind die: what a window counts, against a list of everything that happened."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules import breaker
from app.rules.breaker import MAX_REASON_CHARS, SLICES, DeadShares, Deaths, reason_of

WINDOW_S = 60.0


def shares(limit: float = 0.5, *, min_count: int = 4, window_s: float = WINDOW_S) -> DeadShares:
    """Return windows without any result."""
    return DeadShares(limit=limit, window_s=window_s, min_count=min_count)


def end(one: DeadShares, results: str, *, kind: str = "mail", began_at_s: float = 100, now_s: float = 100) -> list:
    """Let tasks of a kind end, `x` dead and `.` finished; returns what is said of each death."""
    said = []
    for result in results:
        if result == "x":
            said.append(one.died(kind, began_at_s, now_s))
        else:
            one.finished(kind, began_at_s, now_s)
    return said


@pytest.mark.parametrize(
    ("limit", "results", "expected"),
    [
        (0.5, "xxxx", [None, None, None, Deaths(4, 4)]),
        (0.5, "..xx", [None, Deaths(2, 4)]),
        (0.5, "...xx", [None, None]),
        (0.1, ".........x", [Deaths(1, 10)]),
        (0.1, "..........x", [None]),
        (1.0, "xxxx", [None, None, None, Deaths(4, 4)]),
        (1.0, ".xxxxx", [None] * 5),
        (0.07, "." * 93 + "x" * 7, [*[None] * 6, Deaths(7, 100)]),
    ],
)
def test_limit_is_passed_from_so_many_tasks_and_that_share_on(limit, results, expected):
    """Both at least: a share of 1 must be possible, and 7 of 100 are 0.07 although 0.07 * 100 is more than 7."""
    assert expected == end(shares(limit), results)


def test_kinds_are_counted_apart():
    """What dies of one kind says nothing of another."""
    one = shares()
    assert [None] * 3 == end(one, "xxx")
    assert [None] * 3 == end(one, "xxx", kind="image")
    assert [Deaths(4, 4)] == end(one, "x")


def test_what_is_older_than_the_window_counts_no_more():
    """Slices of a second: what died within second 100 is there until second 159 is over, and gone from 160 on."""
    for now_s, expected in ((130, Deaths(4, 4)), (159.875, Deaths(4, 4)), (160, None), (161, None), (1_000, None)):
        one = shares()
        end(one, "xxx", now_s=100.5)
        assert [expected] == end(one, "x", now_s=now_s), now_s


def test_resumed_kind_restarts_its_count_and_earlier_tasks_do_not_count():
    """Tasks that ran through the pause and die after it do not pause the kind again; those that begin then do."""
    one = shares()
    assert [None, None, None, Deaths(4, 4)] == end(one, "xxxx", now_s=100)
    one.resumed("mail", 110)
    assert [None] * 9 == end(one, "xxxxxxxxx", began_at_s=109.9, now_s=111)
    assert [None, None, None, Deaths(4, 4)] == end(one, "xxxx", began_at_s=110, now_s=112)


def test_resume_of_all_restarts_the_count_of_every_kind():
    """Those that were never heard of included; a kind that was resumed by itself before as well."""
    one = shares()
    end(one, "xxx")
    one.resumed("image", 105)
    one.resumed("", 110)
    for kind in ("mail", "image", "new"):
        assert [None] * 5 == end(one, "xxxxx", kind=kind, began_at_s=109, now_s=111)
        assert [None] * 3 == end(one, "xxx", kind=kind, began_at_s=110, now_s=112)


def test_other_kinds_keep_their_windows_when_one_is_resumed():
    """Their results stand."""
    one = shares()
    end(one, "xxx", kind="image")
    one.resumed("mail", 110)
    assert [Deaths(4, 4)] == end(one, "x", kind="image", now_s=111)


def test_invented_kinds_do_not_fill_the_memory():
    """Of a hundred thousand kinds in a hundred minutes those of the last ones are kept, and one that was resumed."""
    one = shares()
    one.resumed("mail", 0)
    for number in range(100_000):
        one.finished(f"kind-{number}", 0, number * 0.06)
    assert len(one._windows) <= 2 * breaker._FEW_KINDS
    assert [None] * 5 == end(one, "xxxxx", began_at_s=-1, now_s=6_000)


def test_many_invented_kinds_at_once_do_not_fill_the_memory():
    """A hundred thousand within one window; what dies of a kind that is counted still pauses it, later ones count."""
    one = shares()
    end(one, "xxx", now_s=0)
    for number in range(100_000):
        one.finished(f"kind-{number}", 0, 1 + number * 1e-5)
    assert len(one._windows) == breaker._MOST_KINDS
    assert [Deaths(4, 4)] == end(one, "x", now_s=3)
    assert [None] * 5 == end(one, "xxxxx", kind="new", now_s=3)
    assert [None, None, None, Deaths(4, 4)] == end(one, "xxxx", kind="new", now_s=100)


# Eighths of a second, and slices of whole ones: sums and quotients are exact, here and there.
EIGHTHS = st.integers(0, 320).map(lambda number: number / 8)
RESULTS = st.lists(
    st.tuples(EIGHTHS, st.sampled_from("xxx..r"), st.sampled_from(["mail", "image"]), EIGHTHS), max_size=80
)


@given(RESULTS, st.floats(0.05, 1), st.integers(1, 8), st.integers(1, 3))
def test_window_holds_what_a_list_of_everything_holds(steps, limit, min_count, slice_s):
    """After any history: all of the last window less a slice, nothing older, nothing from before a resume."""
    window_s = slice_s * SLICES
    one = shares(limit, min_count=min_count, window_s=window_s)
    now_s, past, resumed_at_s = 1_000.0, [], {"mail": -math.inf, "image": -math.inf}
    for pause_s, what, kind, took_s in steps:
        now_s += pause_s
        if what == "r":
            one.resumed(kind, now_s)
            resumed_at_s[kind] = now_s
            past = [entry for entry in past if entry[1] != kind]
            continue
        said = one.died(kind, now_s - took_s, now_s) if what == "x" else one.finished(kind, now_s - took_s, now_s)
        if now_s - took_s >= resumed_at_s[kind]:
            past.append((now_s, kind, what))
        elif said is not None:
            raise AssertionError("a task from before the resume was heard")
        if what == "x":
            mine = [entry for entry in past if entry[1] == kind]
            current = math.floor(now_s / slice_s)
            held = [entry for entry in mine if math.floor(entry[0] / slice_s) > current - SLICES]
            dead = sum(entry[2] == "x" for entry in held)
            passed = len(held) >= min_count and dead / len(held) >= limit and now_s - took_s >= resumed_at_s[kind]
            assert (Deaths(dead, len(held)) if passed else None) == said
            assert all(now_s - entry[0] < window_s for entry in held)
            assert all(now_s - entry[0] > window_s - slice_s for entry in mine if entry not in held)


def test_reason_says_who_and_why_in_one_line():
    """As long as a person's reason at most, and without line breaks: tables and logs show it."""
    said = reason_of(Deaths(64, 100), worker="w1", kind="mail", window_s=60.0, error="ValueError: no\n user  17")
    assert (
        "breaker of worker w1: 64 of 100 tasks of kind mail died within 60 s; the last error: ValueError: no user 17"
        == said
    )
    long = reason_of(Deaths(64, 100), worker="w1", kind="mail", window_s=0.5, error="x" * 2_000)
    assert (MAX_REASON_CHARS, "…") == (len(long), long[-1])
