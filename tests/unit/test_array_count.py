"""Counting the items of a JSON array while it comes in."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.submit.array_count import ArrayCount

MANY = 1_000_000
TEXTS = st.text(st.sampled_from('a"\\,[]{}\n\u00e4\u2028'), max_size=8)
VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def count_of(body: bytes, size: int = MANY, most: int = MANY) -> int:
    """Return the count after the whole body, in pieces of a size."""
    count = ArrayCount()
    for at in range(0, len(body), size):
        if not count.feed(body[at : at + size], most):
            break
    return count.at_least


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=6), st.integers(1, 9), st.booleans(), st.sampled_from([None, 1]))
def test_count_is_that_of_the_items_wherever_the_body_is_cut(items, size, ascii_only, indent):
    """Strings with brackets, commas, quotes and backslashes in them, nested values, white space: items are counted."""
    body = json.dumps(items, ensure_ascii=ascii_only, indent=indent).encode()
    assert len(items) == count_of(body) == count_of(body, size)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"0," * 4_000_000,
        b"[" + b"{}," * 3_000_000,
        b"[" + b'"",' * 3_000_000,
        b"[" + b"[[[[[[]]]]]]," * 700_000,
    ],
)
def test_count_stops_as_soon_as_there_are_too_many(body):
    """Whatever the items are: what follows is not looked at."""
    began_s = time.process_time()
    assert 1_000 < count_of(body, most=1_000) < 40_000
    assert time.process_time() - began_s < 0.5


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 8_000_000,
        b"[" + b'"' + b'\\"' * 4_000_000,
        b'["' + b"\\" * 8_000_000,
        b"[" + b"[{" * 2_000_000 + b"}]" * 2_000_000,
        b"[" + b"[" * 30 + b"0," * 4_000_000,
        b"[{" + b'"a":"b",' * 1_000_000,
        b"\x00\xff" * 4_000_000,
        b" " * 8_000_000,
        b"]}" * 4_000_000,
    ],
)
def test_counting_takes_time_by_the_length_only(body):
    """No body, valid or not, holds the event loop for more than some milliseconds a piece; four megabytes of it."""
    count = ArrayCount()
    longest_s = 0.0
    for at in range(0, 4_194_304, 65_536):
        began_s = time.process_time()
        count.feed(body[at : at + 65_536], MANY)
        longest_s = max(longest_s, time.process_time() - began_s)
    assert longest_s < 0.25


def test_body_that_is_no_array_is_left_to_the_decoder():
    """It says what is wrong."""
    assert 1 == count_of(b"") == count_of(b" \n") == count_of(b"7") == count_of(b'"a,b"')
