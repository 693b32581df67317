"""A store that was not read on for longer than tombstones are kept is built anew, with a word; no other one is."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from plain_names import LEDGER_CHANGELOG
from view_records import Record

from api.view.store import Layout, Slot
from api.view.tombstones import Continuity, TombstonesMissed, read_tombstones_kept_ms
from api.view.view import View
from app.rules.ledger_rows import ObjectRow, encode_row

if TYPE_CHECKING:
    from aiokafka.admin.config_resource import ConfigResource

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
BEGUN_MS = 1_000 * DAY_MS
LAYOUT = Layout("c", {})
ROW = Record(0, b"a", encode_row(ObjectRow("default", 1, 1)))


@contextmanager
def open_store(directory, now_ms: int, kept_ms: int = DAY_MS):
    """Yield a slot's store."""
    slot = Slot(directory)
    store = slot.open(LAYOUT, now_ms, kept_ms)
    yield store
    store.close()
    slot.close()


def build(directory, whole_ms: int | None) -> None:
    """Make a view that knows the object a, begun at `BEGUN_MS` and whole at an instant."""

    async def no_ends(_topic: str) -> dict[int, int]:
        return {}

    slot = Slot(directory)
    view = View(0)
    store = slot.open(LAYOUT, BEGUN_MS, DAY_MS)
    view.attach(store, no_ends)
    continuity = Continuity(store, DAY_MS)
    view.apply({(LEDGER_CHANGELOG, 0): [ROW]})
    continuity.note(whole_ms)
    view.detach()
    slot.close()


@pytest.mark.parametrize("whole_ms", [None, BEGUN_MS + HOUR_MS])
def test_store_is_read_on_as_long_as_tombstones_are_kept(tmp_path, caplog, whole_ms):
    """It counts when the store was whole the last time, and if it never was, when it was begun."""
    build(tmp_path, whole_ms)
    last_ms = (whole_ms or BEGUN_MS) + DAY_MS
    with open_store(tmp_path, last_ms) as store:
        assert {LEDGER_CHANGELOG: {0: 1}} == store.offsets()
    assert [] == [one for one in caplog.records if one.name.startswith("api.")]
    with caplog.at_level(logging.WARNING), open_store(tmp_path, last_ms + 1) as store:
        assert ({}, []) == (store.offsets(), list(store.newest_first(b"l")))
        assert last_ms + 1 == store.whole_ms()
    assert "has not been read on for 24.0 h" in caplog.text
    assert "it is built anew" in caplog.text


def test_gap_while_the_process_lives_is_noticed(tmp_path, caplog):
    """A process that was frozen, or cut off from the broker, for longer than that gives its store up."""
    with open_store(tmp_path, BEGUN_MS) as store:
        continuity = Continuity(store, DAY_MS)
        continuity.note(BEGUN_MS + 1)
        continuity.note(None)
        continuity.note(BEGUN_MS + DAY_MS)
        with pytest.raises(TombstonesMissed):
            continuity.note(BEGUN_MS + 2 * DAY_MS + 1)
    with caplog.at_level(logging.WARNING), open_store(tmp_path, BEGUN_MS + 2 * DAY_MS + 1):
        assert "it is built anew" in caplog.text


def test_build_that_takes_longer_than_tombstones_are_kept_is_not_begun_again(tmp_path):
    """It would be begun for ever: the first instant of which a store is whole is taken whenever it comes."""
    with open_store(tmp_path, BEGUN_MS) as store:
        continuity = Continuity(store, 1)
        continuity.note(BEGUN_MS + DAY_MS)
        assert BEGUN_MS + DAY_MS == store.whole_ms()


def test_hiccup_is_no_gap_however_short_tombstones_are_kept(tmp_path):
    """A broker that keeps tombstones for an instant must not have the view built anew with each pause."""
    with open_store(tmp_path, BEGUN_MS) as store:
        continuity = Continuity(store, 0)
        for second in range(1, 50):
            continuity.note(BEGUN_MS + second * 1_000)
        assert BEGUN_MS + 49_000 == store.whole_ms()


def test_clock_that_is_set_back_breaks_nothing(tmp_path):
    """An instant before the last one is no news."""
    with open_store(tmp_path, BEGUN_MS) as store:
        continuity = Continuity(store, DAY_MS)
        continuity.note(BEGUN_MS - 2 * DAY_MS)
        assert BEGUN_MS == store.whole_ms()


class StoreOnDisk:
    """What a kill leaves of a store: what was in it when it was flushed the last time."""

    def __init__(self) -> None:
        self._whole_ms = self.left_ms = BEGUN_MS

    def whole_ms(self) -> int:
        """Return the instant that is kept."""
        return self._whole_ms

    def keep_whole(self, at_ms: int) -> None:
        """Keep one."""
        self._whole_ms = at_ms

    def flush(self) -> None:
        """Let it survive a kill."""
        self.left_ms = self._whole_ms


def test_kill_throws_a_quiet_store_back_by_an_hour_not_by_days():
    """What fits into memory for ever is flushed now and then, but not all the time."""
    store = StoreOnDisk()
    continuity = Continuity(store, DAY_MS)
    left = set()
    for second in range(2 * 24 * 3_600):
        continuity.note(BEGUN_MS + second * 1_000)
        assert store.left_ms >= BEGUN_MS + second * 1_000 - HOUR_MS
        left.add(store.left_ms)
    assert 48 >= len(left)


class Admin:
    """An admin client that knows these configurations; None: our user may not read it."""

    def __init__(self, kept_ms: dict[str, str | None]) -> None:
        self._kept_ms = kept_ms

    async def describe_configs(self, resources: list[ConfigResource]) -> list[SimpleNamespace]:
        """Answer as aiokafka does."""
        found = [
            (29, "no", 2, one.name, [])
            if kept is None
            else (0, "", 2, one.name, [("delete.retention.ms", kept, False)])
            for one in resources
            for kept in [self._kept_ms[one.name]]
        ]
        return [SimpleNamespace(resources=found)]


@pytest.mark.parametrize(
    ("kept_ms", "expected_ms"),
    [
        ({"a": "1000", "b": "2000"}, 900),
        ({"a": None, "b": None}, DAY_MS * 9 // 10),
        ({"a": None, "b": "2000"}, 1_800),
        ({"a": str(7 * DAY_MS), "b": None}, DAY_MS * 9 // 10),
    ],
)
def test_topic_that_keeps_tombstones_the_shortest_decides(kept_ms, expected_ms):
    """A tenth is left for reading; where the configuration may not be read Kafka's default of a day counts."""
    assert expected_ms == asyncio.run(read_tombstones_kept_ms(Admin(kept_ms), list(kept_ms)))
