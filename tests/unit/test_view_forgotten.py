"""A view that is built anew leaves out the objects that the ledger has forgotten, and no other ones."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest
from aiokafka import TopicPartition
from plain_names import LEDGER_CHANGELOG, OBJECTS
from view_records import Record

from api.view.consumer_progress import progress_of
from api.view.forgotten import forgotten_before
from api.view.store import Layout, Slot
from api.view.view import Progress, View
from app.events import ObjectCreated, encode
from app.kafka.refusals import Refusals
from app.rules.freshness import Freshness
from app.rules.ledger_rows import ObjectRow, encode_row
from app.rules.ledger_states import ObjectState

RETENTION_MS = 600_000
BEFORE_MS = 1_000_000
OLD_MS = BEFORE_MS - 1
COUNTED = {0: 10}
ROW = encode_row(ObjectRow("default", 1, OLD_MS))


async def no_ends(_topic: str) -> dict[int, int]:
    """Nothing is asked of a broker."""
    return {}


class Clock:
    """Tells how old objects must be to be due: all before `before_ms`."""

    before_ms = BEFORE_MS

    def __call__(self) -> int:
        """Return that instant."""
        return self.before_ms


@contextmanager
def open_view(directory, before_ms=lambda: BEFORE_MS):
    """Yield a view with a store."""
    slot = Slot(directory)
    view = View(0, before_ms)
    view.attach(slot.open(Layout("c", {})), no_ends)
    yield view
    view.detach()
    slot.close()


def an_object(
    offset: int, object_id: str, at_ms: int = OLD_MS, name: str = "n", written_at_ms: int | None = None
) -> Record:
    """Return a record of `objects`; written at its own time if nothing else is said."""
    event = ObjectCreated(object_id=object_id, name=name, content="c", at_ms=at_ms)
    return Record(offset, object_id.encode(), encode(event), at_ms if written_at_ms is None else written_at_ms)


def known(view: View) -> str:
    """Return which of the objects a to f are found; there must be as many in the counts."""
    found = "".join(one for one in "abcdef" if view.look_up(one) is not None)
    assert len(found) == sum(view.object_index.counts.values())
    return found


def first_name(view: View) -> str:
    """Return what the object a is called, by its first record; there must be one."""
    record = view.first_record("a")
    assert record is not None
    return record.name


def test_counted_and_old_and_without_a_row_is_left_out(tmp_path):
    """Each of the three spares an object: it is not counted yet, its retention is not over, or it has a row."""
    with open_view(tmp_path) as view:
        view.leave_out_forgotten(COUNTED)
        view.apply({(LEDGER_CHANGELOG, 0): [Record(0, b"b", ROW), Record(1, b"c", ROW), Record(2, b"c", None)]})
        records = [an_object(n, one) for n, one in enumerate("abc")]
        view.apply({(OBJECTS, 0): [*records, an_object(8, "d", BEFORE_MS), an_object(10, "e")]})
        view.apply({(OBJECTS, 1): [an_object(0, "f")]})
        assert "bdef" == known(view)
        assert {("default", ObjectState.CREATED): 4} == view.object_index.counts
        found = view.look_up("b")
        assert found is not None
        assert found.record is not None


def test_nothing_is_left_out_when_the_broker_cannot_tell(tmp_path):
    """Without the statistics' offsets every record is an object."""
    with open_view(tmp_path) as view:
        view.apply({(OBJECTS, 0): [an_object(0, "a")]})
        assert "a" == known(view)


def test_id_that_came_again_is_the_later_object(tmp_path):
    """Once the first object of an id is forgotten a later record of the id is an object of its own."""
    with open_view(tmp_path) as view:
        view.leave_out_forgotten(COUNTED)
        view.apply({(OBJECTS, 0): [an_object(0, "a", name="first"), an_object(10, "a", name="second")]})
        assert "second" == first_name(view)


def test_first_record_stays_the_object_that_has_a_row(tmp_path):
    """A repetition behind what is counted does not take the place of an object that is old and known."""
    with open_view(tmp_path) as view:
        view.leave_out_forgotten(COUNTED)
        view.apply({(LEDGER_CHANGELOG, 0): [Record(0, b"a", ROW)]})
        view.apply({(OBJECTS, 0): [an_object(0, "a", name="first"), an_object(10, "a", name="second")]})
        assert "first" == first_name(view)


def test_process_that_ends_while_it_builds_continues_with_it(tmp_path):
    """The next process reads the rest of the objects and still knows which ones are forgotten."""
    with open_view(tmp_path) as view:
        view.leave_out_forgotten(COUNTED)
        view.apply({(OBJECTS, 0): [an_object(0, "a")]})
    with open_view(tmp_path) as view:
        view.apply({(OBJECTS, 0): [an_object(1, "b"), an_object(10, "c")]})
        assert "c" == known(view)


def test_what_is_forgotten_while_the_view_is_built_is_left_out(tmp_path):
    """An object that was not due when the view was begun is left out if its tombstone came before its record did."""
    clock = Clock()
    with open_view(tmp_path, clock) as view:
        view.leave_out_forgotten(COUNTED)
        view.apply({(LEDGER_CHANGELOG, 0): [Record(0, b"a", ROW), Record(1, b"b", ROW)]})
        view.apply({(LEDGER_CHANGELOG, 0): [Record(2, b"a", None)]})
        clock.before_ms += 10
        view.apply({(OBJECTS, 0): [an_object(0, "a", BEFORE_MS + 9), an_object(1, "b", BEFORE_MS + 9)]})
        assert "b" == known(view)


@pytest.mark.parametrize("objects_first", [True, False])
def test_tombstone_and_record_in_one_fetch_leave_nothing(tmp_path, objects_first):
    """Whatever its age and whichever topic comes first in a fetch, an object that it buries is no object."""
    fetched = {
        (LEDGER_CHANGELOG, 0): [Record(1, b"a", None)],
        (OBJECTS, 0): [an_object(0, "a", BEFORE_MS + 1), an_object(1, "b", BEFORE_MS + 1)],
    }
    with open_view(tmp_path) as view:
        view.leave_out_forgotten(COUNTED)
        view.apply({(LEDGER_CHANGELOG, 0): [Record(0, b"a", ROW)]})
        view.apply(dict(sorted(fetched.items(), reverse=objects_first)))
        assert "b" == known(view)
        assert {("default", ObjectState.CREATED): 1} == view.object_index.counts


@pytest.mark.parametrize("objects_first", [True, False])
def test_id_that_is_used_again_survives_the_tombstone_of_the_first(tmp_path, objects_first):
    """A new object of an old id that comes in one fetch with the old one's tombstone is there, with its record."""
    fetched = {
        (LEDGER_CHANGELOG, 0): [Record(1, b"a", None)],
        (OBJECTS, 0): [an_object(11, "a", BEFORE_MS + 1, name="second")],
    }
    with open_view(tmp_path) as view:
        view.apply({(LEDGER_CHANGELOG, 0): [Record(0, b"a", ROW)], (OBJECTS, 0): [an_object(0, "a", name="first")]})
        view.apply(dict(sorted(fetched.items(), reverse=objects_first)))
        assert "a" == known(view)
        assert "second" == first_name(view)


def test_object_from_the_future_is_forgotten_by_the_time_it_was_written(tmp_path):
    """The clock of an outside producer does not keep an object for ever; one that is behind hides nothing."""
    with open_view(tmp_path) as view:
        view.leave_out_forgotten(COUNTED)
        records = [an_object(0, "a", 2 * BEFORE_MS, written_at_ms=OLD_MS), an_object(1, "b", 2 * BEFORE_MS)]
        view.apply({(LEDGER_CHANGELOG, 0): [Record(0, b"c", ROW)]})
        view.apply({(OBJECTS, 0): [*records, an_object(2, "c", 0)]})
        assert "bc" == known(view)


def test_due_is_what_is_older_than_the_retention_now():
    """The instant moves with the clock, and leaves a minute for clocks that differ."""
    now_ms = [BEFORE_MS]
    before_ms = forgotten_before(RETENTION_MS, lambda: now_ms[0])
    assert BEFORE_MS - RETENTION_MS + 60_000 == before_ms()
    now_ms[0] += 5
    assert BEFORE_MS - RETENTION_MS + 60_005 == before_ms()


class HoldingConsumer:
    """A consumer that has read a ledger up to its last marker, and holds `objects` back."""

    def paused(self) -> set[TopicPartition]:
        """Return what is held back."""
        return {TopicPartition(OBJECTS, 0)}

    refusals = Refusals()

    def last_stable_offset(self, tp: TopicPartition) -> int | None:
        """Return where a partition ends; of what is held nothing is fetched."""
        return 7 if tp.topic == LEDGER_CHANGELOG else None

    last_poll_timestamp = last_stable_offset

    async def position(self, _tp: TopicPartition) -> int:
        """Return the next offset."""
        return 7


def test_ledger_moves_on_and_lag_is_unknown_while_objects_are_held_back():
    """Objects that wait for a long ledger do not look as if the view stood still, nor as if it had caught up."""
    freshness = {TopicPartition(topic, 0): Freshness() for topic in (OBJECTS, LEDGER_CHANGELOG)}
    found = asyncio.run(progress_of(HoldingConsumer(), freshness))
    assert ({LEDGER_CHANGELOG: {0: 7}}, Progress(None, None, 7)) == found
