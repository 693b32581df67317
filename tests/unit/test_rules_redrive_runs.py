"""How far a redrive is: what stands on the topic, and what is read of it."""

from __future__ import annotations

import msgspec
import pytest

from app.rules.letter_acts import is_act, read_act
from app.rules.letter_filter import LetterFilter
from app.rules.redrive_runs import (
    MAX_RUNS_KEPT,
    SILENT_AFTER_S,
    RunProgress,
    RunState,
    is_run_progress,
    newest_first,
    read_run_progress,
    run_progress_record,
)

NOW_MS = 1_795_489_276_303
RUN_ID = "0123456789abcdef" * 2
RUN = RunProgress(
    RUN_ID, 2, RunState.RUNNING, LetterFilter(kind="mail"), NOW_MS, NOW_MS + 1, "me", 3.5, refused=(("1-2", "no"),)
)


def test_progress_is_read_back_as_it_was_written():
    """The record is no letter and no act on one; a filter's conditions that were not named are not written."""
    record = run_progress_record("dead-letters", RUN)
    headers = dict(record.headers)
    assert ("dead-letters", 0, b"run/" + RUN_ID.encode()) == record[:3]
    assert (True, True, None) == (
        is_act(headers),
        is_run_progress(headers),
        read_act(record.key, record.value, headers),
    )
    assert b'"wanted":{"kind":"mail"}' in record.value
    assert read_run_progress(record.value) == RUN


def test_end_is_the_next_record():
    """It keeps the counts, and says when and why."""
    ended = RUN.ended(RunState.FAILED, NOW_MS + 9, "away")
    expected = {"number": 3, "state": "FAILED", "at_ms": NOW_MS + 9, "ended_at_ms": NOW_MS + 9, "error": "away"}
    assert msgspec.to_builtins(RUN) | expected == msgspec.to_builtins(ended)


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"\xff", b"[]", b"{}", b"[" * 10_000]
    + [
        run_progress_record("t", msgspec.structs.replace(RUN, **change)).value
        for change in ({"run_id": "../x"}, {"number": -1}, {"redriven_count": -1}, {"started_at_ms": 10**18})
    ],
)
def test_bytes_that_say_nothing_are_passed_over(value):
    """What an outside producer writes under our header does no harm."""
    assert read_run_progress(value) is None


def test_run_that_is_silent_for_long_is_known_to_be_interrupted():
    """Not before, and not where it has ended; the record itself says nothing of it."""
    assert RUN is RUN.heard_of(SILENT_AFTER_S)
    silent = RUN.heard_of(SILENT_AFTER_S + 0.1)
    assert (RunState.INTERRUPTED, RUN.at_ms) == (silent.state, silent.ended_at_ms)
    assert "for 10 s; send the same request again" in silent.error
    done = RUN.ended(RunState.DONE, NOW_MS)
    assert done is done.heard_of(3_600)


def test_runs_are_shown_newest_first():
    """Those beyond the kept ones were started first."""
    runs = [msgspec.structs.replace(RUN, started_at_ms=number) for number in range(MAX_RUNS_KEPT + 2)]
    assert [1, 0] == [one.started_at_ms for one in newest_first(runs)[MAX_RUNS_KEPT:]]
