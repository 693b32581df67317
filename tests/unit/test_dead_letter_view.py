"""Dead letters in the view: what odd records become, order, pages and groups, without Kafka and without HTTP."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest
from fakes import unreadable
from grave import request_of
from plain_names import DEAD_LETTERS

from api.view.dead_letters import LetterPosition, parse_position, position_text
from api.view.store import Layout, Slot
from api.view.view import View
from app.events import encode
from app.rules.dead_letters import Origin, dead_letter_headers
from app.rules.fingerprint import fingerprint
from app.rules.letter_acts import LetterAct, LetterId, LetterState, act_record
from app.rules.letter_filter import LetterFilter

EVERYTHING = LetterFilter()
WORDS = ["ape", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]


class Record(NamedTuple):
    """A record as a consumer hands it out."""

    offset: int
    value: bytes | None
    timestamp: int
    headers: tuple[tuple[str, bytes | None], ...]
    key: bytes | None = b"k"


@pytest.fixture
def view(tmp_path):
    """Return a view with an empty store."""
    slot, view = Slot(tmp_path), View(0)
    view.attach(slot.open(Layout("c", {})), None)
    yield view
    view.detach()
    slot.close()


class Writer:
    """Writes letters and acts to partitions, one by one or many in one write."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.ends: dict[int, int] = {}

    def letter(self, at_ms: int, message: str = "boom", *, partition: int = 0, kind: str = "mail") -> LetterId:
        """Write a task's letter."""
        task = request_of(1, kind=kind)
        told = dead_letter_headers(Origin("task-requests", 0, 7, 5), ValueError(message), attempts=5, task=task)
        return self.record(encode(task), at_ms, told, partition=partition)

    def record(self, value, at_ms, headers, *, partition: int = 0, key=b"k") -> LetterId:
        """Write any record."""
        offset = self.ends.get(partition, 0)
        self.ends[partition] = offset + 1
        self.view.apply({(DEAD_LETTERS, partition): [Record(offset, value, at_ms, tuple(headers), key)]})
        return LetterId(partition, offset)

    def act(self, letter_id: LetterId, state: LetterState) -> None:
        """Write an act."""
        record = act_record(DEAD_LETTERS, letter_id, state, LetterAct(1))
        self.record(record.value, 1, record.headers, partition=letter_id.partition, key=record.key)


@pytest.fixture
def writer(view):
    """Return a writer to the view."""
    return Writer(view)


def page(
    view: View, wanted: LetterFilter = EVERYTHING, limit: int = 50, after: LetterPosition | None = None
) -> list[LetterId]:
    """Return the ids of a page."""
    return [one.letter_id for one in asyncio.run(view.dead_letters.page(wanted, limit, after))[0]]


def groups(view: View, wanted: LetterFilter = EVERYTHING, limit: int = 1_000):
    """Return groups."""
    return asyncio.run(view.dead_letters.groups(wanted, limit))


@pytest.mark.parametrize("kinds", [["mail"] * 5, list("abcde"), list("edcba")])
def test_group_knows_first_last_and_latest_error_in_any_order(view, writer, kinds):
    """Partitions are read in any order: a letter that is read late and died early changes only when it began."""
    for number, (at_ms, kind) in enumerate(zip((20, 10, 30, 5, 15), kinds, strict=True)):
        writer.letter(at_ms, f"no user {at_ms}", partition=number, kind=kind)
    (group,) = groups(view)
    assert (5, 30, "no user 30", 5) == (
        group.first_at_ms,
        group.last_at_ms,
        group.message,
        sum(group.kinds.values()),
    )
    assert set(kinds) == group.kinds.keys()


def test_newest_groups_are_kept_of_more_than_fit(view, writer):
    """The groups that grew last are those of a short list, wherever their fingerprints stand in order."""
    at_ms = {fingerprint("ValueError", word): number for number, word in enumerate(WORDS)}
    for number, word in enumerate(WORDS):
        writer.letter(number, word)
    assert [9, 8, 7] == [at_ms[group.fingerprint] for group in groups(view, limit=3)]
    assert WORDS[::-1] == [group.message for group in groups(view)]


def test_groups_beyond_one_turn_are_read_too(view, writer):
    """More groups than are read at once are all counted, each once."""
    for first in WORDS:
        for second in WORDS:
            for third in WORDS[:6]:
                writer.letter(1, f"{first} {second} {third}")
    assert 600 == len(groups(view)) == len({group.message for group in groups(view)})


def test_cursor_and_time_hold_together(view, writer):
    """Whichever ends earlier counts: the position to go on from, or the time."""
    ids = [writer.letter(at_ms) for at_ms in range(10)]
    after = LetterPosition(7, ids[7])
    assert ids[6::-1] == page(view, after=after)
    assert ids[2::-1] == page(view, LetterFilter(before_ms=3), after=after)
    assert ids[6::-1] == page(view, LetterFilter(before_ms=9), after=after)
    assert ids[6:3:-1] == page(view, LetterFilter(since_ms=4), after=after)


def test_what_the_headers_say_goes_before_the_bytes(view, writer):
    """A letter is found by its headers, whatever its bytes are; without them by its bytes."""
    told = [("ebs-task-id", b"t-1"), ("ebs-kind", b"fax"), ("ebs-object-id", b"t"), ("ebs-redrive", b"2")]
    summary = view.dead_letters.summary(writer.record(encode(request_of(1)), 1, told))
    assert ("fax", "t-1", "t", 2) == (summary.kind, summary.task_id, summary.object_id, summary.redrive)
    headers = [("kafka_dlt-original-topic", b"task-requests-retry-1s")]
    summary = view.dead_letters.summary(writer.record(encode(request_of(1, redrive=3)), 1, headers))
    assert ("mail", "o1-0", "o1", 3) == (summary.kind, summary.task_id, summary.object_id, summary.redrive)


def test_letter_that_cannot_be_unpacked_is_shown(view):
    """Somebody else wrote it, or the log is damaged: people see what there is of it, and why that is all."""
    named = unreadable(DEAD_LETTERS, 0, 3, b"mine", "its header", key=b"k", headers=(("na\\xff", None), ("o", b"1")))
    lost = unreadable(DEAD_LETTERS, 0, 4, b"log", "a wrong CRC", last_offset=6)
    view.apply({(DEAD_LETTERS, 0): [named, lost]})
    assert [LetterId(0, 4), LetterId(0, 3)] == sorted(page(view), reverse=True)
    letter, summary = view.dead_letters.letter(LetterId(0, 3)), view.dead_letters.summary(LetterId(0, 3))
    assert (b"k", b"mine") == (letter.key, letter.value)
    assert {"na\\xff": b"", "o": b"1"}.items() <= dict(letter.headers).items()
    assert ("app.errors.Unreadable", "its header") == (summary.error_type, summary.message)
    assert "a wrong CRC" == view.dead_letters.summary(LetterId(0, 4)).message


@pytest.mark.parametrize("given", [None, b"", b"xyz", b"ABCDEF012345", b"0" * 13, b"\xff" * 12])
def test_fingerprint_that_is_none_is_made_from_the_error(view, writer, given):
    """Letters of other writers, and of older ones, belong to the same group."""
    headers = [("kafka_dlt-exception-fqcn", b"x.Odd"), ("kafka_dlt-exception-message", b"no user 7")]
    summary = view.dead_letters.summary(writer.record(b"", 1, [*headers, ("ebs-error-fingerprint", given)]))
    assert fingerprint("Odd", "no user 1") == summary.fingerprint


@pytest.mark.parametrize(("timestamp_ms", "expected"), [(-1, 0), (1 << 62, 253_402_300_799_999)])
def test_impossible_time_is_the_nearest_possible_one(view, writer, timestamp_ms, expected):
    """A producer may write any timestamp; none of them ends the process."""
    letter_id = writer.letter(timestamp_ms)
    assert expected == view.dead_letters.summary(letter_id).at_ms
    assert [letter_id] == page(view)


def test_letter_and_act_in_one_write(view):
    """A view that starts anew reads letters and acts together."""
    headers = tuple(dead_letter_headers(Origin("objects", 0, 7, 5), ValueError("x"), attempts=0))
    act = act_record(DEAD_LETTERS, LetterId(0, 0), LetterState.DISCARDED, LetterAct(1))
    records = [Record(0, b"{", 1, headers), Record(1, act.value, 2, tuple(act.headers), act.key)]
    view.apply({(DEAD_LETTERS, 0): records, (DEAD_LETTERS, 1): [Record(0, b"{", 3, headers)]})
    (group,) = groups(view)
    assert {LetterState.DISCARDED: 1, LetterState.DEAD: 1} == {
        one: count for one, count in group.counts.items() if count
    }
    assert [LetterId(0, 0)] == page(view, LetterFilter(state=LetterState.DISCARDED))


def test_acts_are_bounded(view, writer):
    """A letter keeps its first acts only: somebody who repeats one for ever does not make it grow."""
    letter_id = writer.letter(1)
    for _ in range(20):
        writer.act(letter_id, LetterState.DISCARDED)
    writer.act(letter_id, LetterState.REDRIVEN)
    summary = view.dead_letters.summary(letter_id)
    assert (LetterState.REDRIVEN, 8) == (summary.state, len(summary.acts))


def test_position_is_read_back():
    """What a client sends back is the position that it was given; other text is none."""
    position = LetterPosition(1_795_489_276_303, LetterId(3, 17))
    assert position == parse_position(position_text(position))
    assert [None] * 5 == [parse_position(text) for text in ("", "1", "1-2", "x-1-2", "9" * 16 + "-1-2")]
