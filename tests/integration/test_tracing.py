"""One trace from the request to the last event, through a retry, a death and a redrive, on a real broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from broker_site import running_site
from collector import Collector, SeenSpan
from fleet import PATIENT, until

if TYPE_CHECKING:
    from pathlib import Path

    from api_process import ApiProcess
    from fleet import Fleet

SERVER, PRODUCER, CONSUMER = 2, 4, 5
TRACE_ID, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
UNSAMPLED_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SETTINGS = {"EBS_BACKOFF_S": "1", "EBS_MAX_ATTEMPTS": "2"}


class System(NamedTuple):
    """What the tests share. Tasks of the kind `slow` fail until the file `mended` is there."""

    collector: Collector
    api: ApiProcess
    fleet: Fleet
    mended: Path


@pytest.fixture(scope="module")
def system(shared_broker, tmp_path_factory):
    """Return a collector, an API and workers that send their spans there; each test has a trace of its own."""
    directory = tmp_path_factory.mktemp("system")
    with running_site(shared_broker, directory) as site, Collector() as collector:
        env = SETTINGS | collector.environment
        env["EBS_PROJECT"] = "traced_handler"
        env["MENDED_FILE"] = str(directory / "mended")
        with site.workers(**PATIENT, **env) as fleet, site.api(**env) as api:
            yield System(collector, api, fleet, directory / "mended")


def is_attempt(span: SeenSpan) -> bool:
    """Return whether it is of an attempt at a task."""
    return span.name == "process task-requests"


def state_of(api: ApiProcess, object_id: str) -> str:
    """Return an object's state."""
    return api.client.get(f"/api/objects/{object_id}").json().get("state", "")


def results_of(api: ApiProcess, object_id: str) -> set[str]:
    """Return what the handlers returned."""
    return {task["result"] for task in api.client.get(f"/api/objects/{object_id}/tasks").json()["tasks"]}


async def test_one_trace_goes_from_the_request_to_the_last_event(system):
    """Each span hangs on the one before; attempts on the failed ones, the redriven attempt on the one that died."""
    collector, api, fleet, mended = system
    headers = {"traceparent": f"00-{TRACE_ID}-{CLIENT_SPAN}-01"}
    slow = api.client.post("/api/objects", json={"kind": "slow", "tasks": 1}, headers=headers).json()["id"]
    await until(lambda: state_of(api, slow) == "FAILED", "the task to die", fleet=fleet)
    mended.touch()
    assert api.client.post("/api/dead-letters/redrive", json={"all": True}).is_success
    await until(lambda: state_of(api, slow) == "FINISHED", "the redrive to work", fleet=fleet)

    def spans() -> list[SeenSpan]:
        return [span for span in collector.spans if span.trace_id == TRACE_ID]

    def attempts() -> list[SeenSpan]:
        return [span for span in spans() if is_attempt(span)]

    def ends() -> list[SeenSpan]:
        """Return the spans of statistics that hang on the last attempt."""
        last = {span.span_id for span in attempts() if not span.is_error}
        return [span for span in spans() if span.parent_id in last]

    def are_all_there() -> bool:
        # Each process sends its spans when it likes: the last one to come may be the root.
        return len(attempts()) == 3 and len(ends()) == 2 and collector.chain(ends()[0])[-1] == "POST /api/objects"

    await until(are_all_there, lambda: what_was_seen(spans), fleet=fleet)
    sent = ["process task-requests"] * 3
    to_the_root = ["process objects", "send objects", "POST /api/objects"]
    assert ["process task-events", *sent, *to_the_root] == collector.chain(ends()[0])
    (root,) = [span for span in spans() if span.name == "POST /api/objects"]
    assert (CLIENT_SPAN, SERVER, "ebs-api", 202) == (
        root.parent_id,
        root.kind,
        root.service,
        root.attributes["http.response.status_code"],
    )
    kinds = {span.name: span.kind for span in spans()}
    assert (PRODUCER, CONSUMER) == (kinds["send objects"], kinds["process objects"])
    by_attempt = sorted((span.attributes["ebs.task.attempt"], span.is_error) for span in attempts())
    assert [(1, False), (1, True), (2, True)] == by_attempt
    failed = next(span for span in attempts() if span.is_error)
    expected = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "task-requests",
        "messaging.consumer.group.name": "ebs-processing",
        "ebs.object.id": slow,
        "ebs.task.id": f"{slow}-0",
        "error.type": "ConnectionError",
    }
    assert expected == {name: failed.attributes[name] for name in expected}
    finished = next(span for span in attempts() if not span.is_error)
    assert {finished.span_id} == results_of(api, slow)


async def test_handlers_see_their_span_and_untraced_records_make_none(system):
    """A coroutine runs within its span; a client that does not sample gets no span anywhere."""
    collector, api, fleet, _ = system
    unsampled = {"traceparent": f"00-{UNSAMPLED_TRACE_ID}-{CLIENT_SPAN}-00"}
    quiet = api.client.post("/api/objects", json={"kind": "quick", "tasks": 2}, headers=unsampled).json()["id"]
    await until(lambda: state_of(api, quiet) == "FINISHED", "the untraced object", fleet=fleet)
    traced = api.client.post("/api/objects", json={"kind": "quick", "tasks": 2}).json()["id"]
    await until(lambda: state_of(api, traced) == "FINISHED", "the traced object", fleet=fleet)

    def attempts() -> list[SeenSpan]:
        """Return the spans of attempts at these two objects."""
        ids = {quiet, traced}
        return [span for span in collector.spans if span.attributes.get("ebs.object.id") in ids and is_attempt(span)]

    await until(lambda: len(attempts()) == 2, "two spans of attempts", fleet=fleet)
    assert {traced} == {span.attributes["ebs.object.id"] for span in attempts()}
    assert {span.span_id for span in attempts()} == results_of(api, traced)
    assert [] == [span for span in collector.spans if span.trace_id == UNSAMPLED_TRACE_ID]


def what_was_seen(spans) -> str:
    """Return what was seen, for a failure's message."""
    return f"three attempts and two last events, of {[(span.name, span.service) for span in spans()]}"
