"""Counts the items of a JSON array while it comes in, so that an array with too many items is never decoded.

A decoded item takes far more memory than its bytes: 40 MB of `[0,0,0,...]` were 2.9 GB, and eight seconds.
"""

from __future__ import annotations

import re

_SLICE_BYTES = 65_536
_PASSES = 3
"""After which what is nested more deeply is counted bracket by bracket."""

_MAX_DEPTH = 10_000
"""No decoder goes so deep: it will refuse the body, and counting on would only take time."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
"""Possessive, so that nothing is read twice."""
_FLAT = re.compile(rb"[\[{],*+[\]}]")
_STRUCTURE = b'"[]{},'
_OTHERS = bytes(set(range(256)) - set(_STRUCTURE))
_DEPTH_CHANGE = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class ArrayCount:
    """Counts the commas of the outermost array, piece by piece; what is no JSON is left to the decoder.

    `at_least` is the number of items so far; it is exact for JSON that has come to its end, if the array is not empty.
    """

    def __init__(self) -> None:
        self.at_least = 1
        self._depth = 0
        self._cut = b""

    def feed(self, data: bytes, most: int) -> bool:
        """Take in the next piece; returns False as soon as there are more than `most` items."""
        for at in range(0, len(data), _SLICE_BYTES):
            if self._depth > _MAX_DEPTH:
                break
            self._take(self._cut + data[at : at + _SLICE_BYTES])
            if self.at_least > most:
                return False
        return True

    def _take(self, data: bytes) -> None:
        """Take in a piece that begins outside of strings, or with the quote of one that began before."""
        cut_escape = (len(data) - len(data.rstrip(b"\\"))) % 2
        # One more quote ends the string that is cut here, or is left over where none is.
        structure = _STRING.sub(b"", data[: len(data) - cut_escape] + b'"').translate(None, _OTHERS)
        self._cut = b""
        if structure.endswith(b'"'):
            structure = structure[:-1]
        else:
            self._cut = b'"\\' if cut_escape else b'"'
        if not self._depth:
            # The array's own bracket stays out of what follows: it must not be taken for one that holds no items.
            self._depth = int(bool(structure))
            structure = structure[1:]
        for _ in range(_PASSES):
            structure = _FLAT.sub(b"", structure)
        depth = self._depth
        for one in structure:
            change = _DEPTH_CHANGE.get(one, 0)
            depth += change
            if depth == 1 and not change:
                self.at_least += 1
        # What comes behind the array's end is no JSON.
        self._depth = self._depth and max(depth, 1)
