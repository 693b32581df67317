"""Where a group goes on: by its committed offset, by what its table has noted, or nowhere before a person decides."""

from __future__ import annotations

from itertools import product

import pytest
from aiokafka import TopicPartition

from app.errors import OffsetsLost
from app.streaming.fencing import CommittedOffset
from app.streaming.places import Place, changed_places, decode_places, encode_places, starting_point

IN = TopicPartition("in", 0)
GONE = CommittedOffset(-1, "")


def start(committed: CommittedOffset, place: Place | None, log: range = range(100)):
    """Return where a group begins with a topic whose id is "now"."""
    return starting_point(IN, committed, place, group_id="ebs-processing", topic_id="now", log=log)


@pytest.mark.parametrize("place", [None, Place("now"), Place("now", 9)])
def test_committed_offset_counts(place):
    """Also one that somebody has set by hand, whatever the table says; its metadata comes with it."""
    assert (7, "bits", "") == start(CommittedOffset(7, "bits"), place)


def test_new_group_begins_at_the_first_record():
    """Nobody has worked anything: that is no loss."""
    assert (4, "", "") == start(GONE, None, range(4, 9))


def test_lost_offset_is_known_to_a_table_that_kept_it():
    """Rows and offsets were committed together."""
    offset, metadata, said = start(GONE, Place("now", 9))
    assert (9, "", True) == (offset, metadata, "in-0 is gone" in said)


def test_lost_offset_that_no_table_kept_is_refused_with_the_command():
    """All that is finished would run again."""
    with pytest.raises(OffsetsLost, match="ebs offsets reset --role processing with --to earliest"):
        start(GONE, Place("now"))


@pytest.mark.parametrize(("committed", "offset"), list(product([GONE, CommittedOffset(50, "bits")], [-1, 70])))
def test_topic_that_was_made_anew_begins_at_its_first_record(committed, offset):
    """Whatever was committed or noted is of another log."""
    found = start(committed, Place("before", offset), range(30))
    assert (0, "", True) == (found.offset, found.metadata, "was made anew" in found.said)


@pytest.mark.parametrize("place", [None, Place("now"), Place("now", 80)])
def test_offset_beyond_the_end_is_refused(place):
    """Records were lost: what was written since would be passed over in silence."""
    with pytest.raises(OffsetsLost, match="it ends at 30"):
        start(CommittedOffset(80, ""), place, range(30))


def test_what_was_deleted_unworked_is_told():
    """And its metadata does not count from there."""
    found = start(CommittedOffset(3, "bits"), Place("now"), range(10, 20))
    assert (10, "", True) == (found.offset, found.metadata, "records 3 to 9 of in-0" in found.said)


def test_row_changes_with_what_a_step_has_read_and_with_new_topics():
    """Of records that a step took itself the offset is kept; of others only that they are worked: no row each time."""
    ids = {"in": "1", "retry": "2"}
    first = changed_places({}, ids, {"in": 5, "retry": 3}, {"in"})
    assert {"in": Place("1", 5), "retry": Place("2")} == first
    assert {"in": Place("1", 6), "retry": Place("2")} == changed_places(first or {}, ids, {"in": 6}, {"in"})
    assert changed_places(first or {}, ids, {"in": 6, "retry": 9}, set()) is None
    assert {"in": Place("1", 5), "retry": Place("3")} == changed_places(
        first or {}, ids | {"retry": "3"}, {"retry": 9}, set()
    )


def test_row_survives_packing():
    """And no row is no place."""
    places = {"in": Place("1", 5), "retry": Place("2")}
    assert (places, {}) == (decode_places(encode_places(places)), decode_places(None))
