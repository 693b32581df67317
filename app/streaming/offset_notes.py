"""A second copy of a group's offsets, in one of its tables, so that lost committed offsets are noticed.

Kafka deletes the committed offsets of a group that had no member for `offsets.retention.minutes` (7 days), and of a
deleted topic. Without a second copy, such a group looks like a new group: it starts at the oldest record, and all
finished tasks run again, without an error. So each partition has a row with the id of each input topic that was
processed, the id of the cluster, and the offset. The row changes in the step that processes the records, so it is as
reliable as the offsets. A commit of `ebs offsets reset` says for which topic it decides (`decided`).

How a claim uses it (`c`: committed offset, `t`: the topic is the topic of the row):

| c | row | starts at |
| --- | --- | --- |
| decided for this topic | any | c |
| any | of another topic | the first record: the topic was deleted and recreated |
| any | of another cluster | nowhere: `OffsetsLost`. Topics and tables were copied, and offsets count differently here |
| yes, up to the end | t, or none | c |
| no | none | the first record: the group has not processed this partition yet |
| no | t, with an offset | the offset of the row |
| no | t, without an offset | nowhere: `OffsetsLost`. A person decides, by `ebs offsets reset` |
| beyond the end | t, or none | nowhere: `OffsetsLost`. The broker has lost records |

The end is the smaller of two offsets: where the log ends now, and where the leader epoch of the commit ends. Records
after the second were written after a broker had lost records (`leader_epochs`).

A table may lose its rows, too: its changelog is deleted and recreated, or a broker loses the log. An empty table looks
like a table that was never written. So the first step in each partition writes a note to each changelog, and names the
changelogs in the row above. If a group has processed records and a note is missing, `check_tables` refuses until a
person has decided. Notes have the empty key, which no row has, and never reach a table's store. A changelog that has
lost only its newest rows still has its note, but ends before the end that the commits say (`told_ends`, `check_ends`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app.errors import OffsetsLost
from app.streaming.told_ends import split_ends

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aiokafka import TopicPartition

    from app.kafka.fencing import CommittedOffset

NOTE_KEY = b""
"""The key of the row above, and of the note in the other changelogs; the keys of rows are never empty."""
NOTE = b"worked"
"""The value of a note in the changelogs that do not have the row above."""
_DECIDED = ";t="
_ID_CHARS = 12
"""Of a topic's id: with the sign before it as long as what a worker's commit says of its life, which this one lacks."""
NOT_KEPT = -1
"""The offset in the row of a role that finishes records in any order: only the commit's metadata has them all."""


class OffsetNote(msgspec.Struct, array_like=True, frozen=True):
    """A processed input: the topic's id, the next offset to process (`NOT_KEPT`: not kept), the cluster's id.

    A changelog that has a note is `NOTED`.
    """

    topic_id: str
    offset: int = NOT_KEPT
    cluster_id: str = ""


NOTED = OffsetNote("")

encode_notes = msgspec.msgpack.Encoder().encode
"""Pack the notes of a partition: by topic, inputs and changelogs, an `OffsetNote`."""
_decode_notes = msgspec.msgpack.Decoder(dict[str, OffsetNote]).decode


def decode_notes(data: bytes | None) -> dict[str, OffsetNote]:
    """Return the notes of a partition; none if there is no row."""
    return {} if data is None else _decode_notes(data)


def decided(metadata: str, topic_id: str) -> str:
    """Return the metadata of a commit that a person has asked for, of an offset in the topic of this id."""
    return f"{split_ends(metadata)[0].partition(_DECIDED)[0]}{_DECIDED}{topic_id[:_ID_CHARS]}"


def has_decision(metadata: str) -> bool:
    """Return whether a person has asked for a commit of this metadata, whatever the topic was then."""
    return _DECIDED in metadata


def is_decided(metadata: str, topic_id: str) -> bool:
    """Return whether a person has asked for a commit of this metadata, of an offset in the topic of this id."""
    _, sign, decided_id = metadata.partition(_DECIDED)
    return bool(sign) and topic_id.startswith(decided_id)


class StartingPoint(NamedTuple):
    """The offset and commit metadata to start a partition with; `said` is a message for people."""

    offset: int
    metadata: str
    said: str = ""


def starting_point(
    tp: TopicPartition,
    committed: CommittedOffset,
    note: OffsetNote | None,
    *,
    group_id: str,
    topic_id: str,
    cluster_id: str,
    log: range,
    kept_to: int,
) -> StartingPoint:
    """Return where to start, by the table above; `log` has the offsets that the partition has now.

    Up to `kept_to` the log still has the records that were processed. Raises `OffsetsLost` if it cannot be known which
    records were processed.
    """
    name = f"{tp.topic}-{tp.partition}"
    metadata = committed.metadata.partition(_DECIDED)[0]
    if note is not None and not is_decided(committed.metadata, topic_id):
        if cluster_id and note.cluster_id and note.cluster_id != cluster_id:
            raise OffsetsLost(
                f"{group_id} has processed {tp.topic} on another Kafka cluster ({note.cluster_id}, now {cluster_id}), "
                f"where the records had other offsets: {_decide(group_id, all_partitions=True)}"
            )
        if topic_id and note.topic_id and note.topic_id != topic_id:
            return StartingPoint(
                log.start, "", f"topic {tp.topic} was recreated: {name} is worked from its first record on"
            )
    offset, said = committed.offset, ""
    if offset < 0:
        if note is None:
            return StartingPoint(log.start, "")
        if note.offset == NOT_KEPT:
            raise OffsetsLost(
                f"{group_id} has processed {name}, but its committed offset is gone (a group without members for "
                f"longer than offsets.retention.minutes loses it): {_decide(group_id)}"
            )
        offset, metadata = note.offset, ""
        said = f"the committed offset of {name} is gone; work goes on at offset {offset}, which the table has kept"
    check_kept(tp, offset, kept_to, log.stop, group_id=group_id)
    if offset < log.start:
        said = f"records {offset} to {log.start - 1} of {name} were deleted before they were worked"
        # What counts from a deleted offset would be read as counting from the first one that is left.
        return StartingPoint(log.start, "", said)
    return StartingPoint(offset, metadata, said)


def check_kept(tp: TopicPartition, worked_to: int, kept_to: int, log_end: int, *, group_id: str) -> None:
    """Raise `OffsetsLost` if the log of a partition has lost processed records."""
    if worked_to <= kept_to:
        return
    name = f"{tp.topic}-{tp.partition}"
    now = (
        f"it ends at {log_end}: the broker has lost records, or the topic was recreated"
        if worked_to > log_end
        else f"the broker has lost its records from {kept_to} on, and has others there now, up to {log_end}"
    )
    raise OffsetsLost(f"{group_id} has processed {name} up to offset {worked_to}, but {now}: {_decide(group_id)}")


def check_tables(
    number: int,
    kept: Mapping[str, bytes | None],
    committed: Mapping[str, CommittedOffset],
    *,
    notes_changelog: str,
    group_id: str,
    topic_ids: Mapping[str, str],
) -> dict[str, OffsetNote]:
    """Return the notes of a partition, from its changelogs and the committed offsets of its inputs.

    `kept` has the note of each changelog, or None. Raises `OffsetsLost` if a table has lost its rows and no person has
    decided; after a decision its note counts as not written yet.
    """
    notes = decode_notes(kept[notes_changelog])
    lost = [name for name, note in kept.items() if note is None and (not notes or name in notes)]
    decisions = [is_decided(one.metadata, topic_ids[topic]) for topic, one in committed.items() if one.offset >= 0]
    has_worked = False in decisions or (not decisions and len(lost) < len(kept))
    if lost and has_worked:
        raise OffsetsLost(
            f"{group_id} has processed partition {number}, but the rows of {' and '.join(lost)} are gone (the topic "
            f"was recreated, or the broker has lost its log): {_decide_tables(group_id)}"
        )
    return {name: note for name, note in notes.items() if name not in lost}


def check_ends(number: int, told: Mapping[str, int], ends: Mapping[str, int], *, group_id: str) -> None:
    """Raise `OffsetsLost` if a changelog of a partition, by table, ends before the end that the commits tell."""
    short = {table: ends[table] for table, end in told.items() if ends.get(table, end) < end}
    if short:
        names = " and ".join(f"{group_id}-{table}-changelog" for table in short)
        if any(short.values()):
            lost, why = "newest rows", "the broker has lost the end of its log"
        else:
            lost, why = "rows", "the topic was recreated, or the broker has lost its log"
        raise OffsetsLost(
            f"{group_id} has processed partition {number}, but the {lost} of {names} are gone ({why}): "
            f"{_decide_tables(group_id)}"
        )


def changed_notes(
    known: Mapping[str, OffsetNote], now: Mapping[str, OffsetNote], with_records: Collection[str]
) -> dict[str, OffsetNote] | None:
    """Return a partition's notes after a step that takes some of its topics to `now`; None if no row is needed.

    A topic `with_records` needs one each time, another one (such as a stretch of transaction markers) only its first.
    """
    notes = dict(known)
    for topic, note in now.items():
        before = known.get(topic)
        is_same = before is not None and before.topic_id == note.topic_id and before.cluster_id == note.cluster_id
        if topic in with_records or not is_same:
            notes[topic] = note
    return None if notes == known else notes


def role_of(group_id: str) -> str:
    """Return the role whose group it is, as people read it: `processing`, or `processing gpu` for its queue."""
    return group_id.rpartition("ebs-")[2].replace("-", " ", 1)  # before it stands the namespace


def reset_command(group_id: str) -> str:
    """Return the command that sets the offsets of a group; what is to be done follows."""
    role, _, queue = role_of(group_id).partition(" ")
    return f"ebs offsets reset --role {role}" + (f" --queue {queue}" if queue else "")


def _decide_tables(group_id: str) -> str:
    role, command = role_of(group_id), reset_command(group_id)
    return (
        f"what it would work with empty tables may be wrong. Stop the workers of {role} (those of `ebs up` wait by "
        f"themselves), then run {command} --to committed (goes on without these rows), or make "
        "all tables of the role anew "
        "(docs/how-to/lost-offsets.md)"
    )


def _decide(group_id: str, *, all_partitions: bool = False) -> str:
    role, command = role_of(group_id), reset_command(group_id)
    which = " --all" if all_partitions else ""
    return (
        f"it is not known which records are done. Stop the workers of {role} (those of `ebs up` wait by themselves), "
        f"then run {command}{which} with --to earliest (works all records again), --to latest "
        "(skips them) or, for processing, "
        "--to worked (continues where the events of the tasks say)"
    )
