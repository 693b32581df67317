"""Where a group goes on: by its committed offset, by what its table has noted, or nowhere before a person decides."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from aiokafka import TopicPartition

from app.errors import OffsetsLost
from app.kafka.fencing import CommittedOffset
from app.streaming.offset_notes import (
    NOTE,
    NOTED,
    OffsetNote,
    changed_notes,
    check_tables,
    decided,
    decode_notes,
    encode_notes,
    starting_point,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

IN = TopicPartition("in", 0)
GONE = CommittedOffset(-1, "")


def start(committed: CommittedOffset, note: OffsetNote | None, log: range = range(100), kept_to: int = 100):
    """Return where a group begins with a topic whose id is "now"."""
    return starting_point(
        IN,
        committed,
        note,
        group_id="ebs-processing",
        topic_id="now",
        cluster_id="here",
        log=log,
        kept_to=min(log.stop, kept_to),
    )


@pytest.mark.parametrize("note", [None, OffsetNote("now"), OffsetNote("now", 9)])
def test_committed_offset_counts(note):
    """Also one that somebody has set by hand, whatever the table says; its metadata comes with it."""
    assert (7, "bits", "") == start(CommittedOffset(7, "bits"), note)


def test_new_group_begins_at_the_first_record():
    """Nobody has worked anything: that is no loss."""
    assert (4, "", "") == start(GONE, None, range(4, 9))


def test_lost_offset_is_known_to_a_table_that_kept_it():
    """Rows and offsets were committed together."""
    offset, metadata, said = start(GONE, OffsetNote("now", 9))
    assert (9, "", True) == (offset, metadata, "in-0 is gone" in said)


def test_lost_offset_that_no_table_kept_is_refused_with_the_command():
    """All that is finished would run again."""
    with pytest.raises(OffsetsLost, match="ebs offsets reset --role processing with --to earliest"):
        start(GONE, OffsetNote("now"))


@pytest.mark.parametrize(("committed", "offset"), list(product([GONE, CommittedOffset(50, "bits")], [-1, 70])))
def test_topic_that_was_made_anew_begins_at_its_first_record(committed, offset):
    """Whatever was committed or noted is of another log."""
    found = start(committed, OffsetNote("before", offset), range(30))
    assert (0, "", True) == (found.offset, found.metadata, "was recreated" in found.said)


@pytest.mark.parametrize("note", [None, OffsetNote("now"), OffsetNote("now", 80)])
def test_offset_beyond_the_end_is_refused(note):
    """Records were lost: what was written since would be passed over in silence."""
    with pytest.raises(OffsetsLost, match="it ends at 30"):
        start(CommittedOffset(80, ""), note, range(30))


def test_log_that_grew_again_past_the_committed_offset_is_refused():
    """Its first records are others than those that were worked: they would be skipped."""
    with pytest.raises(OffsetsLost, match="has lost its records from 0 on, and has others there now, up to 100"):
        start(CommittedOffset(80, "", 2), OffsetNote("now", 80), kept_to=0)
    assert 80 == start(CommittedOffset(80, "", 2), OffsetNote("now", 80), kept_to=80).offset
    assert 80 == start(CommittedOffset(80, decided("", "now")), OffsetNote("now", 80)).offset


def test_what_was_deleted_unworked_is_told():
    """And its metadata does not count from there."""
    found = start(CommittedOffset(3, "bits"), OffsetNote("now"), range(10, 20))
    assert (10, "", True) == (found.offset, found.metadata, "records 3 to 9 of in-0" in found.said)


@pytest.mark.parametrize("committed", [GONE, CommittedOffset(50, "bits"), CommittedOffset(50, "bits;t=before")])
@pytest.mark.parametrize("topic_id", ["now", "before"])
def test_tables_of_another_cluster_are_refused(committed, topic_id):
    """As MirrorMaker makes them: all that is finished would run again, and translated offsets are a guess."""
    with pytest.raises(OffsetsLost, match=r"another Kafka cluster \(there, now here\).* --role processing --all with"):
        start(committed, OffsetNote(topic_id, 50, "there"))


@pytest.mark.parametrize(
    "note", [None, OffsetNote("now", 9), OffsetNote("before", 9), OffsetNote("before", 9, "there")]
)
def test_decision_of_a_person_counts(note):
    """Whatever the table says of an older topic, or of one on another cluster; its progress comes with it."""
    assert (7, "bits", "") == start(CommittedOffset(7, decided("bits", "now")), note)
    assert (7, "", "") == start(CommittedOffset(7, decided("", "now")), note)


def test_decision_of_an_older_topic_does_not_count():
    """It was deleted since."""
    assert 0 == start(CommittedOffset(50, decided("", "before")), OffsetNote("before", 9)).offset


PLACES, ROWS = "g-places-changelog", "g-rows-changelog"
WORKED = encode_notes({"in": OffsetNote("now", 9), ROWS: NOTED, PLACES: NOTED})


def tables(places: bytes | None, rows: bytes | None, **committed: CommittedOffset) -> Mapping[str, OffsetNote]:
    """Return the places of a partition by the notes of two tables and what is committed."""
    return check_tables(
        3,
        {PLACES: places, ROWS: rows},
        committed,
        notes_changelog=PLACES,
        group_id="ebs-statistics",
        topic_ids=dict.fromkeys(committed, "now"),
    )


@pytest.mark.parametrize("committed", [{}, {"a": GONE}, {"a": CommittedOffset(5, "")}])
def test_tables_with_their_notes_are_whole(committed):
    """Also with offsets that are gone, which is another matter."""
    assert decode_notes(WORKED) == tables(WORKED, NOTE, **committed)


def test_tables_of_a_new_group_need_no_notes():
    """Nobody has worked anything."""
    assert {} == tables(None, None, a=GONE, b=GONE)


@pytest.mark.parametrize(
    ("places", "rows", "committed", "gone"),
    [
        (WORKED, None, {"a": CommittedOffset(5, "")}, ROWS),
        (WORKED, None, {"a": GONE}, ROWS),
        (None, NOTE, {"a": CommittedOffset(5, "")}, PLACES),
        (None, NOTE, {"a": GONE}, PLACES),
        (None, None, {"a": CommittedOffset(5, ""), "b": GONE}, f"{PLACES} and {ROWS}"),
        (WORKED, None, {"a": CommittedOffset(5, decided("", "now")), "b": CommittedOffset(5, "")}, ROWS),
        (WORKED, None, {"a": CommittedOffset(5, decided("", "before"))}, ROWS),
    ],
)
def test_table_without_its_note_has_lost_its_rows(places, rows, committed, gone):
    """Its changelog was made anew, or lost: it would be taken for one that was never written."""
    said = (
        f"ebs-statistics has processed partition 3, but the rows of {gone} are gone.*--role statistics --to committed"
    )
    with pytest.raises(OffsetsLost, match=said):
        tables(places, rows, **committed)


def test_decision_lets_a_role_go_on_with_an_empty_table():
    """Its note is written again; so the next loss is noticed, too."""
    committed = CommittedOffset(5, decided(decided("bits", "before"), "now"))
    assert "bits;t=now" == committed.metadata
    assert {"in": OffsetNote("now", 9), PLACES: NOTED} == tables(WORKED, None, a=committed, b=GONE)
    assert {} == tables(None, None, a=committed)


def test_table_that_is_new_in_this_version_needs_no_note():
    """The row does not name it: rows of versions without notes name none."""
    assert {"in": OffsetNote("now", 9)} == tables(
        encode_notes({"in": OffsetNote("now", 9)}), None, a=CommittedOffset(5, "")
    )


def test_row_changes_with_records_and_with_new_topics():
    """Not for what a step only passes, such as transaction markers: it would write to one more partition."""
    first = changed_notes({}, {"in": OffsetNote("1", 5, "c"), "retry": OffsetNote("2", -1, "c")}, {"in"}) or {}
    assert {"in": OffsetNote("1", 5, "c"), "retry": OffsetNote("2", -1, "c")} == first
    assert {**first, "in": OffsetNote("1", 6, "c")} == changed_notes(first, {"in": OffsetNote("1", 6, "c")}, {"in"})
    assert changed_notes(first, {"in": OffsetNote("1", 6, "c"), "retry": OffsetNote("2", -1, "c")}, set()) is None
    for note in (OffsetNote("3", 9, "c"), OffsetNote("1", 9, "d")):
        assert {**first, "in": note} == changed_notes(first, {"in": note}, set())


def test_row_survives_packing():
    """And no row is no note."""
    notes = {"in": OffsetNote("1", 5), "retry": OffsetNote("2")}
    assert (notes, {}) == (decode_notes(encode_notes(notes)), decode_notes(None))
