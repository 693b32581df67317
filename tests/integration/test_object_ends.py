"""How objects with a split and a join end: completed by two workers at once, by a redrive, cancelled, or dead."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from api_process import until
from broker_site import running_site
from checker import differences
from ending_project import ATTEMPTS, BROKEN, ENDING, GATED, LARGE, NEVER
from fleet import PATIENT, said

from app.names import BARE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_process import ApiProcess
    from broker_site import Site
    from shared_broker import SharedBroker

AT_ONCE = 12
"""Objects whose tasks finish in the same moment."""


class System(NamedTuple):
    """A site with an API, one worker of each role and a second one that runs functions."""

    site: Site
    api: ApiProcess
    gates: Path

    def submit(self, kind: str, content: int, name: str = "") -> str:
        """Submit an object, and return its id."""
        body = {"kind": kind, "name": name or "an object", "content": content}
        object_id: str = self.api.client.post("/api/objects", json=body).json()["id"]
        return object_id

    def open(self, gate: str) -> None:
        """Let all functions pass that wait for a gate."""
        (self.gates / gate).touch()

    def ended(self, object_id: str) -> dict[str, Any]:
        """Return an object once it has ended."""
        answer: dict[str, Any] = self.api.client.get(
            f"/api/objects/{object_id}", params={"wait": 60, "until": "end"}, timeout=90
        ).json()
        return answer

    def until_state(self, object_id: str, task: str, state: str) -> dict[str, Any]:
        """Wait until a task is in a state, and return it."""

        def told() -> Any:
            answer = self.api.client.get(f"/api/objects/{object_id}/tasks/{task}")
            return answer.json() if answer.is_success and answer.json()["state"] == state else None

        found: dict[str, Any] = until(told, f"task {task} of {object_id} to be {state}")
        return found

    def cancel(self, object_id: str) -> None:
        """Cancel an object."""
        assert self.api.client.delete(f"/api/objects/{object_id}").is_success

    def ends(self, object_id: str) -> list[tuple[Any, ...]]:
        """Return the ends of an object as its neighbours hear them: type, tasks finished, dead and cancelled."""
        events = [json.loads(record.value) for record in self.site.read(BARE.object_events)]
        fields = ("type", "tasks_finished", "tasks_dead", "tasks_cancelled")
        return [tuple(one[field] for field in fields) for one in events if one["object_id"] == object_id]

    def started(self, object_id: str) -> set[str]:
        """Return which tasks of an object have ever started."""
        events = [json.loads(record.value) for record in self.site.read(BARE.task_events)]
        of_object = [one for one in events if one["object_id"] == object_id]
        return {one["task_id"].removeprefix(f"{object_id}-") for one in of_object if one["type"] == "TASK_STARTED"}

    def workers(self, object_id: str) -> list[str]:
        """Return the workers that run tasks of an object now, as their heartbeats say."""
        tasks = self.api.client.get(f"/api/objects/{object_id}/tasks").json()["tasks"]
        return [task["worker"] for task in tasks if task["role"] == "task" and task["worker"]]


@pytest.fixture(scope="module")
def system(shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Return a system; when all tests have used it, a recount of all topics must be exact."""
    gates = tmp_path_factory.mktemp("gates")
    settings = {**ENDING, "ENDING_GATES": str(gates)}
    with (
        running_site(shared_broker, tmp_path_factory.mktemp("system")) as site,
        site.workers(**PATIENT, **settings) as fleet,
        site.api(**settings) as api,
    ):
        fleet.start("processing", "processing-2")
        until(lambda: said(fleet.workers.values(), "are ready: "), fleet.last_words)
        yield System(site, api, gates)
        assert [] == asyncio.run(differences(site.broker.bootstrap)), fleet.last_words()


def test_last_two_tasks_may_finish_at_two_workers_in_the_same_moment(system: System) -> None:
    """Whichever transaction is first: one join, one end."""
    gate = "task-at-once"
    ids = [system.submit(GATED, 2, gate) for _ in range(AT_ONCE)]

    def run_at() -> list[list[str]] | None:
        found = [system.workers(one) for one in ids]
        return found if all(len(one) == 2 for one in found) else None

    workers: list[list[str]] = until(run_at, "both tasks of all objects to run")
    assert [one for one in workers if len(set(one)) == 2], "no object has its tasks at two workers"
    system.open(gate)
    assert [[0, 1]] * AT_ONCE == [system.ended(one)["result"] for one in ids]
    assert [[("OBJECT_FINISHED", 2, 0, 0)]] * AT_ONCE == [system.ends(one) for one in ids]


def test_redrive_that_completes_an_object_joins_it(system: System) -> None:
    """The neighbours hear of both ends."""
    object_id = system.submit(BROKEN, 3, "mended")
    assert "FAILED" == system.ended(object_id)["state"]
    assert "join" not in system.started(object_id)
    system.open("mended")
    (letter,) = until(
        lambda: [
            one
            for one in system.api.client.get("/api/dead-letters").json()["dead_letters"]
            if one["task_id"] == f"{object_id}-2"
        ],
        "the dead letter",
    )
    assert system.api.client.post(f"/api/dead-letters/{letter['id']}/redrive").is_success
    told = until(
        lambda: one if (one := system.ended(object_id))["state"] == "FINISHED" else None, "the object to finish"
    )
    assert [0, 1, 2] == told["result"]
    assert [("OBJECT_FAILED", 2, 1, 0), ("OBJECT_FINISHED", 3, 0, 0)] == system.ends(object_id)


def test_object_is_cancelled_while_it_is_split(system: System) -> None:
    """It gets no tasks."""
    object_id = system.submit(GATED, 3, "split-for-ever")
    system.until_state(object_id, "split", "IN_PROGRESS")
    system.cancel(object_id)
    told = system.ended(object_id)
    assert ("CANCELLED", 0) == (told["state"], told["tasks_total"])
    assert {"split"} == system.started(object_id)
    assert [("OBJECT_CANCELLED", 0, 0, 0)] == system.ends(object_id)


def test_object_is_cancelled_between_its_split_and_its_tasks(system: System) -> None:
    """They end without a start, and there is no join."""
    object_id = system.submit(GATED, 3, "split-while-paused")
    system.until_state(object_id, "split", "IN_PROGRESS")
    assert system.api.client.post("/api/control/pause", json={"kind": GATED}).is_success
    system.open("split-while-paused")
    system.until_state(object_id, "2", "QUEUED")
    system.cancel(object_id)
    assert "CANCELLED" == system.ended(object_id)["state"]
    assert system.api.client.post("/api/control/resume", json={"kind": GATED}).is_success
    assert {"split"} == system.started(object_id)
    assert [("OBJECT_CANCELLED", 0, 0, 3)] == system.ends(object_id)


def test_object_is_cancelled_while_it_is_joined(system: System) -> None:
    """Its tasks have finished."""
    object_id = system.submit(GATED, 2, "join-for-ever")
    system.until_state(object_id, "join", "IN_PROGRESS")
    system.cancel(object_id)
    told = system.ended(object_id)
    assert ("CANCELLED", 2, None) == (told["state"], told["tasks_done"], told["result"])
    assert [("OBJECT_CANCELLED", 2, 0, 0)] == system.ends(object_id)


@pytest.mark.parametrize(("count", "result"), [(0, []), (1, [0]), (10_000, [10_000, sum(range(10_000))])])
def test_object_is_split_into_as_many_tasks_as_the_split_returns(system: System, count: int, result: list[int]) -> None:
    """From none to the most that are allowed."""
    object_id = system.submit(GATED, count)
    told = system.ended(object_id)
    assert ("FINISHED", count, result) == (told["state"], told["tasks_done"], told["result"])
    assert [("OBJECT_FINISHED", count, 0, 0)] == system.ends(object_id)


def test_split_that_fails_every_attempt_fails_its_object(system: System) -> None:
    """The object has no tasks, and the dead letter names the error."""
    object_id = system.submit(NEVER, 1)
    told = system.ended(object_id)
    assert ("FAILED", 0) == (told["state"], told["tasks_total"])
    split = system.until_state(object_id, "split", "DEAD")
    assert [("ValueError: no lines", number + 1) for number in range(ATTEMPTS)] == [
        (one["error"], one["number"]) for one in split["attempt_history"]
    ]
    assert [("OBJECT_FAILED", 0, 0, 0)] == system.ends(object_id)


def test_results_that_are_too_large_to_be_joined_fail_the_join(system: System) -> None:
    """At its first attempt, with what to do instead."""
    object_id = system.submit(LARGE, 2)
    assert "FAILED" == system.ended(object_id)["state"]
    join = system.until_state(object_id, "join", "DEAD")
    (attempt,) = join["attempt_history"]
    assert "return references instead of the data" in attempt["error"]
    assert [("OBJECT_FAILED", 2, 0, 0)] == system.ends(object_id)
