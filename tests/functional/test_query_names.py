"""Query parameters that a path does not have are refused, at every path; made-up objects only where they are wanted."""

from __future__ import annotations

import itertools

import pytest
from fastapi.routing import APIRoute
from plain_names import OBJECTS

from api.main import _ROUTERS
from app import json_text
from app.events import decode_object

ROUTES = [
    (method, route.path)
    for router in _ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods)
]
NOTHING = (None, {}, {"tasks": 5}, {"kind": "default"})


def test_every_path_refuses_an_unknown_parameter(api):
    """Before anything else is looked at, with and without the prefix."""
    for method, path in ROUTES:
        for prefix in ("", "/api"):
            address = prefix + path.replace("{object_id:segment}", "o-1")
            answer = api.request(method, f"{address}?nonsense=1")
            assert (422, "urn:ebs:problem:invalid") == (answer.status_code, answer.json()["type"]), address
            (error,) = answer.json()["errors"]
            assert ("nonsense", True) == (error["parameter"], error["detail"].startswith("Unknown parameter; ")), (
                address
            )


def test_known_parameters_are_named(api):
    """Those of a model as well as single ones; a slip of the finger gets the right name."""
    listed = api.get("/api/objects?stat=FAILED").json()["detail"]
    known = "state, kind, created_after, created_before, parent, limit and cursor"
    assert f'stat: Unknown parameter; known are {known} (did you mean "state"?)' == listed
    assert "known are wait and until" in api.get("/api/objects/o-1?wiat=3").json()["detail"]
    assert "this path takes none" in api.get("/api/control?kind=mail").json()["detail"]


def test_all_unknown_parameters_are_named_up_to_ten(api):
    """A long query costs no more than a short one."""
    assert 2 == len(api.get("/api/objects?a=1&b=2&kind=mail").json()["errors"])
    assert 10 == len(api.get("/api/objects?" + "&".join(f"p{number}=1" for number in range(500))).json()["errors"])


def test_probes_take_verbose(api):
    """As the README says of all of them."""
    assert 200 == api.get("/livez?verbose").status_code
    assert api.get("/readyz?verbose").status_code in {200, 503}


@pytest.mark.parametrize("path", ["/", "/waiting", "/submit"])
def test_paths_of_the_dashboard_alone_take_none_of_programs(api, path):
    """A browser's page ignores what it does not know: other sites add parameters to links."""
    address = f"{path}?nonsense=1"
    assert 422 == api.request("GET", address, headers={"accept": "application/json"}).status_code
    assert 200 == api.request("GET", address, headers={"accept": "text/html"}).status_code


def stored(api):
    """Return the objects on the topic."""
    topics = api.topics.records.items()
    return [decode_object(record.value) for (topic, _), log in topics if topic == OBJECTS for record in log]


@pytest.mark.parametrize("setting", [{"project": "fault_handlers"}, {"project": "sample_handlers:two_kinds"}])
def test_nothing_is_generated_for_a_project(make_api, setting):
    """One, many and those of a batch: 422 with the reason and the setting."""
    api = make_api(**setting)
    for body, query in itertools.product(NOTHING, ("", "?count=3")):
        answer = api.post(f"/api/objects{query}", **({} if body is None else {"json": body}))
        assert (422, "#/content") == (answer.status_code, answer.json()["errors"][0]["pointer"])
        assert "EBS_GENERATE=true" in answer.json()["detail"]
    items = api.post("/api/objects/batch", json=[body or {} for body in NOTHING]).json()["items"]
    assert {(422, True)} == {(item["status"], "EBS_GENERATE=true" in item["detail"]) for item in items}
    assert [] == stored(api)


def test_what_is_left_out_is_empty_for_a_project(make_api):
    """An object with a kind only may be all that a handler needs: no name, and null as its content."""
    api = make_api(project="fault_handlers")
    assert 202 == api.post("/api/objects", json={"kind": "nightly"}).status_code
    assert 202 == api.post("/api/objects", json={"content": "c"}).status_code
    assert [("", b'"c"', "default"), ("", b"null", "nightly")] == sorted(
        (one.name, bytes(one.content), one.kind) for one in stored(api)
    )


@pytest.mark.parametrize("settings", [{}, {"project": "fault_handlers", "generate": True}])
def test_objects_are_generated_without_a_project_or_where_it_is_wanted(make_api, settings):
    """As clients without the prefix do, and the demonstration."""
    api = make_api(**settings)
    assert 202 == api.post("/api/objects").status_code
    (event,) = stored(api)
    assert event.name
    assert 100 <= len(json_text.decode(event.content)) <= 200
