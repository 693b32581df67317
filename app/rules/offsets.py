"""Which records of a partition are done, when they finish in any order; and how that fits into an offset commit.

The committed offset is the watermark, the lowest offset that is not finished. What is finished or started above it goes
into the commit's metadata, so that after a crash exactly the unfinished tasks run again, and none says TASK_STARTED
twice. (Confluent's Parallel Consumer keeps finished offsets there too.)

Encoding: "1:" and base64 of run lengths from the watermark on; each run is a varint of length * 4 + state. Everything
beyond the last run is untouched. Kafka allows 4,096 bytes of metadata (`offset.metadata.max.bytes`); `owner_lives`
and the ends of changelogs have the last few.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING

from app.rules.owner_lives import MAX_LIFE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_METADATA_BYTES = 4_096
MAX_ENDS_BYTES = 60
"""Of what each commit says of the changelogs of the worker's two tables (`app.streaming.told_ends`)."""

_FORMAT = "1:"
_MAX_PACKED_BYTES = (MAX_METADATA_BYTES - len(_FORMAT) - MAX_LIFE_BYTES - MAX_ENDS_BYTES) // 4 * 3
_WAITING, _STARTED, _FINISHED = 0, 1, 2
_COMPACT_SLACK = 1_024


class PartitionProgress:
    """The offsets of one partition that were taken, started and finished.

    Memory grows with the offsets that are open, not with those that are done: one task may hold the watermark for an
    hour while millions finish above it.
    """

    __slots__ = ("_earlier", "_heads", "_open", "_record_end", "_touched_to", "taken_to")

    def __init__(self, watermark: int, metadata: str = "") -> None:
        """Begin at a committed offset, with the metadata that was committed beside it."""
        self.taken_to = watermark
        self._earlier = _Runs(watermark, metadata)
        # By offset: 1 if it was started, plus twice the offsets before it that hold no record.
        self._open: dict[int, int] = {}
        # Open offsets in order, some of them finished by now: its first open one is the watermark.
        self._heads: deque[int] = deque()
        self._record_end = watermark
        self._touched_to = watermark

    @property
    def watermark(self) -> int:
        """The lowest offset that is not finished: what to commit."""
        heads, still_open = self._heads, self._open
        while heads and heads[0] not in still_open:
            heads.popleft()
        return heads[0] if heads else self.taken_to

    @property
    def open_count(self) -> int:
        """How many offsets were taken and are not finished."""
        return len(self._open)

    @property
    def known_to(self) -> int:
        """The end of what an earlier life told; to start an offset below it makes the metadata no longer."""
        return self._earlier.end

    def take(self, offset: int) -> bool:
        """Take the next offset, in order; returns False if it was finished in an earlier life and needs no work."""
        gap = offset - self._record_end
        self.taken_to = self._record_end = offset + 1
        state = self._earlier.state_of(offset)
        if state == _FINISHED:
            self._touched_to = offset + 1
            return False
        self._open[offset] = gap << 1 | (state == _STARTED)
        if state == _STARTED:
            self._touched_to = offset + 1
        self._heads.append(offset)
        if len(self._heads) > 2 * len(self._open) + _COMPACT_SLACK:
            self._heads = deque(self._open)
        return True

    def take_to(self, end: int) -> None:
        """Note that there is no further record below `end` (transaction markers take offsets too)."""
        self.taken_to = max(self.taken_to, end)

    def start(self, offset: int) -> bool:
        """Note that work on an offset begins; returns False if it had begun, and said so, in an earlier life."""
        note = self._open[offset]
        if note & 1:
            return False
        self._open[offset] = note | 1
        if offset >= self._touched_to:
            self._touched_to = offset + 1
        return True

    def has_started(self, offset: int) -> bool:
        """Return whether work on an offset has begun."""
        return bool(self._open[offset] & 1)

    def finish(self, offset: int) -> None:
        """Note that an offset is done for good."""
        del self._open[offset]
        if offset >= self._touched_to:
            self._touched_to = offset + 1

    def encode(self) -> str | None:
        """Return the metadata to commit beside the watermark; None if it does not fit (take no more, then)."""
        runs = _RunWriter(self.watermark)
        rest = _FINISHED
        for offset, note in self._open.items():
            if offset >= self._touched_to:
                runs.extend(_FINISHED, self._touched_to)
                rest = _WAITING
                break
            # A gap goes with the record behind it: as a run of its own, each transaction marker would cost two bytes.
            runs.extend(_FINISHED, offset - (note >> 1))
            runs.extend(note & 1, offset + 1)
        if self._open:
            runs.extend(rest, self._record_end)
        # What the earlier life told of records that have not come again yet must outlive this one too.
        for state, end in self._earlier.pairs():
            runs.extend(state, end)
        packed = runs.pack()
        if len(packed) > _MAX_PACKED_BYTES:
            return None
        return _FORMAT + base64.b64encode(packed).decode() if packed else ""


class _RunWriter:
    """Runs from a first offset on, neighbours of one state joined."""

    __slots__ = ("_lengths", "_position", "_states")

    def __init__(self, position: int) -> None:
        self._position = position
        self._states: list[int] = []
        self._lengths: list[int] = []

    def extend(self, state: int, end: int) -> None:
        """Add what lies between the end of the last run and `end`, if anything."""
        length = end - self._position
        if length <= 0:
            return
        self._position = end
        if self._states and self._states[-1] == state:
            self._lengths[-1] += length
        else:
            self._states.append(state)
            self._lengths.append(length)

    def pack(self) -> bytearray:
        packed = bytearray()
        states, lengths = self._states, self._lengths
        if states and states[-1] == _WAITING:
            states.pop()
        for state, length in zip(states, lengths, strict=False):
            _append_varint(packed, length * 4 + state)
        return packed


class _Runs:
    """What an earlier life left above its watermark, to be asked in any order."""

    __slots__ = ("_ends", "_states", "end")

    def __init__(self, watermark: int, metadata: str) -> None:
        self._ends: list[int] = []
        self._states: list[int] = []
        self.end = watermark
        for number in _read_varints(metadata):
            self.end += number // 4
            self._ends.append(self.end)
            self._states.append(number % 4)

    def state_of(self, offset: int) -> int:
        if offset >= self.end:
            return _WAITING
        return self._states[bisect_right(self._ends, offset)]

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Return the runs as state and end."""
        return zip(self._states, self._ends, strict=True)


def _append_varint(packed: bytearray, number: int) -> None:
    while number > 0x7F:
        packed.append(number & 0x7F | 0x80)
        number >>= 7
    packed.append(number)


def _read_varints(metadata: str) -> list[int]:
    """Return the numbers of a metadata text; nothing of one that is not ours (a tool may have reset the offsets)."""
    if not metadata.startswith(_FORMAT):
        return []
    try:
        packed = base64.b64decode(metadata[len(_FORMAT) :], validate=True)
    except (binascii.Error, ValueError):
        return []
    numbers, number, shift = [], 0, 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number, shift = 0, 0
    return numbers
