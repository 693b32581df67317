"""Text of others on terminals and in logs: it steers nothing, and forges no line."""

from __future__ import annotations

import io
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.telemetry.plain_text import PlainRecord, plain, plain_json, plain_lines

EVIL = "\x1b[31mred\x1b[0m\x9b2J\r\n2026-11-27 ERROR forged\t\u202eevil\u2028\x7f\x07\ud800"


@given(st.text())
def test_plain_text_has_nothing_that_steers(text):
    """Whatever it was; text that needs no change gets none."""
    found = plain(text + EVIL)
    assert found.isprintable() or all(char.isprintable() or char.isspace() or ord(char) > 0xA0 for char in found)
    assert not set(found) & set(EVIL) & set("\x1b\x9b\r\n\t\u202e\u2028\x7f\x07\ud800")


@pytest.mark.parametrize("text", ["", "Ünïcode €𐍈 文", 'a/b?c="d"'])
def test_ordinary_text_stays(text):
    """Also that of other languages."""
    assert text == plain(text) == plain_json(text)


def test_lines_stay_where_they_are_wanted():
    """Stack traces are shown as they are."""
    assert "a\n    b\tc\\x1b" == plain_lines("a\nb\tc\x1b")
    assert "a\\nb\\tc\\x1b" == plain("a\nb\tc\x1b")


def test_json_means_the_same():
    """Programs read what they read before."""
    text = json.dumps({"name": EVIL}, ensure_ascii=False)
    assert {"name": EVIL} == json.loads(plain_json(text))
    assert not set(plain_json(text)) & set("\x1b\x9b\u202e\u2028\x7f")


def test_log_has_no_line_and_no_code_of_others():
    """Neither in a message, nor in its arguments, nor in the text of an exception."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    error = ValueError(EVIL)
    record = PlainRecord("a", logging.ERROR, "p", 1, f"{EVIL} %s", (EVIL,), (ValueError, error, None))
    handler.handle(record)
    first, *others = stream.getvalue().splitlines()
    assert " ERROR \\x1b[31mred" in first
    assert others
    assert all(line.startswith(("    ", "ValueError: ")) for line in others)
    assert not set(stream.getvalue()) & set("\x1b\x9b\r\u202e\u2028\x7f\x07\ud800")


def test_colours_of_the_server_stay():
    """What uvicorn says of itself carries no text of others."""
    record = PlainRecord("uvicorn.error", logging.INFO, "p", 1, "\x1b[36m%d\x1b[0m", (5,), None)
    record.color_message = record.msg
    assert "\x1b[36m5\x1b[0m" == record.getMessage()
