"""How records of `dead-letters` become rows: the letters, the keys to find them, and their groups by fingerprint.

Keys begin with `D`, except for `d` (numbers are big-endian, so byte order is order of time):

    d  partition, offset                            the letter as it came (its own top-level prefix)
    Ds partition, offset                            its summary and what was done to it
    Dt time, partition, offset                      nothing: the order of all letters
    Df fingerprint, time, partition, offset         nothing: the order of one group's letters
    Dg fingerprint, kind, topic                     counts of letters by state, first and last time, a sample
    Dr id of a redrive by filter                    its progress, as on the topic

All rows are written in the batch that also writes the view's offsets, so each letter and each act counts once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from api.view.dead_letter_summaries import Group, LetterSummary, SummarizedAct, decode_group, decode_summary, summary_of
from app.errors import Unreadable
from app.kafka.unreadable import UnreadableRecord
from app.rules.dead_letters import ERROR_TYPE_HEADER, MESSAGE_HEADER
from app.rules.letter_acts import LetterId, LetterState, is_act, read_act, state_after
from app.rules.redrive_runs import is_run_progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from api.view.redrive_runs import RedriveRuns
    from app.names import Names
    from app.rules.letter_acts import LetterAct

LETTER_PREFIX = b"d"
SUMMARY_PREFIX = b"Ds"
TIME_PREFIX = b"Dt"
_GROUP_ORDER_PREFIX = b"Df"
GROUP_PREFIX = b"Dg"

ID_BYTES = 12
_PARTITION_BYTES = 4
_OFFSET_BYTES = 8
TIME_BYTES = 8
_MAX_ACTS = 8
_UNREADABLE = f"{Unreadable.__module__}.{Unreadable.__qualname__}".encode()
"""What became of a letter that somebody else wrote, or that was damaged."""

_encode = msgspec.msgpack.Encoder().encode


class DeadLetterRows:
    """Takes in the records of one write of the view; `get` reads what earlier writes left."""

    def __init__(self, get: Callable[[bytes], bytes | None], batch: Any, runs: RedriveRuns, names: Names) -> None:
        self._names = names
        self._get = get
        self._batch = batch
        self._runs = runs
        self._summaries: dict[bytes, LetterSummary] = {}
        self._groups: dict[bytes, Group] = {}

    def add(self, partition: int, records: Sequence[Any]) -> None:
        """Take in records of a partition in the order of their offsets."""
        for record in records:
            # A header may have no value at all, from a producer that is not ours.
            headers = {name: value or b"" for name, value in record.headers}
            if is_act(headers) and is_run_progress(headers):
                self._runs.add(self._batch, record.value)
            elif is_act(headers):
                self._add_act(partition, read_act(record.key, record.value, headers))
            else:
                self._add_letter(LetterId(partition, record.offset), record, headers)

    def finish(self) -> None:
        """Put what came together into the batch."""
        put = self._batch.put
        for row_id, summary in self._summaries.items():
            put(SUMMARY_PREFIX + row_id, _encode(summary))
        for key, group in self._groups.items():
            put(key, _encode(group))

    def _add_letter(self, letter_id: LetterId, record: Any, headers: Mapping[str, bytes]) -> None:
        value, told = record.value, record.headers
        if isinstance(record, UnreadableRecord):
            value = record.raw
            told = ((ERROR_TYPE_HEADER, _UNREADABLE), (MESSAGE_HEADER, str(record.error).encode()), *told)
            headers = {name: text or b"" for name, text in told}
        kept = (record.timestamp, record.key, value, [(name, text or b"") for name, text in told])
        row_id = id_bytes(letter_id)
        summary = self._summaries[row_id] = summary_of(record.timestamp, value, headers, self._names)
        put = self._batch.put
        put(LETTER_PREFIX + row_id, _encode(kept))
        put(TIME_PREFIX + time_bytes(summary.at_ms) + row_id, b"")
        put(order_prefix(summary.fingerprint) + time_bytes(summary.at_ms) + row_id, b"")
        group = self._group_of(summary)
        group.counts[LetterState.DEAD] = group.counts.get(LetterState.DEAD, 0) + 1
        group.first_at_ms = min(group.first_at_ms, summary.at_ms)
        if summary.at_ms >= group.last_at_ms:
            group.last_at_ms = summary.at_ms
            group.error_type, group.message = summary.error_type, summary.message

    def _add_act(self, partition: int, told: tuple[LetterId, LetterState, LetterAct] | None) -> None:
        if told is None or told[0].partition != partition:
            return
        letter_id, done, act = told
        row_id = id_bytes(letter_id)
        summary = self._summaries.get(row_id)
        if summary is None:
            row = self._get(SUMMARY_PREFIX + row_id)
            if row is None:
                return  # of a letter that never was
            summary = self._summaries[row_id] = decode_summary(row)
        if len(summary.acts) < _MAX_ACTS:
            summary.acts.append(SummarizedAct(done, act.at_ms, act.by, act.reason, act.redrive, act.id))
        counts = self._group_of(summary).counts
        counts[summary.state] = counts.get(summary.state, 0) - 1
        summary.state = state_after(summary.state, done)
        counts[summary.state] = counts.get(summary.state, 0) + 1

    def _group_of(self, summary: LetterSummary) -> Group:
        key = group_prefix(summary.fingerprint) + f"{summary.kind}\0{summary.topic}".encode()
        group = self._groups.get(key)
        if group is None:
            row = self._get(key)
            if row is None:
                group = Group(summary.fingerprint, summary.kind, summary.topic, {}, summary.at_ms, 0, "", "")
            else:
                group = decode_group(row)
            self._groups[key] = group
        return group


def id_bytes(letter_id: LetterId) -> bytes:
    """Return a letter's id as it is written in keys."""
    return letter_id.partition.to_bytes(_PARTITION_BYTES, "big") + letter_id.offset.to_bytes(_OFFSET_BYTES, "big")


def id_of(row_id: bytes) -> LetterId:
    """Undo `id_bytes`."""
    return LetterId(int.from_bytes(row_id[:_PARTITION_BYTES], "big"), int.from_bytes(row_id[_PARTITION_BYTES:], "big"))


def time_bytes(at_ms: int) -> bytes:
    """Return an instant as it is written in keys."""
    return at_ms.to_bytes(TIME_BYTES, "big")


def order_prefix(of_fingerprint: str) -> bytes:
    """Return how the keys begin that order one group's letters."""
    return _GROUP_ORDER_PREFIX + of_fingerprint.encode()


def group_prefix(of_fingerprint: str) -> bytes:
    """Return how the keys of one group's counts begin."""
    return GROUP_PREFIX + of_fingerprint.encode()
