"""Which errors are the same one, and which are not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rules.dead_letters import MAX_MESSAGE_CHARS, faust_message_of
from app.rules.fingerprint import fingerprint, generalised

KNOWN = "33cff26fddc4"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("object 7f3a9c not found", "object 0b11de not found"),
        ("took 3.5 s, limit -1,000 ms", "took 12 s, limit 7 ms"),
        ("no user 'Ann O' in \"table a\"", "no user '' in \"t\""),
        ("cannot read /var/data/a.json: gone", "cannot read ../b: gone"),
        (r"cannot read C:\data\a.json", r"cannot read C:\other\deep\b.json"),
        ("GET http://a.example/x?y=1 failed", "GET https://b.example:8080 failed"),
        ("mail to ann@a.example bounced", "mail to bob@b.example bounced"),
        ("at 2025-11-24T07:12:00Z by 127.0.0.1:9092", "at 2026-01-01T00:00:00.123+02:00 by 10.0.0.7:1"),
        ("id 6f9619ff-8b86-d011-b42d-00c04fc964ff", "id 7F9619FF-8B86-D011-B42D-00C04FC964AA"),
        ("token deadbeefcafe refused", "token feedfacebeef refused"),
        ("ids [1, 2, 3] missing", "ids [17] missing"),
        ("<Row object at 0x7f1b2c> is stale", "<Row object at 0x55aa01> is stale"),
        ("two\n  lines", "two lines"),
    ],
)
def test_same_error_of_another_task_has_the_same_fingerprint(one, other):
    """Numbers, ids, quoted values, paths and addresses do not count, nor does how many of them are listed."""
    assert generalised(one) == generalised(other)
    assert fingerprint("ValueError", one) == fingerprint("ValueError", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("connection refused", "connection reset"),
        ("can't open 'a' and don't", "can't close 'a' and don't"),
        ("read/write failed", "read/only failed"),
        ("", "division by zero"),
    ],
)
def test_other_error_has_another_fingerprint(one, other):
    """Words count; the apostrophe of a word quotes nothing."""
    assert fingerprint("ValueError", one) != fingerprint("ValueError", other)


def test_type_counts_by_its_last_name():
    """Headers carry the full name and events the short one: both make the same group; another type makes another."""
    assert fingerprint("ValueError", "x") == fingerprint("builtins.ValueError", "x")
    assert fingerprint("Mute", "x") == fingerprint("tests.case.<locals>.Mute", "x")
    assert fingerprint("ValueError", "x") != fingerprint("KeyError", "x")


def test_fingerprint_is_the_same_in_every_process_and_version():
    """Groups outlive processes, whatever seeds their hashes; a change of the rule would split each group in two."""
    message = "object 7f3a9c not found in /var/data/x.json at 2025-11-24T07:12:00Z"
    assert KNOWN == fingerprint("x.Y", message)
    code = f"from app.rules.fingerprint import fingerprint; print(fingerprint('x.Y', {message!r}))"
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    assert KNOWN == subprocess.check_output([sys.executable, "-c", code], env=env, text=True).strip()


def test_message_that_was_cut_is_still_the_same_error():
    """A quoted value that is longer than what is kept has no end any more, and still does not count."""
    long, longer = (
        faust_message_of(ValueError(f"bad value '{letter * size}'")) for letter, size in (("ab ", 3_000), ("c", 9_000))
    )
    assert MAX_MESSAGE_CHARS == len(long)
    assert fingerprint("ValueError", long) == fingerprint("ValueError", longer)


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_text_has_a_fingerprint_of_twelve_digits(message, error_type):
    """A handler's message is anybody's text, halves of characters included."""
    assert re.fullmatch("[0-9a-f]{12}", fingerprint(error_type, message))


@given(st.integers(), st.integers(), st.sampled_from(["{} items", "id={}", "[{}]", "task-{}-x", "({}%)"]))
def test_numbers_never_count(one, other, template):
    """Wherever a number stands, it makes no group of its own."""
    assert generalised(template.format(one)) == generalised(template.format(other))


@pytest.mark.parametrize("piece", ["x", "'", "a'", "/", "1 ", "<n>,", "`", "a://", " '", "‘", "\\", "a.b-", "@"])  # noqa: RUF001  # a quote of another alphabet
def test_hostile_message_takes_no_time(piece):
    """No message makes an expression backtrack without end: that would hold up every task of the worker."""
    began_at_s = time.thread_time()  # what others do on this machine does not count
    generalised(piece * 100_000)
    assert time.thread_time() - began_at_s < 0.5
