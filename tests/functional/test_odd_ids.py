"""Ids of outside producers, which may have any characters: what is listed can be reached, by API, CLI and links."""

from __future__ import annotations

import html
import json
import re

import pytest
from plain_names import CONTROL, OBJECTS
from served import Connection, request, served

from api.server.paths import SegmentConvertor, decoded
from app.events import ObjectCreated, encode, object_created_id
from app.rules.ledger_rows import ObjectRow, TaskRow
from ebs.client.segments import segment

NOW_MS = 1_795_489_276_303
ODD = [
    "a/b",
    "a/tasks",
    "/",
    "//a//",
    "a?b=c",
    "#a",
    "%",
    "%2F",
    "%252F",
    "a%b",
    "..a",
    "a/../b",
    "\x00\x1b[31m\r\n\t",
    " a ",
    "a+b&c;d",
    "ü€𐍈",
    "'\"<>",
    "x" * 200,
    "tasks",
    "batch",
]
DOTS = [".", ".."]
"""Browsers take these for steps between folders, however they are written; programs do not."""
PAGE = {"accept": "text/html"}


def put(api, object_id: str) -> None:
    """Write an object with one task."""
    event = ObjectCreated(id=object_created_id(object_id), object_id=object_id, at_ms=NOW_MS, name="n", content="c")
    api.topics.write(OBJECTS, 0, object_id.encode(), encode(event))
    api.topics.write_row(object_id, ObjectRow(task_count=1, created_at_ms=NOW_MS, tasks=[TaskRow()]))


@pytest.mark.parametrize("object_id", ODD + DOTS)
def test_api_and_its_links_reach_every_id(api, object_id):
    """Each link of each answer leads to what it names."""
    put(api, object_id)
    (listed,) = api.get("/api/objects").json()["objects"]
    found = api.get(listed["links"]["self"])
    assert (200, object_id) == (found.status_code, found.json()["id"])
    tasks = api.get(found.json()["links"]["tasks"])
    assert (200, object_id) == (tasks.status_code, tasks.json()["object_id"])
    assert tasks.json() == api.get(tasks.json()["links"]["self"]).json()
    events = api.get(found.json()["links"]["events"])
    assert (200, object_id) == (events.status_code, events.json()["object_id"])
    cancelled = api.request("DELETE", found.json()["links"]["self"])
    (command,) = api.topics.records[CONTROL, 0]
    assert (202, f"cancel:object:{object_id}") == (cancelled.status_code, command.key.decode())


@pytest.mark.parametrize("object_id", ODD)
def test_dashboard_reaches_every_id(api, object_id):
    """The link in the list leads to the object's page, whose live part and form are the object's, too."""
    put(api, object_id)
    listed = api.request("GET", "/objects", headers=PAGE)
    (link,) = set(re.findall(r'href="(/objects/[^"?]+)"', listed.text))
    page = api.request("GET", html.unescape(link), headers=PAGE)
    assert 200 == page.status_code
    live = re.search(r'data-live="([^"]+)"', page.text)[1]
    assert f"/live{link}" == live
    form = re.search(r'action="(/objects/[^"]+/cancel)"', page.text)[1]
    headers = {**PAGE, "content-type": "application/x-www-form-urlencoded"}
    done = api.post(html.unescape(form), headers=headers)
    assert (303, html.unescape(link)) == (done.status_code, done.headers["location"])


@pytest.mark.parametrize("object_id", ODD + DOTS)
def test_commands_reach_every_id(api, ebs, object_id):
    """`--` keeps an id with a dash from being an option."""
    put(api, object_id)
    assert object_id == json.loads(ebs("status", "--json", "--", object_id).stdout)["id"]
    assert 0 == ebs("tasks", "--", object_id).exit_code
    assert 0 == ebs("explain", "--", object_id).exit_code
    assert 0 == ebs("cancel", "--", object_id).exit_code


def test_empty_id_is_refused_before_it_asks_for_something_else(ebs):
    """The list of objects is no object."""
    result = ebs("status", "")
    assert (1, "is empty: give one") == (result.exit_code, str(result.exception)[-18:])


@pytest.mark.parametrize("text", [*ODD, *DOTS, "ÿ", "%25", "%2f"])
def test_segment_means_its_text(text):
    """Written into a path and read from it, it is the same again; slashes of the path stay what they are."""
    path = decoded(f"/a/{segment(text)}/b?c=%2F".encode())
    assert path.startswith("/a/")
    assert path.endswith("/b")
    assert text == SegmentConvertor().convert(path[3:-2])


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("path", ["/static%2F..%2Fapi%2Fcontrol", "/api%2Fcontrol", "/static/..%2Fapi/control"])
def test_encoded_slash_opens_no_way_round_the_keys(make_api, http, path):
    """The gate and the routes see one path."""
    api = make_api(api_keys_write="write-key-0123456789")
    put(api, "a/b")
    with served(api.app, loop="asyncio", http=http) as port:
        connection = Connection(port)
        assert connection.ask(request("GET", path)).status in {401, 404}
        found = connection.ask(request("GET", "/api/objects/a%2fb", x_api_key="write-key-0123456789"))
        connection.close()
    assert (200, "a/b") == (found.status, json.loads(found.body)["id"])
