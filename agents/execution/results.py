"""What a handler returned, as JSON."""

from __future__ import annotations

import inspect
import re

import msgspec

from ebs.errors import Reject

NULL = msgspec.Raw(b"null")

MAX_LEVELS = 500
"""How deep a result may be nested. Python 3.11 reads 1,000 levels less its own stack, later ones some thousands: what a
worker writes on one of them must be readable on all."""
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
"""A string, which may hold brackets, and the brackets that count."""

_encode = msgspec.json.Encoder().encode
_skim = msgspec.json.Decoder(msgspec.Raw).decode


def encode_result(value: object, limit_bytes: int) -> msgspec.Raw:
    """Return a handler's result as JSON of at most `limit_bytes`; raises `Reject` if it cannot be that.

    Dates, UUIDs, dataclasses and msgspec structs become what msgspec makes of them, NaN becomes null.
    """
    if value is None:
        return NULL
    try:
        encoded = _encode(value)
        if len(encoded) <= limit_bytes:
            _check(encoded)
    except Exception as error:
        if inspect.iscoroutine(value):
            value.close()  # nobody will await it, and Python would warn of that later
        hint = ": write the handler as `async def`" if inspect.isawaitable(value) else ""
        raise Reject(f"the result, of type {type(value).__name__}, is not JSON: {error}{hint}") from error
    if len(encoded) > limit_bytes:
        raise Reject(
            f"the result has {len(encoded)} bytes of JSON, at most {limit_bytes} are kept: "
            "return less, or raise EBS_MAX_RESULT_BYTES or the function's max_result_bytes"
        )
    return msgspec.Raw(encoded)


def _check(encoded: bytes) -> None:
    """Raise if readers could not decode the result: ready-made JSON (`msgspec.Raw`) is copied without a look at it."""
    if encoded.count(b"[") + encoded.count(b"{") > MAX_LEVELS and _depth_of(encoded) > MAX_LEVELS:
        raise ValueError(f"it is nested deeper than {MAX_LEVELS} levels")
    _skim(encoded)
    if not encoded.isascii():
        encoded.decode()


def _depth_of(encoded: bytes) -> int:
    depth = deepest = 0
    for token in _TOKENS.findall(encoded):
        if token in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest
