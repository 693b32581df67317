"""What is believed of a clock, and where an object belongs."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.clocks import CLOCK_TOLERANCE_MS, believed_ms, event_time_ms
from app.rules.placement import is_misplaced, partition_of

INSTANTS = st.integers(0, 253_402_300_799_999)


@given(INSTANTS, INSTANTS)
def test_stamp_is_believed_up_to_now_and_a_little_more(stamp_ms, now_ms):
    """Nothing from the past is ever changed, and what is believed lies in the future by the tolerance at most."""
    expected = stamp_ms if stamp_ms - now_ms <= CLOCK_TOLERANCE_MS else now_ms
    assert expected == believed_ms(stamp_ms, now_ms)
    assert event_time_ms(stamp_ms, now_ms) == (expected if now_ms else stamp_ms)


@pytest.mark.parametrize("none", [-1, 0])
def test_record_without_a_stamp_says_nothing_of_its_event(none):
    """As very old producers write them."""
    assert 1_795_489_276_303 == event_time_ms(1_795_489_276_303, none)


@given(st.text(min_size=1), st.integers(1, 1_000))
def test_every_id_has_one_partition(object_id, partition_count):
    """By its UTF-8, as librdkafka's `consistent` partitioner; a moved record is right where it comes to."""
    right = partition_of(object_id.encode(), partition_count)
    assert zlib.crc32(object_id.encode()) % partition_count == right
    assert not is_misplaced(object_id, right, partition_count)
    assert partition_count == 1 or is_misplaced(object_id, (right + 1) % partition_count, partition_count)


@pytest.mark.parametrize(("object_id", "partition"), [("7f3a", 0), ("日本", 0), ("a", 3)])
def test_contract(object_id, partition):
    """For producers who want to compare."""
    assert partition == partition_of(object_id.encode(), 4)
