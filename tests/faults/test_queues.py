"""Two queues on one system: each has workers of its own, and what becomes of these is nothing to the other queue.

All tests share one system, in their order. Each is over when its objects have ended; the last one checks all topics.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from api_process import PATIENCE_S, until
from broker_site import PARTITIONS, running_site
from checker import differences, request_topics
from fleet import PATIENT, TAKEN_OVER, Fleet, said
from plain_names import WORKERS
from queued_project import EMBED, MAIL, QUEUED

from app.kafka.cluster import Cluster
from app.names import BARE
from app.topics.queues import retired_queues

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_process import ApiProcess
    from broker_site import Site
    from shared_broker import SharedBroker

GPU = "task-requests-gpu"
DEFAULT = "task-requests"
OF_GPU = TAKEN_OVER | {"EBS_QUEUE": "gpu"}


class Queues(NamedTuple):
    """The system: its API, its workers, and the file that mends `embed`."""

    site: Site
    api: ApiProcess
    fleet: Fleet
    mended: Path

    def start(self, name: str, role: str = "processing", **environment: str) -> None:
        """Start a worker and wait until it is ready."""
        worker = self.fleet.start(role, name, **environment)
        until(lambda: said([worker], "are ready: "), self.fleet.last_words)

    def submit(self, kind: str, content: Any, count: int = 1, **fields: Any) -> list[str]:
        """Submit objects, and return their ids."""
        body = {"kind": kind, "content": content, **fields} | ({"tasks": 1} if kind == MAIL else {})
        answer = self.api.client.post("/api/objects", json=body, params={"count": count})
        assert 202 == answer.status_code, answer.text
        ids: list[str] = answer.json()["ids"]
        return ids

    def listed(self, api: ApiProcess) -> list[str]:
        """Return the queue of each waiting task that an API lists."""
        return [one["queue"] for one in api.client.get("/api/waiting").json().get("tasks", ())]

    def state(self, object_id: str) -> str:
        """Return an object's state."""
        state: str = self.api.client.get(f"/api/objects/{object_id}").json().get("state", "")
        return state

    def finish(self, *object_ids: str) -> list[Any]:
        """Wait until objects have finished, and return their results."""
        until(lambda: all(self.state(one) == "FINISHED" for one in object_ids), self.fleet.last_words, 2 * PATIENCE_S)
        return [self.api.client.get(f"/api/objects/{one}").json()["result"] for one in object_ids]

    def waiting(self) -> int:
        """Return how many tasks wait in tables, as the workers of gpu say."""
        workers = self.api.client.get("/api/workers?queue=gpu").json()["workers"]
        return sum(one["waiting_count"] for worker in workers for one in worker["waiting"])

    def requests(self) -> dict[str, set[str]]:
        """Return the kinds of the requests on each topic of a queue."""
        return {topic: {json.loads(one.value)["kind"] for one in self.site.read(topic)} for topic in (GPU, DEFAULT)}

    def forget_workers(self, prefix: str) -> None:
        """Delete the heartbeats of workers, as the retention of their topic does after an hour."""
        keys = {one.key for one in self.site.read(WORKERS) if one.key.startswith(prefix.encode())}

        async def delete() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.site.broker.bootstrap) as producer:
                for key in keys:
                    await producer.send_and_wait(WORKERS, None, key, partition=0)

        assert keys
        asyncio.run(delete())
        until(lambda: not self.api.client.get("/api/workers?queue=gpu").json()["workers"], "the API to forget them")

    def doctor(self, **environment: str) -> dict[str, str]:
        """Return what the doctor says of groups, queues and topics that is wrong: fixes by subject."""
        env = self.fleet.environment() | {"EBS_API_URL": str(self.api.client.base_url)} | environment
        argv = [sys.executable, "-m", "ebs", "doctor", "--json"]
        ran = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
        assert ran.returncode < 2, ran.stderr
        wrong = [one for one in json.loads(ran.stdout) if one["severity"] == "error"]
        return {one["subject"]: one["fix"] for one in wrong}


@pytest.fixture(scope="module")
def queues(shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Queues]:
    """Return a system with two workers of the queue gpu, and one of each other group."""
    directory = tmp_path_factory.mktemp("queues")
    common = QUEUED | {"EBS_TEST_MENDED": str(directory / "mended"), "EBS_PARTITIONS": str(PARTITIONS)}
    with running_site(shared_broker, directory) as site:
        fleet = Fleet(site.broker.bootstrap, directory, common)
        try:
            with site.api(**common) as api:
                for role in ("distribution", "processing", "statistics"):
                    fleet.start(role, **PATIENT)
                for number in (1, 2):
                    fleet.start("processing", f"gpu-{number}", **OF_GPU)
                until(lambda: said(fleet.workers.values(), "are ready: "), fleet.last_words)
                yield Queues(site, api, fleet, directory / "mended")
        finally:
            fleet.stop()


def test_each_kind_runs_in_its_queue(queues: Queues) -> None:
    """Its split and its join, too: the results name the queue of the worker, the topics have no other kind."""
    books = queues.submit(EMBED, ["a", "b", "c"], 5)
    mails = queues.submit(MAIL, "hello", 5)
    assert [{"pages": ["a", "b", "c"], "queues": ["gpu"]}] * 5 == queues.finish(*books)
    queues.finish(*mails)
    assert {GPU: {EMBED}, DEFAULT: {MAIL}} == queues.requests()
    told = {one["name"]: one for one in queues.api.client.get("/api/queues").json()["queues"]}
    assert (2, 1) == (told["gpu"]["workers_count"], told["default"]["workers_count"])
    assert {} == queues.doctor()


def test_worker_of_a_misspelt_queue_is_refused(queues: Queues) -> None:
    """It would wait for ever: exit code 1, and the name that was meant; no topic is made."""
    worker = queues.fleet.start("processing", "misspelt", EBS_QUEUE="gup", **PATIENT)
    until(lambda: worker.exit_code is not None, queues.fleet.last_words)
    assert 1 == queues.fleet.workers.pop("misspelt").exit_code
    said = (
        'EBS_QUEUE=gup: no kind of the project has this queue (did you mean "gpu"?), and it has no topic from earlier'
    )
    assert said in worker.log()
    assert "task-requests-gup" not in asyncio.run(request_topics(queues.site.broker.bootstrap))


def test_queue_goes_on_while_the_workers_of_the_other_are_gone(queues: Queues) -> None:
    """Tasks wait on the log and in the table meanwhile, and run once when a worker comes back.

    What an hour adds: rows are long due, and the last words of the workers are gone from `workers`.
    """
    due_at_s = time.time() + 10
    later = queues.submit(EMBED, ["y"], 20, delay_s=10)
    until(lambda: queues.waiting() >= 20, queues.fleet.last_words)
    for number in (1, 2):
        queues.fleet.kill(f"gpu-{number}")
    books = queues.submit(EMBED, ["a", "b"], 20)
    queues.forget_workers("processing.gpu/")
    for _ in range(5):
        queues.finish(*queues.submit(MAIL, "hello", 20))
    until(lambda: time.time() > due_at_s, "the rows to be due")
    assert {"DISTRIBUTED"} == {queues.state(book) for book in (*books, *later)}
    command = "EBS_QUEUE=gpu faust -A agents.processing worker"
    until(lambda: command in queues.doctor().get("ebs-processing-gpu", ""), "the doctor to see it")
    queue = next(one for one in queues.api.client.get("/api/queues").json()["queues"] if one["name"] == "gpu")
    assert 40 == queue["tasks_queued"]
    assert queues.fleet.revive() == ["gpu-1", "gpu-2"]
    assert [{"pages": ["a", "b"], "queues": ["gpu"]}] * 20 == queues.finish(*books)
    assert [{"pages": ["y"], "queues": ["gpu"]}] * 20 == queues.finish(*later)


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_rows_of_a_queue_survive_its_worker(queues: Queues, fault: str) -> None:
    """Retries and delays wait in the queue's own table, which the other worker of the queue restores."""
    books = queues.submit(EMBED, ["retry", 0.2, "x"], 20)
    later = queues.submit(EMBED, ["y"], 5, delay_s=10)
    until(lambda: queues.waiting() >= 20, queues.fleet.last_words)
    mails = queues.submit(MAIL, "hello", 10)
    getattr(queues.fleet, fault)("gpu-1")
    queues.finish(*mails)
    assert [{"pages": ["retry", 0.2, "x"], "queues": ["gpu"]}] * 20 == queues.finish(*books)
    assert [{"pages": ["y"], "queues": ["gpu"]}] * 5 == queues.finish(*later)
    if fault == "freeze":
        # It ends if something of it was under way, or joins its group again.
        queues.fleet.thaw("gpu-1")
    queues.fleet.revive()


def test_redriven_dead_letter_goes_back_to_its_queue(queues: Queues) -> None:
    """Also one that is edited; an edit of the kind sends it to the queue of that kind."""
    book, other = (queues.submit(EMBED, ["fail"])[0] for _ in range(2))
    until(lambda: {queues.state(book), queues.state(other)} == {"FAILED"}, queues.fleet.last_words)
    letters = queues.api.client.get("/api/dead-letters").json()["dead_letters"]
    by_object = {one["object_id"]: one["id"] for one in letters}
    queues.mended.touch()
    for object_id, payload in ((book, None), (other, {"kind": MAIL})):
        body = {} if payload is None else {"payload": payload}
        answer = queues.api.client.post(f"/api/dead-letters/{by_object[object_id]}/redrive", json=body)
        assert 202 == answer.status_code, answer.text
    assert [{"pages": ["fail"], "queues": ["gpu"]}] == queues.finish(book)
    task = f"/api/objects/{other}/tasks/0"
    until(lambda: queues.api.client.get(task).json()["state"] == "FINISHED", queues.fleet.last_words)
    redriven = {
        topic: [json.loads(one.value)["object_id"] for one in queues.site.read(topic) if b'"redrive":1' in one.value]
        for topic in (GPU, DEFAULT)
    }
    assert {GPU: [book], DEFAULT: [other]} == redriven


def test_kind_that_gets_another_queue_loses_nothing(queues: Queues) -> None:
    """What waits in the old queue, in its log and its table, moves as soon as a worker of the old queue runs."""
    later = queues.submit(EMBED, ["later"], 5, delay_s=40)
    until(lambda: queues.waiting() >= 5, queues.fleet.last_words)
    until(lambda: queues.listed(queues.api) == ["gpu"] * 5, "the API to list them")
    for number in (1, 2):
        queues.fleet.kill(f"gpu-{number}")
    books = queues.submit(EMBED, ["a", "b"], 10)
    until(lambda: {queues.state(one) for one in books} == {"DISTRIBUTED"}, queues.fleet.last_words)
    changed = {"EBS_TEST_QUEUE": "default"}
    for name in ("distribution-1", "statistics-1", "processing-1"):
        queues.fleet.kill(name)
        queues.fleet.workers[name].env |= changed
    for name in ("distribution", "statistics", "processing"):
        queues.start(f"{name}-1", name, **(PATIENT | changed))
    queues.finish(*queues.submit(MAIL, "hello", 5))
    assert {"DISTRIBUTED"} == {queues.state(one) for one in books}
    bootstrap = queues.site.broker.bootstrap
    assert ["gpu"] == asyncio.run(retired_queues(Cluster(bootstrap), BARE, ("default",)))
    fix = "until nothing is left: EBS_QUEUE=gpu faust -A agents.processing worker"
    until(lambda: fix in queues.doctor(**changed).get(GPU, ""), "the doctor to see it")
    with queues.site.api(**(QUEUED | changed)) as api:
        until(
            lambda: queues.listed(api) == ["gpu"] * 5, "an API with the new project to list what waits in the old queue"
        )
    queues.start("gpu-1", **(OF_GPU | changed))
    assert [["default"]] * 15 == [one["queues"] for one in queues.finish(*books, *later)]
    assert 0 == queues.waiting()
    assert GPU not in queues.doctor(**changed)


def test_nothing_is_lost_and_nothing_counts_twice(queues: Queues) -> None:
    """What all topics say of the tests before: every request, event, result and end, and the recount."""
    found = asyncio.run(differences(queues.site.broker.bootstrap, all_finished=False))
    assert [] == found, "\n".join(itertools.chain(found, [queues.fleet.last_words()]))
