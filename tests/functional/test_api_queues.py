"""GET /api/queues, `ebs queues`, the metrics and pages by queue: who works a queue, and what waits in it."""

from __future__ import annotations

import json

import pytest
from plain_names import WORKERS
from prometheus_client.parser import text_string_to_metric_families
from queued_project import EMBED, MAIL, QUEUE

from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey
from app.rules.worker_heartbeats import WorkerFigures, WorkerIdentity, heartbeat_of

NOW_MS = 1_795_489_276_303


@pytest.fixture
def api(make_api):
    """Return an API with a project of two queues; six tasks of `embed` wait, two of an unknown kind."""
    api = make_api(project="queued_project")
    for kind, counts in (
        (EMBED, Counts(tasks_created=9, queued_now=6, in_progress_now=3)),
        ("odd", Counts(queued_now=2)),
    ):
        api.topics.write_window(WindowKey(TOTAL_SIZE_MS, 0, kind), counts, 0)
    return api


def beat(api, name: str, queue: str, in_flight: int = 0) -> None:
    """Let a worker live."""
    identity = WorkerIdentity(name, "processing", "0.1.0", "host", 42, NOW_MS, queue)
    value = heartbeat_of(identity, WorkerFigures([0], in_flight), NOW_MS)
    api.topics.write(WORKERS, 0, identity.key(), value, timestamp_ms=NOW_MS)


def test_each_queue_is_listed_with_its_kinds_and_workers(api):
    """Also a queue that no kind has any more, as long as somebody works it."""
    beat(api, "p-1", "default", 1)
    beat(api, "p-1", "old")
    queues = {one["name"]: one for one in api.get("/api/queues").json()["queues"]}
    assert ["default", QUEUE, "old"] == list(queues)
    assert [1, 0, 1] == [one["workers_count"] for one in queues.values()]
    assert {"name": QUEUE, "topic": "task-requests-gpu", "kinds": [EMBED], "workers_count": 0, "in_flight": 0} == {
        name: queues[QUEUE][name] for name in ("name", "topic", "kinds", "workers_count", "in_flight")
    }
    assert (6, 3) == (queues[QUEUE]["tasks_queued"], queues[QUEUE]["tasks_in_progress"])
    assert ([MAIL, "odd"], 1, 2) == (
        queues["default"]["kinds"],
        queues["default"]["in_flight"],
        queues["default"]["tasks_queued"],
    )


@pytest.mark.parametrize(("kind", "queue"), [(EMBED, QUEUE), (MAIL, "default"), ("never-seen", "default")])
def test_queue_of_one_kind_can_be_asked_for(api, kind, queue):
    """Whether or not a task of the kind was ever seen."""
    assert [queue] == [one["name"] for one in api.get(f"/api/queues?kind={kind}").json()["queues"]]


def test_workers_of_one_queue_can_be_asked_for(api):
    """Two workers of two queues may have one name."""
    beat(api, "p-1", "default")
    beat(api, "p-1", QUEUE)
    for queue in ("default", QUEUE):
        workers = api.get(f"/api/workers?queue={queue}").json()["workers"]
        assert [("p-1", queue)] == [(one["worker"], one["queue"]) for one in workers]
    assert 2 == len(api.get("/api/workers").json()["workers"])


def test_metrics_tell_workers_and_tasks_by_queue(api):
    """An alert sees a queue although nobody works it; kinds of clients make no labels."""
    beat(api, "p-1", "default")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(api.get("/metrics").text)
        for sample in family.samples
    }
    role = ("role", "processing")
    assert (1, 0) == tuple(samples["ebs_workers", ("queue", name), role] for name in ("default", QUEUE))
    states = [samples["ebs_queue_tasks", ("queue", QUEUE), ("state", state)] for state in ("queued", "in_progress")]
    assert [6, 3] == states
    assert {"default", QUEUE} == {dict(key[1:])["queue"] for key in samples if key[0] == "ebs_queue_tasks"}


def shown(api, path: str) -> str:
    """Return a page."""
    return api.request("GET", path, headers={"accept": "text/html"}).text


@pytest.mark.parametrize("path", ["/", "/workers"])
def test_pages_show_the_queue_that_nobody_works(api, path):
    """With its name, and on the page of workers with the command that starts a worker."""
    beat(api, "p-1", "default")
    page = shown(api, path)
    assert QUEUE in page
    if path == "/workers":
        assert "EBS_QUEUE=gpu faust -A agents.processing worker" in page
        beat(api, "p-2", QUEUE)
        page = shown(api, path)
        assert "processing gpu" in page
        assert "EBS_QUEUE=gpu" not in page


def test_command_lists_queues_and_says_how_to_start_a_worker(api, ebs):
    """In a table, or as JSON."""
    beat(api, "p-1", "default")
    told = ebs("queues")
    assert 0 == told.exit_code, told.output
    assert "no processing worker of the queue gpu is running" in told.stdout
    assert "EBS_QUEUE=gpu faust -A agents.processing worker, or ebs up" in told.stdout
    assert "the queue default" not in told.stdout
    assert ["default", QUEUE] == [one["name"] for one in json.loads(ebs("queues", "--json").stdout)["queues"]]


def test_explain_looks_at_the_workers_of_the_objects_queue(api, ebs):
    """Workers of another queue do not start its tasks."""
    beat(api, "p-1", "default")
    ids = {
        kind: api.post("/api/objects", json={"kind": kind, "tasks": [{"content": 1}]}).json()["id"]
        for kind in (EMBED, MAIL)
    }
    assert "no processing worker of the queue gpu is running" in ebs("explain", ids[EMBED]).stdout
    assert "is running" not in ebs("explain", ids[MAIL]).stdout
