"""GET /api/workers: who lives, and who is gone."""

from __future__ import annotations

import msgspec
from plain_names import WORKERS

from api.control import schemas
from app.errors import BrokerUnavailable
from app.rules.worker_heartbeats import (
    GONE_AFTER_MS,
    RunningTask,
    WaitingCount,
    WorkerFigures,
    WorkerIdentity,
    heartbeat_of,
)

NOW_MS = 1_795_489_276_303


def beat(
    api,
    name: str,
    role: str = "processing",
    *,
    age_ms: int = 0,
    figures: WorkerFigures | None = None,
    queue: str = "default",
) -> None:
    """Let a worker have been heard some time ago."""
    identity = WorkerIdentity(name, role, "0.1.0", "host", 42, NOW_MS - 100_000, queue if role == "processing" else "")
    value = heartbeat_of(identity, figures or WorkerFigures(), NOW_MS - age_ms)
    api.topics.write(WORKERS, 0, identity.key(), value, timestamp_ms=NOW_MS - age_ms)


def names(answer) -> list[str]:
    """Return the workers of an answer."""
    return [worker.worker for worker in msgspec.convert(answer.json(), schemas.WorkerList).workers]


def test_nobody_lives_at_first(api):
    """No worker is no error."""
    assert (200, []) == (api.get("/api/workers").status_code, names(api.get("/workers")))


def test_worker_is_described_by_its_last_word(api):
    """Everything that it said last, running tasks with their progress among it."""
    beat(api, "p-1", age_ms=2_000)
    running = [RunningTask("a-0", 900, 0.4, "half"), RunningTask("b-0", 20)]
    waiting = [WaitingCount("retry", 2, NOW_MS)]
    beat(
        api,
        "p-1",
        figures=WorkerFigures(
            [0, 3],
            2,
            900,
            NOW_MS - 5,
            draining=True,
            running=running,
            waiting=waiting,
            abandoned=1,
            standing_still="tasks of kind mail wait although nothing holds them back",
            refused="the broker cannot read objects-3",
        ),
    )
    (worker,) = msgspec.convert(api.get("/api/workers").json(), schemas.WorkerList).workers
    assert {
        "worker": "p-1",
        "role": "processing",
        "at_ms": NOW_MS,
        "started_at_ms": NOW_MS - 100_000,
        "partitions": [0, 3],
        "in_flight": 2,
        "oldest_running_ms": 900,
        "last_progress_at_ms": NOW_MS - 5,
        "draining": True,
        "version": "0.1.0",
        "host": "host",
        "pid": 42,
        "waiting": [{"reason": "retry", "waiting_count": 2, "next_due_at_ms": NOW_MS}],
        "running": [
            {"task_id": "a-0", "for_ms": 900, "progress": 0.4, "message": "half"},
            {"task_id": "b-0", "for_ms": 20, "progress": None, "message": ""},
        ],
        "abandoned": 1,
        "standing_still": "tasks of kind mail wait although nothing holds them back",
        "refused": "the broker cannot read objects-3",
        "queue": "default",
    } == msgspec.to_builtins(worker)


def test_silent_worker_is_gone(api):
    """After ten seconds of silence, or at once when it said goodbye."""
    beat(api, "patient", age_ms=GONE_AFTER_MS)
    beat(api, "killed", age_ms=GONE_AFTER_MS + 1)
    beat(api, "stopped")
    api.topics.write(WORKERS, 0, b"processing/stopped", None)
    assert ["patient"] == names(api.get("/api/workers"))


def test_workers_are_in_order_and_can_be_narrowed_to_a_role(api):
    """By role and name; one name may serve several roles."""
    for name, role in (("p-2", "processing"), ("p-1", "processing"), ("p-1", "distribution")):
        beat(api, name, role)
    assert ["p-1", "p-1", "p-2"] == names(api.get("/api/workers"))
    assert ["p-1", "p-2"] == names(api.get("/api/workers?role=processing"))


def test_unknown_role_is_a_422(api):
    """A typo is named instead of answered with nobody."""
    answer = api.get("/api/workers?role=procesing")
    assert (422, "role") == (answer.status_code, answer.json()["errors"][0]["parameter"])


def test_broker_away_is_a_503_not_an_empty_list(api):
    """Nobody can be heard then, which does not mean that nobody lives."""
    beat(api, "p-1")
    api.topics.failure = BrokerUnavailable("nobody answers")
    assert 503 == api.get("/api/workers").status_code


def test_view_that_is_behind_is_a_503(api):
    """Heartbeats that are not read yet must not make their workers look gone."""
    api.topics.deliver_at_once = False
    beat(api, "p-1")
    assert 503 == api.get("/api/workers").status_code
