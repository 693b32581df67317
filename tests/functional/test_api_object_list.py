"""GET /api/objects: objects newest first, by state, kind and time, page by page."""

from __future__ import annotations

import msgspec
import pytest
from histories import made_fact

from api.objects.schemas import ObjectPage
from api.view.children import MAX_COUNTED
from app.events import ObjectCreated, Parent, TaskFinished, TaskStarted, task_id_of
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.tally import Tally

START_MS = 1_795_489_270_000


def write(api, object_id: str, at_ms: int = START_MS, kind: str = "default", state: str = "CREATED") -> None:
    """Write an object of one task as API and statistics do, as far as its state."""
    event = ObjectCreated(object_id=object_id, kind=kind, name=f"name of {object_id}", content="c", at_ms=at_ms)
    api.topics.write_object(event)
    if state == "CREATED":
        return
    row = ObjectRow()
    apply_object_created(row, event, Tally())
    common = (object_id, task_id_of(object_id, 0), 0, kind, 0, 1, 1)
    apply_task_event(row, made_fact("c", *common, at_ms + 1), Tally())
    if state != "DISTRIBUTED":
        apply_task_event(row, TaskStarted("s", *common, at_ms + 2, "w", 1), Tally())
    if state == "FINISHED":
        apply_task_event(row, TaskFinished("f", *common, at_ms + 3, "w", 1, 1, msgspec.Raw(b'{"a":1}')), Tally())
    api.topics.write_row(object_id, row)


def read(api, query: str = "") -> ObjectPage:
    """GET a page, which must be as documented."""
    answer = api.get(f"/api/objects{query}")
    assert 200 == answer.status_code, answer.text
    return msgspec.convert(answer.json(), ObjectPage)


def ids(page: ObjectPage) -> list[str]:
    """Return the ids on a page."""
    return [one.id for one in page.objects]


def test_objects_come_newest_first_whatever_their_state(api):
    """All kinds and states are one list by time of creation; each object says how far it is."""
    states = ["CREATED", "DISTRIBUTED", "PROCESSING", "FINISHED"]
    for number, state in enumerate(states * 2):
        write(api, f"o{number}", START_MS + number, ("mail", "image")[number % 2], state)
    page = read(api)
    assert [f"o{number}" for number in range(7, -1, -1)] == ids(page)
    newest = page.objects[0]
    assert ("name of o7", "image", "FINISHED", 1, 1, START_MS + 7, START_MS + 10) == (
        newest.name,
        newest.kind,
        newest.state,
        newest.tasks_total,
        newest.tasks_done,
        newest.created_at_ms,
        newest.finished_at_ms,
    )
    assert dict.fromkeys(states, 2) == page.counts
    assert (None, None) == (page.next_cursor, page.links.next)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?state=FINISHED", ["o7", "o3"]),
        ("?state=finished,%20created", ["o7", "o4", "o3", "o0"]),
        ("?kind=mail", ["o6", "o4", "o2", "o0"]),
        ("?kind=mail&state=PROCESSING", ["o6", "o2"]),
        ("?kind=mail&state=FINISHED", []),
        ("?kind=nobody", []),
        (f"?created_after={START_MS + 5}", ["o7", "o6", "o5"]),
        (f"?created_before={START_MS + 2}", ["o1", "o0"]),
        (f"?created_after={START_MS + 2}&created_before={START_MS + 4}", ["o3", "o2"]),
        ("?created_after=2026-11-24T03:01:10.005Z", ["o7", "o6", "o5"]),
        ("?created_before=2026-11-24T04:01:10.002+01:00", ["o1", "o0"]),
        ("?limit=2&state=CREATED", ["o4", "o0"]),
    ],
)
def test_conditions_narrow_the_list(api, query, expected):
    """State (several), kind and time (from inclusive, to exclusive; epoch ms or ISO 8601) must all hold."""
    for number, state in enumerate(["CREATED", "DISTRIBUTED", "PROCESSING", "FINISHED"] * 2):
        write(api, f"o{number}", START_MS + number, ("mail", "image")[number % 2], state)
    assert expected == ids(read(api, query))


def test_pages_are_stable_while_objects_come_in_and_move_on(api):
    """Following the links shows each object once, those of one instant too, whatever comes in meanwhile."""
    for number in range(40):
        write(api, f"o{number:02}", START_MS + number // 4)
    page = read(api, "?limit=7")
    seen = ids(page)
    while page.links.next is not None:
        write(api, f"new{len(seen)}", START_MS + 1_000 + len(seen))
        write(api, f"o{len(seen) % 40:02}", START_MS + len(seen) % 40 // 4, state="FINISHED")
        page = read(api, page.links.next.removeprefix("/api/objects"))
        seen += ids(page)
    assert [f"o{number:02}" for number in range(39, -1, -1)] == seen


def test_links_keep_the_conditions(api):
    """The next page is of the same list."""
    for number in range(4):
        write(api, f"o{number}", START_MS + number, ("mail", "image")[number % 2])
    page = read(api, "?kind=mail&state=CREATED&limit=1")
    assert "/api/objects?kind=mail&state=CREATED&limit=1" == page.links.self
    assert (["o2"], ["o0"]) == (ids(page), ids(read(api, page.links.next.removeprefix("/api/objects"))))


def test_object_that_moves_on_leaves_its_old_state(api):
    """An object is in one state at a time, and in none once it has expired."""
    for state in ("CREATED", "DISTRIBUTED", "PROCESSING", "FINISHED"):
        write(api, "a1", state=state)
        page = read(api)
        assert ({state: 1}, [state]) == (page.counts, [one.state for one in page.objects])
        assert ["a1"] == ids(read(api, f"?state={state}"))
    api.topics.write_row("a1", None)
    assert ({}, []) == (read(api).counts, ids(read(api)))


def test_object_whose_record_is_gone_is_listed_without_a_name(api):
    """Retention took the record; the ledger row tells the rest."""
    row = ObjectRow()
    apply_object_created(
        row, ObjectCreated(object_id="a1", name="n", content="c", at_ms=START_MS, task_count=2), Tally()
    )
    api.topics.write_row("a1", row)
    (listed,) = read(api).objects
    assert (None, START_MS, "CREATED", 2) == (listed.name, listed.created_at_ms, listed.state, listed.tasks_total)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("state=DONE", "CREATED, DISTRIBUTED, PROCESSING, FINISHED, FAILED, CANCELLED"),
        ("state=", "CREATED"),
        ("kind=a%20b", "pattern"),
        ("limit=0", "1"),
        ("limit=501", "500"),
        ("limit=x", "integer"),
        ("cursor=x", "next_cursor"),
        ("cursor=%C3%A4", "next_cursor"),
        ("created_after=yesterday", "ISO 8601"),
        ("created_before=-5", "ISO 8601"),
        ("sort=name", "Unknown parameter; known are state, kind"),
    ],
)
def test_wrong_query_is_a_422_that_names_what_is_allowed(api, query, said):
    """The parameter is named, and what it may be."""
    answer = api.get(f"/api/objects?{query}")
    (error,) = answer.json()["errors"]
    assert (422, query.split("=")[0]) == (answer.status_code, error["parameter"])
    assert said in error["detail"]


def test_without_a_view_the_list_is_a_503(make_api):
    """Before the broker was there once, nothing can be listed."""
    answer = make_api(attached=False).get("/api/objects")
    assert (503, "urn:ebs:problem:view-behind") == (answer.status_code, answer.json()["type"])


def write_child(api, object_id: str, parent: str, at_ms: int, kind: str = "default") -> ObjectCreated:
    """Write an object that a task of another one has submitted."""
    event = ObjectCreated(
        object_id=object_id,
        kind=kind,
        name="",
        at_ms=at_ms,
        parent=Parent(parent, task_id_of(parent, 0)),
        depth=1,
    )
    api.topics.write_object(event)
    return event


def test_the_objects_that_an_object_has_submitted_are_a_list_of_their_own(api):
    """Newest first, page by page, with every other filter; those of an object whose id begins alike are not in it."""
    write(api, "p")
    for number in range(5):
        write_child(api, f"c{number}", "p", START_MS + number, ("mail", "image")[number % 2])
    write_child(api, "other", "pp", START_MS)
    assert ["c4", "c3", "c2", "c1", "c0"] == ids(read(api, "?parent=p"))
    first = read(api, "?parent=p&limit=2")
    assert ["c4", "c3"] == ids(first)
    assert first.links.next is not None
    assert ["c2", "c1"] == ids(read(api, first.links.next.removeprefix("/api/objects")))
    assert ["c3", "c1"] == ids(read(api, "?parent=p&kind=image"))
    assert ["c2", "c1"] == ids(read(api, f"?parent=p&created_after={START_MS + 1}&created_before={START_MS + 3}"))
    assert [] == ids(read(api, "?parent=p&state=FINISHED"))
    assert [] == ids(read(api, "?parent=nobody"))
    assert 422 == api.get("/api/objects?parent=").status_code


def test_an_object_names_its_parent_and_counts_its_children(api):
    """With links; whose client submitted it has no parent."""
    write(api, "p/1")
    for number in range(3):
        write_child(api, f"c{number}", "p/1", START_MS + number)
    parent, child = (api.get(f"/api/objects/{one}").json() for one in ("p%2F1", "c1"))
    assert (None, 3, None) == (parent["parent"], parent["children_count"], parent["links"]["parent"])
    assert ["c2", "c1", "c0"] == [one["id"] for one in api.get(parent["links"]["children"]).json()["objects"]]
    assert ({"object_id": "p/1", "task_id": "p/1-0"}, 0) == (child["parent"], child["children_count"])
    assert "p/1" == api.get(child["links"]["parent"]).json()["id"]


def test_children_that_the_ledger_forgets_are_gone_from_the_list(api):
    """Their entries would fill the store for ever."""
    write(api, "p")
    for number in range(2):
        event = write_child(api, f"c{number}", "p", START_MS + number)
        row = ObjectRow()
        apply_object_created(row, event, Tally())
        api.topics.write_row(f"c{number}", row)
    assert 2 == api.get("/api/objects/p").json()["children_count"]
    api.topics.write_row("c0", None)
    assert ["c1"] == ids(read(api, "?parent=p"))
    assert 1 == api.get("/api/objects/p").json()["children_count"]


def test_children_are_counted_up_to_a_limit(api):
    """Nobody waits for a count of millions."""
    for number in range(MAX_COUNTED + 1):
        write_child(api, f"c{number}", "p", START_MS + number)
    write(api, "p")
    assert MAX_COUNTED == api.get("/api/objects/p").json()["children_count"]
