"""Records of a changelog that are no rows of its table: another program has written there, or another version of us.

A worker refuses to work with such a table: it cannot know which row the record has replaced. A person decides, by
`ebs offsets reset --to committed`, which puts back the row that each of these records has replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app.errors import ForeignRows
from app.streaming.offset_notes import NOTE, NOTE_KEY, decode_notes, reset_command, role_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from aiokafka import TopicPartition

    WhyNoRow = Callable[[bytes | None, bytes | None], str]
    """Says why a record's key and value are no row of a table, "" if they are one; a tombstone is."""

_NAMED = 3


class ForeignRow(NamedTuple):
    """Where a record lies that is no row, its key, and why it is none."""

    tp: TopicPartition
    offset: int
    key: bytes | None
    why: str

    def __str__(self) -> str:
        return f"{self.tp.topic}-{self.tp.partition}@{self.offset} (key {self.key!r:.80}: {self.why:.200})"


class ForeignRecords:
    """Those of a restore, as long as no row with the same key follows them."""

    def __init__(self) -> None:
        self._found: dict[tuple[TopicPartition, bytes | None], ForeignRow] = {}

    def rows_of(self, tp: TopicPartition, records: Sequence[Any], why_no_row: WhyNoRow) -> dict[bytes, bytes | None]:
        """Return the last row of each key of some records; those whose last record is no row are left out."""
        rows: dict[Any, bytes | None] = {record.key: record.value for record in records}
        foreign = [(key, why) for key, value in rows.items() if (why := why_no_row(key, value))]
        if self._found:
            for key in rows:
                self._found.pop((tp, key), None)
        for key, why in foreign:
            del rows[key]
            offset = max(record.offset for record in records if record.key == key)
            self._found[tp, key] = ForeignRow(tp, offset, key, why)
        return rows

    def of(self, numbers: Iterable[int]) -> list[ForeignRow]:
        """Return what was found in these partitions, in the order of topics, partitions and offsets."""
        wanted = set(numbers)
        return sorted(row for (tp, _), row in self._found.items() if tp.partition in wanted)


def why_no_note(value: bytes | None, *, keeps_offsets: bool) -> str:
    """Return why a record with the empty key is no note of a table; `keeps_offsets`: it is the notes table."""
    if value is None or (not keeps_offsets and value == NOTE):
        return ""
    if not keeps_offsets:
        return "it is no note"
    try:
        decode_notes(value)
    except msgspec.DecodeError as error:
        return str(error)
    return ""


def row_check(
    table: str, why_no_row: Callable[[str, bytes | None, bytes | None], str], *, keeps_offsets: bool
) -> WhyNoRow:
    """Return the check of all records of a table's changelog, its notes included."""

    def check(key: bytes | None, value: bytes | None) -> str:
        return why_no_note(value, keeps_offsets=keeps_offsets) if key == NOTE_KEY else why_no_row(table, key, value)

    return check


def refuse(found: Sequence[ForeignRow], group_id: str) -> None:
    """Raise `ForeignRows` if there are any."""
    if not found:
        return
    role = role_of(group_id)
    named = ", ".join(map(str, found[:_NAMED]))
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise ForeignRows(
        f"the changelogs of {role} have records that are no rows of its tables: {named}{more}. Another program, or "
        f"another version of this one, has written them. If a newer version did, start that version. Otherwise stop "
        f"the workers of {role} (those of `ebs up` wait by themselves), then run {reset_command(group_id)} --to "
        "committed, which puts back the rows that were there before (docs/how-to/lost-offsets.md)"
    )
