"""The view's waiting and its sums, without Kafka and without HTTP."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import msgspec
import pytest
from plain_names import (
    CONTROL,
    DEAD_LETTERS,
    LEDGER_CHANGELOG,
    OBJECTS,
    RESULTS_CHANGELOG,
    WINDOWS_CHANGELOG,
    WORKERS,
)
from view_records import Record

from api.view.behind import ViewBehind
from api.view.rows import read_topics
from api.view.store import Layout, Slot
from api.view.view import Progress, View
from app.events import ObjectCreated, encode
from app.rules.counts import WindowKey, encode_window_key
from app.rules.ledger_rows import ObjectRow, encode_row
from app.rules.results import ResultRow, encode_result_row, result_key
from app.rules.worker_heartbeats import Heartbeat


def an_object(offset: int, object_id: str) -> Record:
    """Return a record of `objects`."""
    event = ObjectCreated(object_id=object_id, name="n", content="c", at_ms=1)
    return Record(offset, object_id.encode(), encode(event))


@contextmanager
def open_view(directory, wait_s: float, ends: dict[int, int]):
    """Yield a view with a store; the topic `objects` ends at `ends`."""

    async def read_ends(_topic: str) -> dict[int, int]:
        return dict(ends)

    slot = Slot(directory)
    view = View(wait_s)
    view.attach(slot.open(Layout("c", {})), read_ends)
    yield view
    view.detach()
    slot.close()


def test_offsets_follow_the_records_and_survive(tmp_path):
    """After a restart reading goes on behind the last record of each partition."""
    with open_view(tmp_path, 0, {}) as view:
        view.apply(
            {(OBJECTS, 0): [an_object(4, "a"), an_object(9, "b")], (LEDGER_CHANGELOG, 2): [Record(1, b"a", None)]}
        )
    with open_view(tmp_path, 0, {}) as view:
        assert {OBJECTS: {0: 10}, LEDGER_CHANGELOG: {2: 2}} == view.offsets()


def test_waits_past_offsets_that_hold_no_record(tmp_path):
    """A topic may end in transaction markers: the consumer's position counts, not the last record."""

    async def scenario(view: View):
        finding = asyncio.create_task(view.find("unknown"))
        await asyncio.sleep(0)
        view.note_progress(Progress(0, 1, 1), {OBJECTS: {0: 5}})
        return await finding

    with open_view(tmp_path, 30, {0: 5}) as view:
        assert asyncio.run(scenario(view)) is None


def test_own_write_is_waited_for_even_if_the_broker_hides_it(tmp_path):
    """An outside producer's open transaction hides what lies behind it, from the end offset too."""
    with open_view(tmp_path, 0.01, {0: 0}) as view:
        view.remember_writes({0: 3})
        view.remember_writes({0: 2})
        with pytest.raises(ViewBehind):
            asyncio.run(view.find("a"))
        view.apply({(OBJECTS, 0): [an_object(0, "x"), an_object(1, "y")]})
        with pytest.raises(ViewBehind):
            asyncio.run(view.find("a"))
        view.apply({(OBJECTS, 0): [an_object(2, "a")]})
        found = asyncio.run(view.find("a"))
    assert found is not None
    assert found.record is not None
    assert "a" == found.record.object_id


def test_dead_letters_are_kept_as_they_came(tmp_path):
    """Key, value, headers and time of a dead letter are kept for acts on dead letters."""
    letter = Record(7, None, b"\xff", 99, (("kafka_dlt-original-topic", b"objects"),))
    with open_view(tmp_path, 0, {}) as view:
        view.apply({(DEAD_LETTERS, 3): [letter]})
        (kept,) = [msgspec.msgpack.decode(value) for _, value in view._store.newest_first(b"d")]
    assert [99, None, b"\xff", [["kafka_dlt-original-topic", b"objects"]]] == kept


def test_caught_up_once_is_forgotten_with_the_store(tmp_path):
    """A view that loses its store is not ready until the next one has caught up."""
    with open_view(tmp_path, 0, {}) as view:
        view.note_progress(Progress(3, None, 1), {})
        assert not view.caught_up_once
        view.note_progress(Progress(0, 1, 1), {})
        view.note_progress(Progress(2, 1, 1), {})
        assert view.caught_up_once
        view.detach()
        assert (False, Progress()) == (view.caught_up_once, view.progress)
        for ask in (
            view.statistics.totals,
            lambda: view.statistics.windows(10_000, None, 1),
            lambda: view.statistics.take_changed_windows(1),
        ):
            with pytest.raises(ViewBehind):
                ask()


def test_windows_without_key_are_no_reason_to_stop(tmp_path):
    """Windows of all sizes share one topic and one store; unknown sizes are kept and not shown."""
    record = Record(0, (3_600_000).to_bytes(4, "big") + bytes(8) + b"k", b"\x90")
    with open_view(tmp_path, 0, {}) as view:
        view.apply({(WINDOWS_CHANGELOG, 0): [record]})
        assert [] == view.statistics.windows(10_000, None, 10)
        assert 1 == len(view.statistics.windows(3_600_000, None, 10))


def test_foreign_records_of_changelogs_are_passed_over(tmp_path, caplog):
    """The rows that were there before are shown; without the mend one such record ended the API for ever."""
    junk = [Record(1, b"a", b"junk"), Record(2, b"\xff", b"\x90"), Record(3, None, b""), Record(4, b"\xff", None)]
    windows = [Record(0, encode_window_key(WindowKey(10_000, 0, "k")), b"\x90"), *junk]
    results = [Record(0, result_key(b"a", 0), encode_result_row(ResultRow(b"1"))), *junk]
    with open_view(tmp_path, 0, {}) as view:
        view.apply(
            {
                (LEDGER_CHANGELOG, 0): [Record(0, b"a", encode_row(ObjectRow("mail"))), *junk],
                (RESULTS_CHANGELOG, 0): results,
                (WINDOWS_CHANGELOG, 0): windows,
            }
        )
        assert {LEDGER_CHANGELOG: {0: 5}, RESULTS_CHANGELOG: {0: 5}, WINDOWS_CHANGELOG: {0: 5}} == view.offsets()
        assert "mail" == view.look_up("a").row.kind
        assert {"mail"} == {kind for kind, _ in view.object_index.counts}
        assert 1 == len(view.statistics.windows(10_000, None, 10))
    assert f"{LEDGER_CHANGELOG}-0@1 is no row" in caplog.text


PAUSE = b'{"type":"PAUSE","at_ms":1,"reason":""}'


def test_commands_in_force_survive_a_restart(tmp_path):
    """What is in force is known from the store alone; tombstones, records without a key and garbage leave nothing."""
    with open_view(tmp_path, 0, {}) as view:
        view.apply({(CONTROL, 0): [Record(0, b"pause", PAUSE), Record(1, b"pause:mail", PAUSE)]})
        view.apply(
            {(CONTROL, 0): [Record(2, b"pause", None), Record(3, None, PAUSE), Record(4, b"rate:a", b"garbage")]}
        )
        assert (True, False) == (view.control.state.is_paused("mail"), view.control.state.is_paused("image"))
        before = view.control.state.commands()
    with open_view(tmp_path, 0, {}) as view:
        assert before == view.control.state.commands()
        assert 5 == view.offsets()[CONTROL][0]


def heartbeat(worker: str, at_ms: int, offset: int = 0) -> Record:
    """Return what a worker says; the broker stamps it `at_ms`."""
    value = msgspec.json.encode(Heartbeat(worker, "processing", at_ms, 0))
    return Record(offset, f"processing/{worker}".encode(), value, at_ms)


def names(view: View, now_ms: int) -> list[str]:
    """Return the workers that are not gone."""
    return [heard.heartbeat.worker for heard in view.workers.alive(now_ms)]


def test_workers_are_those_heard_within_ten_seconds(tmp_path):
    """The last word counts, a tombstone ends it at once, silence after ten seconds; a restart forgets nobody."""
    with open_view(tmp_path, 0, {}) as view:
        view.apply({(WORKERS, 0): [heartbeat("b", 1_000), heartbeat("a", 1_000), heartbeat("b", 5_000)]})
        assert ["a", "b"] == names(view, 11_000)
        assert ["b"] == names(view, 11_001)
    with open_view(tmp_path, 0, {}) as view:
        assert ["a", "b"] == names(view, 11_000)
        view.apply(
            {(WORKERS, 0): [Record(3, b"processing/b", None), Record(4, b"x", b"garbage"), Record(5, None, b"")]}
        )
        assert ["a"] == names(view, 11_000)


def test_workers_that_were_killed_are_forgotten_in_the_end(tmp_path):
    """Names of past lives do not pile up, in memory or in the store, also when the store was read anew."""
    with open_view(tmp_path, 0, {}) as view:
        view.apply({(WORKERS, 0): [heartbeat("old", 1_000), heartbeat("new", 1_001)]})
    with open_view(tmp_path, 0, {}) as view:
        view.apply({(WORKERS, 0): [heartbeat("newest", 3_601_001)]})
        assert ["new", "newest"] == names(view, 0)
        assert [b"hprocessing/newest", b"hprocessing/new"] == [key for key, _ in view._store.newest_first(b"h")]


def test_object_is_taken_from_the_partition_of_its_id_only(tmp_path):
    """What a foreign partitioner has put elsewhere comes again where it belongs."""
    slot = Slot(tmp_path)
    view = View(0)

    async def read_ends(_topic: str) -> dict[int, int]:
        return {}

    view.attach(slot.open(Layout("c", {OBJECTS: ("id", 4)})), read_ends)
    view.apply({(OBJECTS, 1): [an_object(0, "a")]})  # it belongs into 3
    assert view.look_up("a") is None
    view.apply({(OBJECTS, 3): [an_object(0, "a")]})
    assert view.look_up("a") is not None
    assert 3 == view.partition_of("a")
    view.detach()
    slot.close()


def test_every_topic_that_is_read_has_a_fold(tmp_path):
    """A topic without one would be read and passed over in silence."""
    with open_view(tmp_path, 0, {}) as view:
        assert set(read_topics(view.names)) == set(view._folds)
        for queues in (("default", "gpu"), ("default", "cpu")):
            view.follow(queues)
            assert set(read_topics(view.names, queues)) == set(view._folds)
