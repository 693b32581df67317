"""Dead letters as the view knows them: one by its id, all newest first page by page, and their groups.

Nothing is kept in memory. Long scans let other requests run: after a number of rows they yield to the event loop, then
seek to their position again, because no iterator may outlive the store.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from api.view.dead_letter_rows import (
    GROUP_PREFIX,
    ID_BYTES,
    LETTER_PREFIX,
    SUMMARY_PREFIX,
    TIME_BYTES,
    TIME_PREFIX,
    group_prefix,
    id_bytes,
    id_of,
    order_prefix,
    time_bytes,
)
from api.view.dead_letter_summaries import Group, LetterSummary, decode_group, decode_summary
from api.view.redrive_runs import RedriveRuns
from app.rules.letter_acts import LetterId, LetterState, parse_letter_id
from app.rules.redrive import DeadLetterRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.view.store import ViewStore
    from app.rules.letter_filter import LetterFilter

_ROWS_A_TURN = 500
"""About 5 ms: longer would make other requests wait."""
_MAX_TIME_DIGITS = 15
_decode_letter = msgspec.msgpack.decode


class LetterPosition(NamedTuple):
    """The position of a letter in the order of all letters: newest first, then by id."""

    at_ms: int
    letter_id: LetterId


class ListedLetter(NamedTuple):
    """A letter in a list."""

    letter_id: LetterId
    summary: LetterSummary


class Groups(NamedTuple):
    """A fingerprint's letters of all kinds and topics: `counts` by state, `kinds` by kind, the latest error."""

    fingerprint: str
    counts: dict[LetterState, int]
    kinds: dict[str, int]
    topics: dict[str, int]
    first_at_ms: int
    last_at_ms: int
    error_type: str
    message: str


class DeadLetters:
    """Reads dead letters from the store that `opened` returns; without a store `opened` raises `ViewBehind`."""

    def __init__(self, opened: Callable[[], ViewStore]) -> None:
        self._opened = opened
        self.runs = RedriveRuns()

    def summary(self, letter_id: LetterId) -> LetterSummary | None:
        """Return a letter, None if no letter has this id."""
        row = self._opened().get(SUMMARY_PREFIX + id_bytes(letter_id))
        return None if row is None else decode_summary(row)

    def letter(self, letter_id: LetterId) -> DeadLetterRecord:
        """Return a letter that has a summary, as it came."""
        _, key, value, headers = _decode_letter(self._opened().get(LETTER_PREFIX + id_bytes(letter_id)))
        return DeadLetterRecord(key, value, [(name, text) for name, text in headers])

    def turn(
        self, wanted: LetterFilter, after: LetterPosition | None = None, row_count: int = _ROWS_A_TURN
    ) -> tuple[list[ListedLetter], LetterPosition | None]:
        """Read the next rows after a position, newest first.

        Returns the letters that match, and the position to continue from; None at the end.
        """
        prefix = TIME_PREFIX if wanted.fingerprint is None else order_prefix(wanted.fingerprint)
        before = b"" if wanted.before_ms is None else prefix + time_bytes(wanted.before_ms)
        if after is not None:
            position = prefix + time_bytes(after.at_ms) + id_bytes(after.letter_id)
            before = min(before, position) if before else position
        found: list[ListedLetter] = []
        keys = [key for key, _ in islice(self._opened().newest_first(prefix, before), row_count)]
        for key in keys:
            letter_id = id_of(key[-ID_BYTES:])
            summary = self.summary(letter_id)
            assert summary is not None  # written together with the key
            if wanted.since_ms is not None and summary.at_ms < wanted.since_ms:
                return found, None
            if wanted.takes(summary):
                found.append(ListedLetter(letter_id, summary))
        return found, _position_of(keys[-1]) if len(keys) == row_count else None

    async def page(
        self, wanted: LetterFilter, limit: int, after: LetterPosition | None = None
    ) -> tuple[list[ListedLetter], LetterPosition | None]:
        """Return at most `limit` letters after a position, and the position to continue from if there are more."""
        found: list[ListedLetter] = []
        position = after
        row_count = min(limit + 1, _ROWS_A_TURN)
        while True:
            more, position = self.turn(wanted, position, row_count)
            row_count = _ROWS_A_TURN
            found += more
            if len(found) > limit:
                last = found[limit - 1]
                return found[:limit], LetterPosition(last.summary.at_ms, last.letter_id)
            if position is None:
                return found, None
            await asyncio.sleep(0)

    async def groups(self, wanted: LetterFilter, limit: int) -> list[Groups]:
        """Return at most `limit` groups that have matching letters; the group that grew last comes first.

        If only some letters of a group are in the time range, the whole group matches: its counts include all letters.
        """
        prefix = GROUP_PREFIX if wanted.fingerprint is None else group_prefix(wanted.fingerprint)
        newest: list[tuple[int, str, Groups]] = []
        current: Groups | None = None
        before = b""
        while True:
            rows = list(islice(self._opened().newest_first(prefix, before), _ROWS_A_TURN))
            for _, row in rows:
                group = decode_group(row)
                if not wanted.takes_group(group):
                    continue
                if current is not None and current.fingerprint != group.fingerprint:
                    _keep(newest, current, limit)
                    current = None
                current = _added(current, group, wanted.state)
            if len(rows) < _ROWS_A_TURN:
                break
            before = rows[-1][0]
            await asyncio.sleep(0)
        if current is not None:
            _keep(newest, current, limit)
        return [groups for _, _, groups in sorted(newest, reverse=True)]


def position_text(position: LetterPosition) -> str:
    """Return a position as clients send it back."""
    return f"{position.at_ms}-{position.letter_id}"


def parse_position(text: str) -> LetterPosition | None:
    """Undo `position_text`; None for any other text."""
    at_ms, _, letter_id = text.partition("-")
    parsed = parse_letter_id(letter_id)
    if parsed is None or not (at_ms.isascii() and at_ms.isdecimal() and len(at_ms) <= _MAX_TIME_DIGITS):
        return None
    return LetterPosition(int(at_ms), parsed)


def _position_of(key: bytes) -> LetterPosition:
    return LetterPosition(int.from_bytes(key[-TIME_BYTES - ID_BYTES : -ID_BYTES], "big"), id_of(key[-ID_BYTES:]))


def _added(groups: Groups | None, group: Group, state: LetterState | None) -> Groups:
    """Return a fingerprint's letters with one more row of them; `state`: only those count."""
    if groups is None:
        groups = Groups(group.fingerprint, {}, {}, {}, group.first_at_ms, 0, "", "")
    counts = {one: count for one, count in group.counts.items() if count and state in {None, one}}
    for one, count in counts.items():
        groups.counts[one] = groups.counts.get(one, 0) + count
    count = sum(counts.values())
    if not count:
        return groups
    groups.kinds[group.kind] = groups.kinds.get(group.kind, 0) + count
    groups.topics[group.topic] = groups.topics.get(group.topic, 0) + count
    latest: dict[str, Any] = {}
    if group.last_at_ms >= groups.last_at_ms:
        latest = {"last_at_ms": group.last_at_ms, "error_type": group.error_type, "message": group.message}
    return groups._replace(first_at_ms=min(groups.first_at_ms, group.first_at_ms), **latest)


def _keep(newest: list[tuple[int, str, Groups]], groups: Groups, limit: int) -> None:
    """Keep a group if it is among the `limit` newest: a heap, because there may be as many groups as letters."""
    if not groups.counts:
        return
    entry = (groups.last_at_ms, groups.fingerprint, groups)
    if len(newest) < limit:
        heapq.heappush(newest, entry)
    else:
        heapq.heappushpop(newest, entry)
