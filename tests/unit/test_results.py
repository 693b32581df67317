"""What handlers return, as JSON within its limit."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import msgspec
import pytest

from agents.execution.results import encode_result
from app.json_text import MAX_LEVELS
from ebs import Reject


def nested(levels: int) -> Any:
    """Return a list in a list, and so on."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, b"null"),
        ({"words": 3, "of": ["a", 1.5, True, None]}, b'{"words":3,"of":["a",1.5,true,null]}'),
        ("größer", '"größer"'.encode()),
        (dt.date(2026, 11, 24), b'"2026-11-24"'),
        (float("nan"), b"null"),
        (msgspec.Raw(b'{"made": 1}'), b'{"made": 1}'),
    ],
)
def test_a_result_becomes_json(value: object, encoded: bytes) -> None:
    """What msgspec can write is a result; JSON that is ready is taken as it is."""
    assert encoded == bytes(encode_result(value, 100))


def test_the_limit_counts_bytes_and_includes_its_end() -> None:
    """A letter of two bytes counts two, the quotes count too."""
    assert '"ää"'.encode() == bytes(encode_result("ää", 6))
    with pytest.raises(Reject) as caught:
        encode_result("ää", 5)
    assert (
        "the result has 6 bytes of JSON, at most 5 are kept: return less, or raise EBS_MAX_RESULT_BYTES or the "
        "function's max_result_bytes" == caught.value.reason
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "the result, of type object, is not JSON: object has no form in JSON: use dicts, lists"),
        ({(1, 2): 3}, "the result, of type dict, is not JSON: the keys of a dict are texts or numbers"),
        ("\ud800", "the result, of type str, is not JSON: 'utf-8' codec can't encode"),
        ([msgspec.Raw(b"x")], "the result, of type list, is not JSON: JSON is malformed"),
        (msgspec.Raw(b"{"), "the result, of type Raw, is not JSON: Input data was truncated"),
        (msgspec.Raw(b"1],[2"), "the result, of type Raw, is not JSON: JSON is malformed"),
        (msgspec.Raw(b'"\xff"'), "the result, of type Raw, is not JSON: 'utf-8' codec can't decode"),
    ],
)
def test_what_is_no_json_is_rejected_with_the_reason(value: object, words: str) -> None:
    """No retry: the same handler would return the same again."""
    with pytest.raises(Reject) as caught:
        encode_result(value, 1_000)
    assert caught.value.reason.startswith(words)


@pytest.mark.parametrize("levels", [MAX_LEVELS + 1, 3_000])
def test_a_result_that_readers_could_not_decode_is_rejected(levels: int) -> None:
    """Pythons differ in how deep they read; what is written on one must be readable on all. Text is no nesting."""
    text = '"[{' * MAX_LEVELS
    encode_result([nested(MAX_LEVELS - 2), text], 100_000)
    with pytest.raises(Reject, match=f"nested deeper than {MAX_LEVELS} levels|maximum recursion depth"):
        encode_result(nested(levels), 100_000)
    ready = msgspec.Raw(b"[" * levels + b"]" * levels)
    with pytest.raises(Reject, match=f"nested deeper than {MAX_LEVELS} levels"):
        encode_result(ready, 100_000)


@pytest.mark.filterwarnings("error")
def test_a_coroutine_is_closed_and_its_cure_named() -> None:
    """A plain function that returns a coroutine was meant to be `async def`; Python's warning would come much later."""

    async def work() -> None:
        await asyncio.sleep(0)

    with pytest.raises(Reject, match=r"of type coroutine, is not JSON: write the handler as `async def`"):
        encode_result(work(), 1_000)
