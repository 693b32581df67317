"""How fresh a reader's knowledge is, also while it never quite catches up."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

_MAX_SAMPLES = 64


class _Sample(NamedTuple):
    end: int
    heard_at_ms: int


class Freshness:
    """The last instant at which a reader had all records of one partition (epoch ms; None: not known yet).

    With each fetch the broker says where the partition ended at that moment. When the reader has read up to this end,
    it has all records of that moment, however many came later. Under load there are always more records to read, which
    would otherwise look like a view that falls behind.
    """

    def __init__(self) -> None:
        self.as_of_ms: int | None = None
        self._samples: deque[_Sample] = deque()

    def note(self, position: int, end: int, heard_at_ms: int) -> None:
        """Take in the next offset to read, and what the broker said last."""
        samples = self._samples
        if not samples or samples[-1].heard_at_ms != heard_at_ms:
            if len(samples) == _MAX_SAMPLES:
                # Coarser from here on: a reader that is far behind does not need milliseconds.
                self._samples = samples = deque(list(samples)[::2])
            samples.append(_Sample(end, heard_at_ms))
        while samples and samples[0].end <= position:
            self.as_of_ms = samples.popleft().heard_at_ms
