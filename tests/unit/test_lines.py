"""Cutting a stream of bytes into lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.submit.lines import LineSplitter

MAX_BYTES = 8


@given(st.lists(st.sampled_from([b"a", b"bb", b"\n", b"\r\n", b" ", b"ccccccccc"]), max_size=30), st.data())
def test_lines_do_not_depend_on_where_the_stream_is_cut(parts, data):
    """Any cutting gives the lines of the whole: stripped, numbered from 1, blank ones left out, long ones as None."""
    body = b"".join(parts)
    splitter, lines, at = LineSplitter(MAX_BYTES), [], 0
    while at < len(body):
        size = data.draw(st.integers(1, 7))
        lines += splitter.feed(body[at : at + size])
        at += size
    lines += splitter.finish()
    raw = body.split(b"\n")
    expected = [
        (number, None if len(line) > MAX_BYTES else line.strip())
        for number, line in enumerate(raw, 1)
        if len(line) > MAX_BYTES or line.strip()
    ]
    assert expected == [tuple(line) for line in lines]


def test_no_more_of_a_long_line_is_held_than_allowed():
    """However long a line gets, what is kept of it stays under the limit and a chunk."""
    splitter = LineSplitter(MAX_BYTES)
    for _ in range(100):
        assert [] == splitter.feed(b"x" * 100)
        assert len(splitter._rest) <= MAX_BYTES
    assert [(1, None), (2, b"y")] == [tuple(line) for line in splitter.feed(b"\ny\n")]
