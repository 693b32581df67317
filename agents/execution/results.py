"""The result of a handler, as JSON."""

from __future__ import annotations

import inspect

import msgspec

from app.json_text import NULL, check_levels
from ebs.encoding import encode_json
from ebs.errors import Reject

_skim = msgspec.json.Decoder(msgspec.Raw).decode


def encode_result(value: object, limit_bytes: int) -> msgspec.Raw:
    """Return a handler's result as JSON of at most `limit_bytes`; raises `Reject` if it cannot be that.

    Dates, UUIDs, dataclasses, msgspec structs and pydantic models become what `ebs.encoding` makes of them, NaN becomes
    null.
    """
    if value is None:
        return NULL
    try:
        encoded = encode_json(value)
        if len(encoded) <= limit_bytes:
            _check(encoded)
    except Exception as error:
        if inspect.iscoroutine(value):
            value.close()  # nobody will await it, and Python would warn of that later
        why = "write the handler as `async def`" if inspect.isawaitable(value) else error
        raise Reject(f"the result, of type {type(value).__name__}, is not JSON: {why}") from error
    if len(encoded) > limit_bytes:
        raise Reject(
            f"the result has {len(encoded)} bytes of JSON, at most {limit_bytes} are kept: "
            "return less, or raise EBS_MAX_RESULT_BYTES or the function's max_result_bytes"
        )
    return msgspec.Raw(encoded)


def _check(encoded: bytes) -> None:
    """Raise if readers could not decode the result: ready-made JSON (`msgspec.Raw`) is copied without a look at it."""
    check_levels(encoded)
    _skim(encoded)
    if not encoded.isascii():
        encoded.decode()
