"""Foreign records in a changelog: found at a restore, unless a row follows them; the refusal names where they lie."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition
from view_records import Record

from app.errors import ForeignRows
from app.streaming.application import EXIT_UNDECIDED, exit_code_of
from app.streaming.foreign_rows import ForeignRecords, refuse, row_check
from app.streaming.offset_notes import NOTE, NOTE_KEY, OffsetNote, encode_notes

CHANGELOG = TopicPartition("ebs-statistics-ledger-changelog", 2)
CHECK = row_check("ledger", lambda _table, _key, value: "it is junk" if value == b"junk" else "", keeps_offsets=False)


def test_row_or_tombstone_behind_a_foreign_record_heals_it():
    """In the same fetch or a later one; of the others only the last record of each key counts."""
    found = ForeignRecords()
    first = [Record(4, b"a", b"1"), Record(5, b"a", b"junk"), Record(6, b"b", b"junk"), Record(7, b"b", b"2")]
    assert {b"b": b"2"} == found.rows_of(CHANGELOG, first, CHECK)
    assert [5] == [row.offset for row in found.of([2])]
    assert [] == found.of([1])
    assert {b"a": None} == found.rows_of(CHANGELOG, [Record(9, b"a", None)], CHECK)
    assert [] == found.of([2])
    refuse(found.of([2]), "ebs-statistics")


def test_refusal_names_the_place_and_the_command():
    """Topic, partition, offset, key, and what to run."""
    found = ForeignRecords()
    found.rows_of(CHANGELOG, [Record(5, b"a", b"junk"), *(Record(n, b"%d" % n, b"junk") for n in range(6, 12))], CHECK)
    with pytest.raises(ForeignRows) as caught:
        refuse(found.of([2]), "acme.ebs-statistics")
    said = str(caught.value)
    assert "ebs-statistics-ledger-changelog-2@5 (key b'a': it is junk)" in said
    assert "and 4 more" in said
    assert "ebs offsets reset --role statistics --to committed" in said
    assert EXIT_UNDECIDED == exit_code_of(caught.value)


def test_notes_are_checked_too():
    """They have the empty key; only those of one table tell offsets."""
    notes = row_check("expiry", lambda *_: "no row", keeps_offsets=True)
    assert ["", "", "no row"] == [
        notes(NOTE_KEY, encode_notes({"objects": OffsetNote("id", 5)})),
        notes(NOTE_KEY, None),
        notes(b"key", b""),
    ]
    assert all([notes(NOTE_KEY, b"junk"), notes(NOTE_KEY, NOTE), CHECK(NOTE_KEY, b"other")])
    assert "" == CHECK(NOTE_KEY, NOTE)
