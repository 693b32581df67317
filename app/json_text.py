"""JSON values that travel as they were written (`msgspec.Raw`): nothing on the way decodes or changes them.

So a number keeps all its digits, and an object its order. A repeated key stands there twice; readers take the last one.
"""

from __future__ import annotations

import re

import msgspec

NULL = msgspec.Raw(b"null")

MAX_LEVELS = 500
"""How deep a value may be nested. Python 3.11 reads 1,000 levels less its own stack, later ones some thousands: what
one of them has written must be readable on all."""
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
"""A string, which may hold brackets, and the brackets that count."""

decode = msgspec.json.Decoder().decode
"""Turn a value into what Python has for it."""
encode_by_value = msgspec.json.Encoder(order="sorted").encode
"""Turn what `decode` returns into the same bytes for equal values: no order of keys, blanks or escapes differ then."""


def check(value: msgspec.Raw) -> None:
    """Raise msgspec's `DecodeError` if a reader could not decode a value: who skips it does not look at all of it."""
    if len(value) > MAX_LEVELS:
        check_levels(bytes(value))
    try:
        decode(value)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is not UTF-8 ({error})") from None


def check_levels(encoded: bytes) -> None:
    """Raise msgspec's `DecodeError` for a value that is nested too deeply."""
    if encoded.count(b"[") + encoded.count(b"{") > MAX_LEVELS and _depth_of(encoded) > MAX_LEVELS:
        raise msgspec.DecodeError(f"it is nested deeper than {MAX_LEVELS} levels")


def compact(value: msgspec.Raw) -> msgspec.Raw:
    """Return a value without the blanks and line ends between its parts, which a line of NDJSON cannot hold."""
    return msgspec.Raw(msgspec.json.format(bytes(value), indent=-1))


def _depth_of(encoded: bytes) -> int:
    depth = deepest = 0
    for token in _TOKENS.findall(encoded):
        if token in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest
