"""`callback_url` through the API, the CLI and the client: what is taken, what is refused, and what is shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from browsing import browse, send_form
from plain_names import OBJECTS
from python_clients import Asked
from told_object import AT_MS, run

from api.objects import schemas
from app.events import (
    CALLBACK_KIND,
    CALLBACK_SEQUENCE,
    AboutObject,
    ObjectCreated,
    TaskDead,
    TasksCreated,
    TaskStarted,
    decode_object,
)
from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally
from ebs import Invalid, NewObject

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://shop.example/hooks"
ERROR = "CallbackFailed: the receiver answered 500 Oops"


@pytest.fixture
def api(make_api: Callable[..., Any]) -> Any:
    """Return an API that takes callbacks to one host."""
    return make_api(webhook_hosts=("shop.example",))


def stored(api: Any) -> list[ObjectCreated]:
    """Return the objects on the topic."""
    logs = api.topics.records.items()
    return [decode_object(record.value) for (topic, _), log in logs if topic == OBJECTS for record in log]


def test_each_form_of_submit_takes_the_url(api: Any) -> None:
    """One object, many copies, an array, and NDJSON: it is in the record of each object."""
    body = {"kind": "order", "callback_url": URL}
    assert 202 == api.post(json=body).status_code
    assert 202 == api.post("/api/objects?count=2", json=body).status_code
    assert 207 == api.post("/api/objects/batch", json=[body, {"kind": "order"}]).status_code
    lines = {"content": json.dumps(body).encode(), "headers": {"content-type": "application/x-ndjson"}}
    assert 200 <= api.post("/api/objects/batch", **lines).status_code < 300
    urls = [one.callback_url for one in stored(api)]
    assert (5, 1) == (urls.count(URL), urls.count(msgspec.UNSET))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "https://evil.example/",
            "callbacks to evil.example are not allowed: add it to EBS_WEBHOOK_HOSTS of the API and",
        ),
        ("http://169.254.169.254/latest", "add it to EBS_WEBHOOK_HOSTS"),
        ("shop.example", "it must be a http:// or https:// URL"),
        ("", "Expected `str` of length >= 1"),
        ("https://shop.example/" + "a" * 2_048, "Expected `str` of length <= 2048"),
    ],
)
def test_url_that_is_not_allowed_is_a_422_that_names_field_and_setting(api: Any, url: str, words: str) -> None:
    """For one object, and for one of a batch alone."""
    answer = api.post(json={"callback_url": url})
    ((pointer, detail),) = [(one["pointer"], one["detail"]) for one in answer.json()["errors"]]
    assert (422, "#/callback_url") == (answer.status_code, pointer)
    assert words in detail
    items = api.post("/api/objects/batch", json=[{"callback_url": url}, {}]).json()["items"]
    assert [422, 202] == [one["status"] for one in items]
    assert words in items[0]["detail"]


def test_without_hosts_callbacks_are_off(make_api: Callable[..., Any]) -> None:
    """The answer names the very setting."""
    answer = make_api().post(json={"callback_url": URL})
    assert 422 == answer.status_code
    assert "callbacks are off: set EBS_WEBHOOK_HOSTS=shop.example" in answer.json()["errors"][0]["detail"]


def test_kind_of_callbacks_is_reserved(api: Any) -> None:
    """An object of it would count as callbacks, and wait for their controls."""
    answer = api.post(json={"kind": CALLBACK_KIND})
    assert 422 == answer.status_code
    assert "is reserved for callbacks" in answer.json()["errors"][0]["detail"]


def test_same_id_with_another_url_is_a_conflict(api: Any) -> None:
    """The URL is part of what is asked for."""
    body = {"id": "0" * 32, "callback_url": URL}
    assert 202 == api.post(json=body).status_code
    assert 202 == api.post(json=body).status_code
    assert 422 == api.post(json=body | {"callback_url": f"{URL}/other"}).status_code
    assert 422 == api.post(json={"id": "0" * 32}).status_code


def dead_callback(api: Any) -> None:
    """Let object `a` be finished, and its callback be dead."""
    event = ObjectCreated(object_id="a", name="n", kind="order", at_ms=AT_MS, callback_url=URL)
    api.topics.write_object(event)
    row, tally, results = ObjectRow(), Tally(), Results(lambda _key: None)
    apply_object_created(row, event, tally)
    common = ("a", "a-callback1", 3, CALLBACK_KIND, CALLBACK_SEQUENCE, 1, 1, AT_MS + 40)
    events: list[Any] = [
        TasksCreated("c-a", "a", 3, "order", 0, 1, 1, AT_MS, about=AboutObject(callback_url=URL)),
        *run(0),
        TasksCreated("c-a-callback1", "a", 3, CALLBACK_KIND, CALLBACK_SEQUENCE, 1, 1, AT_MS + 30, role="callback"),
        TaskStarted("s", *common, "w", 1, role="callback"),
        TaskDead("d", *common, "w", 1, 2, ERROR, role="callback"),
    ]
    for one in events:
        apply_task_event(row, one, tally, results)
    api.topics.write_row("a", row, results=results)


EXPECTED = {"url": URL, "state": "dead", "task_id": "a-callback1", "attempts": 1, "error": ERROR}


def test_object_shows_its_callback_and_is_finished_all_the_same(api: Any) -> None:
    """State, attempts and the last error; the task that sends it is listed with its role."""
    dead_callback(api)
    answer = api.get("/api/objects/a").json()
    msgspec.convert(answer, schemas.ObjectDetail)
    assert ("FINISHED", 1, 0, EXPECTED) == tuple(
        answer[name] for name in ("state", "tasks_total", "tasks_dead", "callback")
    )
    tasks = msgspec.convert(api.get("/api/objects/a/tasks").json(), schemas.TaskPage).tasks
    assert [("a-0", "task", "FINISHED"), ("a-callback1", "callback", "DEAD")] == [
        (task.id, task.role, task.state) for task in tasks
    ]
    page = api.request("GET", "/objects/a", headers={"accept": "text/html"}).text
    assert f"dead: {URL}" in page
    assert "t-0" in page
    assert f"t-{CALLBACK_SEQUENCE}" not in page


def test_task_of_a_callback_has_its_own_kind_without_its_request(api: Any) -> None:
    """What the topics have deleted tells nothing; its place among the tasks does."""
    dead_callback(api)
    task = api.get("/api/objects/a/tasks/callback1").json()
    assert (CALLBACK_KIND, True) == (task["kind"], task["content_deleted"])


def test_form_does_not_offer_the_kind_of_callbacks(api: Any) -> None:
    """It is counted like a kind, but the API refuses an object of it."""
    for kind in ("mail", CALLBACK_KIND):
        api.topics.write_window(WindowKey(TOTAL_SIZE_MS, 0, kind), Counts(tasks_created=1))
    offered = [one.get("value") for one in browse(api, "/submit").tree.iter("option")]
    assert ["mail"] == offered


def test_form_submits_it(api: Any) -> None:
    """The dashboard's form has a field for it."""
    send_form(api, "/objects", {"content": "c", "count": "1", "callback_url": URL})
    assert [URL] == [one.callback_url for one in stored(api)]


def test_callback_waits_before_anything_is_counted(api: Any) -> None:
    """The object's record says that there will be one."""
    object_id = api.post(json={"callback_url": URL}).json()["id"]
    expected = {"url": URL, "state": "waiting", "task_id": f"{object_id}-callback1", "attempts": 0, "error": None}
    assert expected == api.get(f"/api/objects/{object_id}").json()["callback"]
    other_id = api.post(json={}).json()["id"]
    assert api.get(f"/api/objects/{other_id}").json()["callback"] is None


def test_cli_submits_and_shows_it(api: Any, ebs: Callable[..., Any]) -> None:
    """`ebs submit --callback-url`, `ebs status`."""
    assert 0 == ebs("submit", "--callback-url", URL).exit_code
    assert [URL] == [one.callback_url for one in stored(api)]
    dead_callback(api)
    shown = " ".join(ebs("status", "a").stdout.split())
    assert f"callback │ dead: {URL}" in shown
    assert ERROR in shown
    refused = ebs("submit", "--callback-url", "https://evil.example/")
    assert "EBS_WEBHOOK_HOSTS" in str(refused.exception)


@pytest.mark.parametrize("blocking", [True, False])
def test_clients_submit_and_read_it(api: Any, *, blocking: bool) -> None:
    """Both of them, one and many objects."""
    dead_callback(api)
    client = Asked(api, blocking=blocking)
    client.submit("order", callback_url=URL)
    client.submit_many([NewObject("order", callback_url=URL)])
    with pytest.raises(Invalid, match="EBS_WEBHOOK_HOSTS"):
        client.submit("order", callback_url="https://evil.example/")
    assert EXPECTED == msgspec.to_builtins(client.get("a").callback)
    client.close_it()
    assert 3 == [one.callback_url for one in stored(api)].count(URL)
