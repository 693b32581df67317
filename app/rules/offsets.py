"""Which records of a partition are done, when they finish in any order; and how that fits into an offset commit.

The committed offset is the watermark, the lowest offset that is not finished. What is finished or started above it goes
into the commit's metadata, so that after a crash exactly the unfinished tasks run again, and none says TASK_STARTED
twice. (Confluent's Parallel Consumer keeps finished offsets there too.)

Encoding: "1:" and base64 of run lengths from the watermark on; each run is a varint of length * 4 + state. Everything
beyond the last run is untouched. Kafka allows 4,096 bytes of metadata (`offset.metadata.max.bytes`).
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections import deque

MAX_METADATA_BYTES = 4_096

_FORMAT = "1:"
_MAX_PACKED_BYTES = (MAX_METADATA_BYTES - len(_FORMAT)) // 4 * 3
_WAITING, _STARTED, _FINISHED = 0, 1, 2
_COMPACT_SLACK = 1_024


class Progress:
    """The offsets of one partition that were taken, started and finished.

    Memory grows with the offsets that are open, not with those that are done: one task may hold the watermark for an
    hour while millions finish above it.
    """

    __slots__ = ("_earlier", "_heads", "_open", "taken_to")

    def __init__(self, watermark: int, metadata: str = "") -> None:
        """Begin at a committed offset, with the metadata that was committed beside it."""
        self.taken_to = watermark
        self._earlier = _Runs(watermark, metadata)
        self._open: dict[int, bool] = {}
        # Open offsets in order, some of them finished by now: its first open one is the watermark.
        self._heads: deque[int] = deque()

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

    def take(self, offset: int) -> bool:
        """Take the next offset, in order; returns False if it was finished in an earlier life and needs no work."""
        self.taken_to = offset + 1
        state = self._earlier.state_of(offset)
        if state == _FINISHED:
            return False
        self._open[offset] = state == _STARTED
        self._heads.append(offset)
        if len(self._heads) > 2 * len(self._open) + _COMPACT_SLACK:
            self._heads = deque(self._open)
        return True

    def take_to(self, end: int) -> None:
        """Note that there is no further record below `end` (transaction markers take offsets too)."""
        self.taken_to = max(self.taken_to, end)

    def start(self, offset: int) -> bool:
        """Note that work on an offset begins; returns False if it had begun, and said so, in an earlier life."""
        if self._open[offset]:
            return False
        self._open[offset] = True
        return True

    def finish(self, offset: int) -> None:
        """Note that an offset is done for good."""
        del self._open[offset]

    def encode(self) -> str | None:
        """Return the metadata to commit beside the watermark; None if it does not fit (take no more, then)."""
        packed = bytearray()
        position = self.watermark
        run_state, run_length = _STARTED, 0
        pending: list[tuple[int, int]] = []
        for offset, started in self._open.items():
            state = _STARTED if started else _WAITING
            if offset > position:
                if run_length:
                    pending.append((run_state, run_length))
                pending.append((_FINISHED, offset - position))
                run_length = 0
            elif run_length and state != run_state:
                pending.append((run_state, run_length))
                run_length = 0
            run_state, run_length = state, run_length + 1
            position = offset + 1
        if run_length:
            pending.append((run_state, run_length))
        if position < self.taken_to and self._open:
            pending.append((_FINISHED, self.taken_to - position))
        while pending and pending[-1][0] == _WAITING:
            pending.pop()
        for state, length in pending:
            _append_varint(packed, length * 4 + state)
        if len(packed) > _MAX_PACKED_BYTES:
            return None
        return _FORMAT + base64.b64encode(packed).decode() if packed else ""


class _Runs:
    """What an earlier life left above its watermark, to be asked in any order."""

    __slots__ = ("_ends", "_states")

    def __init__(self, watermark: int, metadata: str) -> None:
        self._ends: list[int] = []
        self._states: list[int] = []
        end = watermark
        for number in _read_varints(metadata):
            end += number // 4
            self._ends.append(end)
            self._states.append(number % 4)

    def state_of(self, offset: int) -> int:
        if not self._ends or offset >= self._ends[-1]:
            return _WAITING
        return self._states[bisect_right(self._ends, offset)]


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
