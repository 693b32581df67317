"""How far a redrive is: what stands on the topic, and what is read of it."""

from __future__ import annotations

import msgspec
import pytest

from app.rules.letter_acts import is_act, read_act
from app.rules.redrive_runs import Progress, RunState, Wanted, is_progress, progress_record, read_progress

NOW_MS = 1_795_489_276_303
RUN_ID = "0123456789abcdef" * 2
RUN = Progress(
    RUN_ID, 2, RunState.RUNNING, Wanted(kind="mail"), NOW_MS, NOW_MS + 1, "me", 3.5, refused=(("1-2", "no"),)
)


def test_progress_is_read_back_as_it_was_written():
    """The record is no letter and no act on one; a filter's conditions that were not named are not written."""
    record = progress_record("dead-letters", RUN)
    headers = dict(record.headers)
    assert ("dead-letters", 0, b"run/" + RUN_ID.encode()) == record[:3]
    assert (True, True, None) == (is_act(headers), is_progress(headers), read_act(record.key, record.value, headers))
    assert b'"wanted":{"kind":"mail"}' in record.value
    assert read_progress(record.value) == RUN


def test_end_is_the_next_record():
    """It keeps the counts, and says when and why."""
    ended = RUN.ended(RunState.FAILED, NOW_MS + 9, "away")
    expected = {"number": 3, "state": "FAILED", "at_ms": NOW_MS + 9, "ended_at_ms": NOW_MS + 9, "error": "away"}
    assert msgspec.to_builtins(RUN) | expected == msgspec.to_builtins(ended)


@pytest.mark.parametrize(
    "value",
    [None, b"", b"{", b"\xff", b"[]", b"{}", b"[" * 10_000]
    + [
        progress_record("t", msgspec.structs.replace(RUN, **change)).value
        for change in ({"run_id": "../x"}, {"number": -1}, {"redriven_count": -1}, {"started_at_ms": 10**18})
    ],
)
def test_bytes_that_say_nothing_are_passed_over(value):
    """What an outside producer writes under our header does no harm."""
    assert read_progress(value) is None
