"""`ebs explain` against the API in memory."""

from __future__ import annotations

import json

import httpx
import pytest
from clocked_project import RATE_PER_S, RATED
from plain_names import TASK_EVENTS
from typer.testing import CliRunner
from waiting_rows import put_waiting

from app.errors import EbsError
from app.events import (
    JOIN_SEQUENCE,
    SPLIT_SEQUENCE,
    ObjectCreated,
    Parent,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    encode,
    task_id_of,
)
from ebs.cli import cli

AT_MS = 1_795_489_276_303


class ThroughApi(httpx.BaseTransport):
    """Hands a client's requests to the application in memory."""

    def __init__(self, api) -> None:
        self._api = api

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as the application does."""
        answer = self._api.request(request.method, str(request.url.raw_path, "ascii"), headers=dict(request.headers))
        return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers, request=request)


@pytest.fixture
def explain(api):
    """Return a function that runs `ebs explain` with arguments."""

    def run(*arguments: str):
        return CliRunner().invoke(cli, ["explain", *arguments], obj=ThroughApi(api))

    return run


@pytest.fixture
def story(api) -> str:
    """Return an object of two tasks, of which one was retried and finished, the other one still waits."""
    object_id = api.post(json={"tasks": 2}).json()["id"]
    partition = api.view.partition_of(object_id)

    def common(sequence: int, attempt: int, at_ms: int) -> tuple:
        return (object_id, task_id_of(object_id, sequence), partition, "default", sequence, 2, attempt, AT_MS + at_ms)

    for event in (
        TasksCreated("c-a", object_id, partition, "default", 0, 2, 2, AT_MS + 20),
        TaskStarted("s-0-1", *common(0, 1, 30), "w-1", 10),
        TaskFailed("x-0-1", *common(0, 1, 80), "w-1", 10, 50, "ValueError: no"),
        TaskRetried("t-0-1", *common(0, 1, 80), "w-1", 10, 50, "ValueError: no"),
        TaskStarted("s-0-2", *common(0, 2, 1_100), "w-2", 5),
        TaskFinished("f-0", *common(0, 2, 4_200), "w-2", 5, 100),
    ):
        api.topics.write(TASK_EVENTS, partition, object_id.encode(), encode(event))
    return object_id


def test_timeline_is_shown_with_its_gaps(explain, story):
    """Each span has its length, its attempt and worker, and what ended it; work that was begun again says so."""
    result = explain(story)
    assert 0 == result.exit_code, result.output
    lines = [" ".join(line.replace("│", " ").split()) for line in result.stdout.splitlines()]
    assert f"{story} is PROCESSING, created" in lines[0]
    assert "0.020 s until it was distributed into 2 tasks" in lines[0]
    rows = [line.split(" ", 2) for line in lines if "wait" in line or " work " in line]
    assert [
        "0.010 s queue wait 1 - TASK_STARTED",
        "0.050 s work 1 w-1 TASK_FAILED: ValueError: no",
        "1.015 s retry wait 1 - due",
        "0.005 s queue wait 2 - TASK_STARTED",
        "3.100 s work 2 w-2 TASK_FINISHED, begun again: the handler took 0.100 s",
        "0.000 s queue wait 1 - goes on",
    ] == [" ".join(row).split(" ", 2)[2] if row[0] in {"0", "1"} else " ".join(row[1:]) for row in rows]


def test_json_has_the_sums(explain, story):
    """`--json` has the same for programs, with a sum for each sort of span."""
    result = explain(story, "--json")
    told = json.loads(result.stdout)
    first, second = told["tasks"]
    assert (story, "PROCESSING", 20, None) == (
        told["object_id"],
        told["state"],
        told["distribution_ms"],
        told["ended_at_ms"],
    )
    assert (15, 3_150, 1_015, 0) == tuple(
        first[name] for name in ("queue_wait_ms", "work_ms", "retry_wait_ms", "dead_ms")
    )
    assert [True] == [span["goes_on"] for span in second["spans"]]


def test_split_and_join_are_reported_by_name_and_in_the_order_of_work(explain, api):
    """The split first, the join last: they are no tasks that the object was split into."""
    object_id = api.post(json={}).json()["id"]
    partition = api.view.partition_of(object_id)

    def common(sequence: int, at_ms: int) -> tuple:
        return (object_id, task_id_of(object_id, sequence), partition, "default", sequence, 2, 1, AT_MS + at_ms)

    for event in (
        TasksCreated("c-s", object_id, partition, "default", SPLIT_SEQUENCE, 1, 1, AT_MS + 20, role="split"),
        TaskStarted("s-s", *common(SPLIT_SEQUENCE, 30), "w-1", 10, role="split"),
        TaskFinished("f-s", *common(SPLIT_SEQUENCE, 40), "w-1", 10, 10, role="split"),
        TasksCreated("c-a", object_id, partition, "default", 0, 2, 2, AT_MS + 40, joins=True),
        TasksCreated("c-j", object_id, partition, "default", JOIN_SEQUENCE, 1, 1, AT_MS + 90, role="join"),
    ):
        api.topics.write(TASK_EVENTS, partition, object_id.encode(), encode(event))
    told = explain(object_id)
    assert "0.020 s until it was distributed, split into 2 tasks" in " ".join(told.stdout.split())
    rows = [line.replace("│", " ").split()[0] for line in told.stdout.splitlines() if "queue wait" in line]
    assert ["split", "0", "1", "join"] == rows
    tasks = json.loads(explain(object_id, "--json").stdout)["tasks"]
    assert ["split", "task", "task", "join"] == [task["role"] for task in tasks]


def test_parent_of_the_object_is_shown(explain, api):
    """A task of another object, if it was one."""
    child = ObjectCreated(object_id="c", name="n", at_ms=AT_MS, parent=Parent("p", "p-join"), depth=1)
    api.topics.write_object(child)
    assert "submitted by task p-join" in explain("c").stdout
    assert {"object_id": "p", "task_id": "p-join"} == json.loads(explain("c", "--json").stdout)["parent"]


def test_object_that_is_not_distributed_yet_is_explained(explain, api):
    """There is not much to tell."""
    result = explain(api.post().json()["id"])
    assert (0, True) == (result.exit_code, "not distributed yet" in result.output)


def test_unknown_object_is_a_sentence_and_exit_code_1(explain):
    """No traceback, no empty table."""
    result = explain("unknown")
    assert isinstance(result.exception, EbsError)
    assert "there is no object unknown" == str(result.exception)


def test_delay_is_called_so_and_tells_until_when(explain, api):
    """Also while the task waits: the table of waiting tasks tells what for."""
    object_id = api.post(json={"delay_s": 3_600, "tasks": 1}).json()["id"]
    partition = api.view.partition_of(object_id)
    created = TasksCreated("c", object_id, partition, "default", 0, 1, 1, AT_MS)
    api.topics.write(TASK_EVENTS, partition, object_id.encode(), encode(created))
    put_waiting(api, object_id, 3_600, kind="default")
    answer = explain(object_id)
    assert 0 == answer.exit_code, answer.output
    assert "delay" in answer.output
    assert "goes on until 20" in answer.output
    assert "queue wait" not in answer.output
    (task,) = json.loads(explain(object_id, "--json").stdout)["tasks"]
    assert ("delay", AT_MS + 3_600_000) == (task["spans"][-1]["what"], task["spans"][-1]["due_at_ms"])


def test_wait_for_a_limit_of_the_project_names_the_limit(make_api):
    """And the command that sets another one."""
    api = make_api(project="clocked_project")
    object_id = api.post(json={"kind": RATED}).json()["id"]
    partition = api.view.partition_of(object_id)
    created = TasksCreated("c", object_id, partition, RATED, 0, 1, 1, AT_MS)
    api.topics.write(TASK_EVENTS, partition, object_id.encode(), encode(created))
    put_waiting(api, object_id, 0, kind=RATED, in_line=True)
    ran = CliRunner().invoke(cli, ["explain", object_id], obj=ThroughApi(api))
    said = " ".join(ran.stdout.split())
    assert "goes on: waits for its kind" in said
    assert f"limit of kind {RATED}: {RATE_PER_S} start a second (of the project; `ebs limit {RATED}`" in said
