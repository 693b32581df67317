"""Windows: sums that merge, keys that sort by time, figures that people can believe."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.rules.counts import (
    TOTAL_SIZE_MS,
    WINDOW_MS,
    Counts,
    WindowKey,
    add_counts,
    decode_counts,
    decode_window_key,
    describe_audit,
    describe_audits,
    describe_counts,
    describe_totals,
    describe_window,
    encode_counts,
    encode_window_key,
    imbalance_of,
    total_of,
    window_start_ms,
)

SOME = settings(max_examples=50, deadline=None)
HISTOGRAMS = st.dictionaries(st.integers(-1, 300), st.integers(1, 1_000), max_size=8)
COUNTS = st.builds(
    lambda fields: Counts(**fields),
    st.fixed_dictionaries(
        {
            name: HISTOGRAMS
            if name.endswith("histogram")
            else st.integers(-50, 50)
            if name.endswith("_now")
            else st.integers(0, 10**12)
            for name in Counts.__struct_fields__
        }
    ),
)
KEYS = st.builds(
    WindowKey,
    st.sampled_from([TOTAL_SIZE_MS, WINDOW_MS, 60_000, 3_600_000]),
    st.integers(0, 253_402_300_799_999),
    st.text("abcXYZ019._-", min_size=1, max_size=5),
)


def merged(*parts: Counts) -> Counts:
    """Add counts up, leaving the parts as they are."""
    total = Counts()
    for part in parts:
        add_counts(total, part)
    return total


@SOME
@given(st.lists(COUNTS, max_size=4))
def test_merging_adds_everything_and_keeps_the_largest(parts):
    """Sums add up, maxima stay maxima, histograms count the values of all."""
    total = msgspec.structs.asdict(merged(*parts))
    for name, value in total.items():
        each = [getattr(part, name) for part in parts]
        if name.endswith("_max_ms"):
            assert max(each, default=0) == value
        elif name.endswith("histogram"):
            buckets = {bucket for one in each for bucket in one}
            assert {bucket: sum(one.get(bucket, 0) for one in each) for bucket in buckets} == value
        else:
            assert sum(each) == value


@SOME
@given(COUNTS, COUNTS, COUNTS)
def test_merging_does_not_depend_on_order(one, two, three):
    """Steps, partitions and windows may be added up in any order."""
    assert merged(one, two, three) == merged(three, merged(two, one))


@SOME
@given(COUNTS)
def test_counts_survive_their_table(counts):
    """What is stored is read back, states below 0 and histograms included."""
    assert counts == decode_counts(encode_counts(counts))


@SOME
@given(KEYS)
def test_window_key_survives_its_table(key):
    """Packing and unpacking give the same key."""
    assert key == decode_window_key(encode_window_key(key))


@SOME
@given(st.lists(KEYS, max_size=20))
def test_window_keys_sort_by_size_then_time(keys):
    """The order of the bytes is the order of time, so that old windows are found at the front."""
    assert sorted(keys) == [decode_window_key(data) for data in sorted(encode_window_key(key) for key in keys)]


@given(st.integers(0, 253_402_300_799_999))
def test_instant_lies_in_its_window(at_ms):
    """Start inclusive, end exclusive, starts on multiples of the size."""
    key = WindowKey(WINDOW_MS, window_start_ms(at_ms), "default")
    assert key.start_ms <= at_ms < key.end_ms
    assert 0 == key.start_ms % WINDOW_MS


def test_law_is_what_is_missing_from_all_states():
    """A lost task shows as a positive imbalance, one counted twice as a negative one."""
    states: dict[str, Any] = {name: 1 for name in Counts.__struct_fields__ if name.endswith("_now")}
    assert 6 == len(states)
    assert 0 == Counts(tasks_created=6, **states).imbalance
    assert 2 == Counts(tasks_created=8, **states).imbalance
    assert -1 == Counts(tasks_created=5, **states).imbalance


def test_audit_tells_both_sides_of_the_law():
    """What was created, where it is now, and whether that adds up."""
    counts = Counts(tasks_created=20, queued_now=1, in_progress_now=2, retrying_now=3, finished_now=4, dead_now=5)
    counts.cancelled_now = 4
    expected = {
        "holds": False,
        "imbalance": 1,
        "tasks_created": 20,
        "queued": 1,
        "in_progress": 2,
        "waiting_retry": 3,
        "finished": 4,
        "dead": 5,
        "cancelled": 4,
    }
    assert expected == describe_audit(counts)
    counts.cancelled_now = 5
    assert (True, 0) == (describe_audit(counts)["holds"], describe_audit(counts)["imbalance"])


def test_window_tells_events_only():
    """What is of now belongs to totals; everything else is told of both."""
    counts = Counts(tasks_died=2, late_events=3, expired_events=4, queued_now=7)
    told = describe_window(counts)
    assert (2, 3, 4) == (told["tasks_died"], told["late_events"], told["expired_events"])
    of_now = {"tasks_queued", "tasks_in_progress", "tasks_waiting_retry", "tasks_dead"}
    assert of_now == set(describe_counts(counts)) - set(told)


def test_description_has_figures_and_spreads():
    """Counts, states now, and of each duration mean, percentiles and maximum."""
    counts = Counts(
        objects_created=2,
        tasks_created=6,
        tasks_started=4,
        tasks_finished=3,
        spent_ms=300,
        spent_max_ms=104,
        spent_histogram={48: 2, 49: 1},
        queued_now=2,
        in_progress_now=1,
        finished_now=3,
    )
    told = describe_counts(counts)
    assert (2, 6, 4, 2, 1, 3, 300) == tuple(
        told[name]
        for name in (
            "objects_created",
            "tasks_created",
            "tasks_started",
            "tasks_queued",
            "tasks_in_progress",
            "tasks_finished",
            "time_spent_ms",
        )
    )
    assert {"mean": 100.0, "p50": 92.4, "p95": 101.6, "p99": 101.6, "max": 104} == told["work_time_ms"]
    assert dict.fromkeys(("mean", "p50", "p95", "p99", "max")) == told["queue_wait_ms"]


def test_percentile_is_never_over_the_maximum():
    """A bucket's middle may lie above the largest value that was seen; nobody would believe it."""
    told = describe_counts(Counts(wait_ms=93, wait_max_ms=93, wait_histogram={48: 1}))
    assert 92.4 == told["queue_wait_ms"]["p99"]
    told = describe_counts(Counts(wait_ms=90, wait_max_ms=90, wait_histogram={48: 1}))
    assert 90 == told["queue_wait_ms"]["p99"] == told["queue_wait_ms"]["max"]


def test_total_is_the_sum_of_its_parts_and_leaves_them_alone():
    """Sums, maxima and histograms of all parts; no parts make a total of nothing."""
    parts = [
        Counts(tasks_created=2, wait_ms=5, wait_max_ms=5, wait_histogram={17: 1}),
        Counts(tasks_created=1, wait_ms=9, wait_max_ms=4, wait_histogram={17: 2, 3: 1}),
    ]
    total = Counts(tasks_created=3, wait_ms=14, wait_max_ms=5, wait_histogram={17: 3, 3: 1})
    assert total == total_of(iter(parts))
    assert {17: 1} == parts[0].wait_histogram
    assert Counts() == total_of([])


def test_surplus_of_one_kind_does_not_hide_the_loss_of_another():
    """Totals and audit tell the same imbalance: both directions count."""
    kinds = {"mail": Counts(tasks_created=2, finished_now=3), "default": Counts(tasks_created=3, finished_now=2)}
    assert 2 == imbalance_of(kinds)
    totals, totals_by_kind = describe_totals(kinds)
    audit, audits_by_kind = describe_audits(kinds)
    assert (2, 5) == (totals["imbalance"], totals["tasks_created"])
    assert (False, 2, 5) == (audit["holds"], audit["imbalance"], audit["tasks_created"])
    assert ["default", "mail"] == list(totals_by_kind) == list(audits_by_kind)
    assert [1, -1] == [one["imbalance"] for one in totals_by_kind.values()]
    assert [(False, 1), (False, -1)] == [(one["holds"], one["imbalance"]) for one in audits_by_kind.values()]
    assert (0, True) == (imbalance_of({}), describe_audits({})[0]["holds"])
