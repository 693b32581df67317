"""Waiting tasks over HTTP: the list, the counts, started now, cancelled, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from browsing import browse, send_form
from plain_names import CONTROL
from task_story import TaskStory
from waiting_rows import put_waiting

from api.objects.task_schemas import TaskDetail
from api.waiting import schemas

NOW_MS = 1_795_489_276_303


def commands(api) -> list[tuple[str, Any]]:
    """Return keys and values of the commands on the topic."""
    return [(one.key.decode(), json.loads(one.value)) for one in api.topics.records[CONTROL, 0]]


def problem_of(answer, status: int) -> str:
    """Return what an answer of this status says."""
    assert (status, "application/problem+json") == (answer.status_code, answer.headers["content-type"]), answer.text
    return answer.json()["detail"]


def fill(api) -> dict[str, bytes]:
    """Let four tasks wait; returns the keys of their rows by object."""
    return {
        "a": put_waiting(api, "a", 60),
        "b": put_waiting(api, "b", 10, attempt=3, error="OSError: no", partition=1),
        "c": put_waiting(api, "c", -2, offset=7, kind="report", started=True),
        "d": put_waiting(api, "d", 600, offset=8),
    }


def test_tasks_are_listed_as_they_are_due(api):
    """What, why, due when, which attempt, the last error; page by page."""
    fill(api)
    answer = api.get("/api/waiting").json()
    msgspec.convert(answer, schemas.WaitingPage)
    assert ["c-0", "b-0", "a-0", "d-0"] == [one["task_id"] for one in answer["tasks"]]
    assert answer["tasks"][1] == {
        "task_id": "b-0",
        "object_id": "b",
        "kind": "mail",
        "reason": "retry",
        "queue": "default",
        "due_at_ms": NOW_MS + 10_000,
        "attempt": 3,
        "waits_since_ms": NOW_MS - 5_000,
        "error": "OSError: no",
        "started": False,
        "links": {"task": "/api/objects/b/tasks/0", "object": "/api/objects/b"},
    }
    assert [True, False, False, False] == [one["started"] for one in answer["tasks"]]
    assert ["a-0", "d-0"] == [one["task_id"] for one in api.get("/waiting?kind=mail&reason=delay").json()["tasks"]]
    first = api.get("/api/waiting?limit=3").json()
    rest = api.get(f"/api/waiting?limit=3&cursor={first['next_cursor']}").json()
    assert (["d-0"], None) == ([one["task_id"] for one in rest["tasks"]], rest["next_cursor"])


def test_counts_are_by_kind_and_reason(api):
    """With the first due time of each."""
    fill(api)
    answer = api.get("/api/waiting/counts").json()
    msgspec.convert(answer, schemas.WaitingCounts)
    found = [(one["kind"], one["reason"], one["waiting_count"], one["next_due_at_ms"]) for one in answer["groups"]]
    assert 4 == answer["total"]
    assert found == [
        ("report", "delay", 1, NOW_MS - 2_000),
        ("mail", "retry", 1, NOW_MS + 10_000),
        ("mail", "delay", 2, NOW_MS + 60_000),
    ]
    assert 2 == api.get("/api/waiting/counts?reason=delay&kind=mail").json()["total"]
    assert 1 == api.get("/api/waiting/counts?object_id=b").json()["total"]


def test_one_task_is_started_by_the_row_in_which_it_waits(api):
    """The command names the row, so a later wait of the task is not meant."""
    keys = fill(api)
    answer = api.post("/api/waiting/start", json={"task_id": "b-0"})
    msgspec.convert(answer.json(), schemas.OrderAccepted)
    assert (202, 1, []) == (answer.status_code, answer.json()["tasks_count"], answer.json()["warnings"])
    row = base64.b64encode(keys["b"]).decode()
    order = {"type": "START", "task_id": "b-0", "partition": 1, "row": row, "at_ms": NOW_MS}
    assert [("start:task:b-0", order)] == commands(api)
    assert ["task c-0 runs already"] == api.post("/api/waiting/start", json={"task_id": "c-0"}).json()["warnings"]


def test_tasks_of_all_queues_are_listed_and_started(make_api):
    """The same partition and key in two queues are two rows: the command names the task of its own."""
    api = make_api(project="queued_project")
    key = put_waiting(api, "a", 60)
    assert key == put_waiting(api, "g", 60, kind="embed", queue="gpu")
    listed = {one["task_id"]: (one["queue"], one["kind"]) for one in api.get("/api/waiting").json()["tasks"]}
    assert {"a-0": ("default", "mail"), "g-0": ("gpu", "embed")} == listed
    assert 2 == api.get("/api/waiting/counts").json()["total"]
    page = browse(api, "/waiting")
    assert "gpu" in page.text_of("w-g-0")
    assert "default" not in page.text_of("w-a-0")
    assert 202 == api.post("/api/waiting/start", json={"task_id": "g-0"}).status_code
    ((name, order),) = commands(api)
    row = base64.b64encode(key).decode()
    assert ("start:task:g-0", "g-0", 0, row) == (name, order["task_id"], order["partition"], order["row"])


@pytest.mark.parametrize("body", [{"task_id": "g-0"}, {"kind": "embed"}])
def test_acts_wait_for_the_rows_of_every_queue(make_api, body):
    """A row that the view has not read yet may be the one that is meant: "not now" is no "not found"."""
    api = make_api(project="queued_project")
    api.topics.deliver_at_once = False
    put_waiting(api, "g", 60, kind="embed", queue="gpu")
    assert 503 == api.post("/api/waiting/start", json=body).status_code
    api.topics.deliver()
    api.topics.deliver_at_once = True
    assert 202 == api.post("/api/waiting/start", json=body).status_code


@pytest.mark.parametrize("act", ["start", "cancel"])
@pytest.mark.parametrize(
    ("body", "name", "count"),
    [
        ({"kind": "mail"}, "kind=mail", 3),
        ({"reason": "retry", "kind": "mail"}, "kind=mail&reason=retry", 1),
        ({"object_id": "d"}, "object_id=d", 1),
        ({"all": True}, "*", 4),
    ],
)
def test_filter_becomes_one_command(api, act, body, name, count):
    """However many tasks match; the same filter again has the same key."""
    fill(api)
    answer = api.post(f"/api/waiting/{act}", json=body)
    assert (202, count) == (answer.status_code, answer.json()["tasks_count"])
    ((key, value),) = commands(api)
    assert f"{act}:waiting:{name}" == key == answer.json()["key"]
    given = {name: value for name, value in body.items() if name != "all"}
    assert given | {"type": f"{act.upper()}_WAITING", "at_ms": NOW_MS} == value


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("start", {}, 422, "Name a condition"),
        ("cancel", {}, 422, "Name a condition"),
        ("start", {"task_id": "a-0", "kind": "mail"}, 422, "A task needs no filter"),
        ("start", {"task_id": "nobody-0"}, 404, "task nobody-0 does not wait"),
        ("start", {"kind": "mial"}, 404, 'no waiting task matches (did you mean "mail"?)'),
        ("cancel", {"kind": "mail", "reason": "key"}, 404, "no waiting task matches"),
        (
            "cancel",
            {"reason": "paused"},
            422,
            '#/reason: no task waits for "paused": the reasons are retry, delay, kind',
        ),
        ("cancel", {"task_id": "a-0"}, 422, "task_id"),
    ],
)
def test_what_cannot_be_done_is_said(api, path, body, status, said):
    """And nothing is written."""
    fill(api)
    assert said in problem_of(api.post(f"/api/waiting/{path}", json=body), status)
    assert [] == commands(api)


@pytest.mark.parametrize("path", ["/api/waiting", "/api/waiting/counts"])
def test_unknown_reason_is_not_an_empty_list(api, path):
    """`ebs workers` says "paused", "rate" and "concurrency" where the table says "kind"."""
    assert "reason: no task waits for" in problem_of(api.get(f"{path}?reason=rate"), 422)


def test_what_does_not_wait_for_its_time_cannot_be_started(api):
    """The answer names what to do instead; a filter that also means others starts those."""
    put_waiting(api, "p", 60, in_line=True)
    said = (
        "kind mail is paused or at a limit (see `ebs control`): `ebs resume --kind mail` ends a pause, `ebs limit mail`"
    )
    assert said in problem_of(api.post("/api/waiting/start", json={"task_id": "p-0"}), 409)
    assert said in problem_of(api.post("/api/waiting/start", json={"kind": "mail"}), 409)
    assert [] == commands(api)
    put_waiting(api, "a", 60)
    answer = api.post("/api/waiting/start", json={"kind": "mail"}).json()
    assert 1 == answer["tasks_count"]
    assert "tasks of kind mail that do not start: 1; only" in answer["warnings"][0]
    assert [None, NOW_MS + 60_000] == [one["due_at_ms"] for one in api.get("/api/waiting").json()["tasks"]]


@pytest.mark.parametrize(
    ("pauses", "undo", "of_others"),
    [
        ([{"kind": "mail"}], "`ebs resume --kind mail`", []),
        ([{}], "`ebs resume`", ["kind report is paused: its tasks start after `ebs resume`"]),
        (
            [{}, {"kind": "mail"}],
            "`ebs resume` and `ebs resume --kind mail`",
            ["kind report is paused: its tasks start after `ebs resume`"],
        ),
    ],
)
def test_start_of_a_paused_kind_warns_with_the_command_that_resumes_it(api, pauses, undo, of_others):
    """Its tasks become due, but start only after the kind is resumed; each pause has its own command."""
    fill(api)
    for pause in pauses:
        assert 202 == api.post("/api/control/pause", json=pause).status_code
    for body in ({"task_id": "a-0"}, {"kind": "mail"}):
        warnings = api.post("/api/waiting/start", json=body).json()["warnings"]
        assert [f"kind mail is paused: its tasks start after {undo}"] == warnings
    assert of_others == api.post("/api/waiting/start", json={"kind": "report"}).json()["warnings"]


def test_command_line_lists_and_acts(api, ebs):
    """`ebs waiting` in local time, with how long it is until then."""
    fill(api)
    listed = ebs("waiting", "--kind", "mail")
    assert 0 == listed.exit_code, listed.output
    assert "OSError: no" in listed.output
    assert "c-0" not in listed.output
    assert 1 == len(json.loads(ebs("waiting", "ls", "--reason", "retry", "--json").output)["tasks"])
    assert "more: --cursor" in ebs("waiting", "--limit", "1").stderr
    assert "report" in ebs("waiting", "counts").output
    assert "no waiting task matches" in ebs("waiting", "--object", "x").output
    assert "started now: task a-0" in ebs("waiting", "start", "a-0").output
    assert "started now: 1 waiting task" in ebs("waiting", "start", "--kind", "mail", "--reason", "retry").output
    assert "cancelled: 3 waiting tasks" in ebs("waiting", "cancel", "--kind", "mail").output
    keys = ["start:task:a-0", "start:waiting:kind=mail&reason=retry", "cancel:waiting:kind=mail"]
    assert keys == [key for key, _ in commands(api)]


@pytest.mark.parametrize(
    "arguments",
    [["start"], ["cancel"], ["start", "a-0", "--kind", "mail"], ["start", "--kind", "m", "--all"]],
)
def test_command_line_wants_one_thing(ebs, arguments):
    """A task, or a filter, or all."""
    answer = ebs("waiting", *arguments)
    assert 2 == answer.exit_code
    assert "name one thing" in answer.output


def test_page_shows_and_acts(api):
    """What, why, due when; one task or all that the filter means."""
    fill(api)
    page = browse(api, "/waiting?kind=mail")
    assert "3 tasks wait" in page.text_of("groups")
    assert "OSError: no" in page.text_of("w-b-0")
    assert "in 1 min" in page.text_of("w-a-0")
    answer = send_form(api, "/waiting/start", {"task_id": "a-0", "shown_kind": "mail"})
    assert (303, "/waiting?kind=mail") == (answer.status_code, answer.headers["location"])
    send_form(api, "/waiting/start", {"kind": "mail", "reason": "retry"})
    send_form(api, "/waiting/cancel", {"all": "yes"})
    assert ["start:task:a-0", "start:waiting:kind=mail&reason=retry", "cancel:waiting:*"] == [
        key for key, _ in commands(api)
    ]
    assert "4 waiting tasks are being cancelled" in browse(api, "/waiting").text


def test_page_of_a_filter_that_matches_nothing_says_so(api):
    """An act on it is refused on the page."""
    fill(api)
    assert "No such tasks" in browse(api, "/waiting?kind=other").text_of("no-match")
    assert 404 == send_form(api, "/waiting/start", {"kind": "other"}).status_code


def test_tasks_of_an_object_tell_what_they_wait_for(api, ebs):
    """In the list, of one, and on the pages of object and task: why, and due when."""
    story = TaskStory(api, task_count=2, delay_s=160)
    object_id = story.id
    story.made(count=2)
    put_waiting(api, object_id, 60)
    tasks = api.get(f"/api/objects/{object_id}/tasks").json()["tasks"]
    assert [{"reason": "delay", "due_at_ms": NOW_MS + 60_000}, None] == [one["waiting"] for one in tasks]
    one = api.get(f"/api/objects/{object_id}/tasks/0").json()
    msgspec.convert(one, TaskDetail)
    assert (tasks[0]["waiting"], "delay") == (one["waiting"], one["timeline"][-1]["what"])
    assert "delay until 20" in ebs("tasks", object_id).output
    assert "delay until 20" in ebs("tasks", object_id, "0").output
    assert "delay: due in 1 min" in browse(api, f"/objects/{object_id}").text_of("t-0")
    assert "delay, due in 1 min" in browse(api, f"/objects/{object_id}/tasks/0").text_of("waits-for")


def test_options_before_a_subcommand_are_refused(ebs):
    """They belong to the list; a command that took no notice of them would start or cancel all."""
    answer = ebs("waiting", "--kind", "mail", "cancel", "--all")
    assert (2, True) == (answer.exit_code, "put options after the subcommand" in answer.output)
