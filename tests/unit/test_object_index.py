"""The index of objects in the view's store: it follows every change and leaves nothing behind."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager

import pytest
from histories import made_fact
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_names import LEDGER_CHANGELOG, OBJECTS
from view_records import Record

from api.view.object_index import STATES, unpack_place
from api.view.object_list import Wanted, parse_place, place_text
from api.view.store import FORMAT_VERSION, Layout, Slot
from api.view.view import View
from app.events import ObjectCreated, TaskFinished, TaskStarted, encode, task_id_of
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow, encode_row
from app.rules.ledger_states import ObjectState, state_of_object
from app.rules.tally import Tally


async def no_ends(_topic: str) -> dict[int, int]:
    """Nothing is asked of a broker."""
    return {}


@contextmanager
def open_view(directory, layout: Layout | None = None):
    """Yield a view with a store."""
    slot = Slot(directory)
    view = View(0)
    view.attach(slot.open(layout or Layout("c", {})), no_ends)
    yield view
    view.detach()
    slot.close()


def an_object(object_id: str, at_ms: int, kind: str = "default") -> Record:
    """Return a record of `objects`."""
    event = ObjectCreated(object_id=object_id, kind=kind, name="n", content="c", at_ms=at_ms)
    return Record(0, object_id.encode(), encode(event))


def a_row(object_id: str, at_ms: int, steps: int, kind: str = "default") -> Record:
    """Return a ledger row after so many steps of one task: created, started, finished."""
    row = ObjectRow(kind=kind)
    if at_ms:
        apply_object_created(
            row, ObjectCreated(object_id=object_id, kind=kind, name="", content="", at_ms=at_ms), Tally()
        )
    common = (object_id, task_id_of(object_id, 0), 0, kind, 0, 1, 1)
    events = [
        made_fact("c", *common, 7),
        TaskStarted("s", *common, 8, "w", 0),
        TaskFinished("f", *common, 9, "w", 0, 0),
    ]
    for event in events[:steps]:
        apply_task_event(row, event, Tally())
    return Record(0, object_id.encode(), encode_row(row))


def index_of(view: View) -> tuple[list[tuple[str, ...]], dict]:
    """Return what the index holds, as people would write it, and the counts that it keeps."""
    store = view._opened()
    orders = []
    for key, _ in store.newest_first(b"i"):
        kind, rest = key[1:].split(b"\0", 1)
        orders.append((kind.decode(), STATES[rest[0]].value, str(int.from_bytes(rest[1:7], "big")), rest[7:].decode()))
    places = {key[1:].decode(): unpack_place(value) for key, value in store.newest_first(b"p")}
    expected = [
        (place.kind, place.state.value, str(place.created_at_ms), object_id) for object_id, place in places.items()
    ]
    assert sorted(expected) == sorted(orders)
    return sorted(orders), dict(view.object_index.counts)


def test_record_then_rows_then_tombstone_leave_nothing(tmp_path):
    """An object stands in one order at a time; when it expires it is in none, and nothing of it is left."""
    with open_view(tmp_path) as view:
        view.apply({(OBJECTS, 3): [an_object("a", 5, "mail")]})
        assert ([("mail", "CREATED", "5", "a")], {("mail", ObjectState.CREATED): 1}) == index_of(view)
        for steps, state in ((1, "DISTRIBUTED"), (2, "PROCESSING"), (3, "FINISHED")):
            view.apply({(LEDGER_CHANGELOG, 3): [a_row("a", 5, steps, "mail")]})
            assert ([("mail", state, "5", "a")], {("mail", ObjectState(state)): 1}) == index_of(view)
        assert 3 == view.partition_of("a")
        view.apply({(LEDGER_CHANGELOG, 3): [Record(0, b"a", None)]})
        assert ([], {}) == index_of(view)
        assert {b"m"} == {key[:1] for key, _ in view._opened().newest_first(b"")}


def test_row_may_come_before_the_record(tmp_path):
    """The topics are read in no order of each other; time and state are right whichever comes first."""
    with open_view(tmp_path) as view:
        view.apply({(LEDGER_CHANGELOG, 0): [a_row("a", 5, 2)]})
        view.apply({(OBJECTS, 0): [an_object("a", 5)]})
        view.apply({(LEDGER_CHANGELOG, 0): [a_row("b", 0, 1)], (OBJECTS, 0): [an_object("b", 6)]})
        view.apply({(LEDGER_CHANGELOG, 0): [a_row("c", 0, 1)]})
        expected = [
            ("default", "DISTRIBUTED", "6", "b"),
            ("default", "DISTRIBUTED", "7", "c"),
            ("default", "PROCESSING", "5", "a"),
        ]
        assert expected == index_of(view)[0]
        view.apply({(LEDGER_CHANGELOG, 0): [a_row("c", 4, 3)]})
        assert ("default", "FINISHED", "4", "c") in index_of(view)[0]


def test_submit_of_a_known_id_changes_nothing(tmp_path):
    """The first record of an id is the object."""
    with open_view(tmp_path) as view:
        view.apply({(OBJECTS, 0): [an_object("a", 5), an_object("a", 9, "mail")]})
        view.apply({(OBJECTS, 0): [an_object("a", 10, "mail")]})
        assert [("default", "CREATED", "5", "a")] == index_of(view)[0]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from("abcd"), st.sampled_from(["object", "row", "gone"]), st.integers(0, 3), st.booleans()
            ),
            max_size=6,
        ),
        max_size=8,
    )
)
def test_index_is_what_the_rows_say_after_any_writes(tmp_path_factory, writes):
    """Whatever comes in whatever batches: each object that has a row or a record stands there once, and counts once."""
    with open_view(tmp_path_factory.mktemp("view")) as view:
        for write in writes:
            records = {}
            for object_id, what, steps, known in write:
                at_ms = ord(object_id) if known else 0
                if what == "object":
                    records.setdefault((OBJECTS, 0), []).append(an_object(object_id, ord(object_id)))
                elif what == "row":
                    records.setdefault((LEDGER_CHANGELOG, 0), []).append(a_row(object_id, at_ms, steps))
                else:
                    records.setdefault((LEDGER_CHANGELOG, 0), []).append(Record(0, object_id.encode(), None))
            if records:
                view.apply(records)
        orders, counts = index_of(view)
        expected = {}
        for object_id in "abcd":
            found = view.look_up(object_id)
            if found is not None:
                state = ObjectState.CREATED if found.row is None else state_of_object(found.row)
                expected[object_id] = state.value
        assert expected == {object_id: state for _, state, _, object_id in orders}
        assert len(expected) == sum(counts.values())


def test_kinds_without_number_have_one_order_together(tmp_path):
    """Ids in the place of kinds: the named ones stay few, and each object is found by its own kind all the same."""
    slot, view = Slot(tmp_path), View(0)
    view.object_index._max_kinds = 2
    view.attach(slot.open(Layout("c", {})), no_ends)
    for n in range(9):
        view.apply({(OBJECTS, 0): [an_object(f"o{n}", n + 1, f"k{n}")]})
    view.apply({(LEDGER_CHANGELOG, 0): [a_row(f"o{n}", n + 1, 1, f"k{n}") for n in range(9)]})
    assert {"k0": 1, "k1": 1, "(others)": 7} == {kind: count for (kind, _), count in view.object_index.counts.items()}

    def listed(**wanted) -> list[str]:
        return [one.object_id for one in asyncio.run(view.objects.page(Wanted(**wanted), 20)).objects]

    assert [f"o{n}" for n in range(8, -1, -1)] == listed()
    assert (["o0"], ["o7"], []) == (listed(kind="k0"), listed(kind="k7"), listed(kind="k99"))
    assert [f"o{n}" for n in range(8, 1, -1)] == listed(kind="(others)")
    view.apply({(LEDGER_CHANGELOG, 0): [Record(0, f"o{n}".encode(), None) for n in range(9)]})
    assert ([], {}) == index_of(view)
    view.detach()
    slot.close()


def test_counts_survive_a_restart(tmp_path):
    """They are read from the store, not counted anew."""
    with open_view(tmp_path) as view:
        view.apply({(OBJECTS, 0): [an_object("a", 5, "mail"), an_object("b", 6)]})
        before = index_of(view)
    with open_view(tmp_path) as view:
        assert before == index_of(view)


def test_store_without_index_is_rebuilt(tmp_path):
    """A store of the version before is not taken for one without objects."""
    with open_view(tmp_path, Layout("c", {}, format_version=FORMAT_VERSION - 1)) as view:
        view.apply({(OBJECTS, 0): [an_object("a", 5)]})
    with open_view(tmp_path) as view:
        assert {} == view.offsets()


@pytest.mark.parametrize("count", [1, 50, 500])
def test_page_costs_what_it_shows_however_many_objects_there_are(tmp_path, count):
    """A list of 20,000 objects that all passed through three states answers in moments, of any state."""
    with open_view(tmp_path) as view:
        for start in range(0, 20_000, 1_000):
            ids = [(f"o{number:05}", number + 1) for number in range(start, start + 1_000)]
            view.apply({(OBJECTS, 0): [an_object(*one) for one in ids]})
            for steps in (1, 2, 3):
                view.apply({(LEDGER_CHANGELOG, 0): [a_row(*one, steps) for one in ids]})
        view.apply({(OBJECTS, 0): [an_object("last", 30_000)]})

        async def scenario() -> float:
            began_s = time.process_time()
            page = await view.objects.page(Wanted(), count)
            assert (count, "last") == (len(page.objects), page.objects[0].object_id)
            assert 1 == len((await view.objects.page(Wanted(frozenset((ObjectState.CREATED,))), count)).objects)
            assert [] == (await view.objects.page(Wanted(frozenset((ObjectState.PROCESSING,))), count)).objects
            return time.process_time() - began_s

        assert asyncio.run(scenario()) < 1


@pytest.mark.parametrize("text", ["", "A", "AAAA", "====", "ä", "_" * 2_000, "AAAAAAAA_w"])
def test_text_that_is_no_place_is_known_as_such(text):
    """A cursor that was cut, padded or made up is refused, not misread."""
    assert parse_place(text) is None


def test_places_survive_their_text():
    """What was handed out is what comes back."""
    place = (5).to_bytes(6, "big") + "ä-1".encode()
    assert place == parse_place(place_text(place))
