"""Many dead tasks, one redrive by filter, workers that finish them, and a recount of everything."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from api_process import ApiProcess, until
from checker import differences
from fleet import PATIENT
from plain_names import DEAD_LETTERS, TASK_EVENTS, TASK_REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_site import Site

PATH = "/api/dead-letters"
TASKS_PER_OBJECT = 4


class Outcome(NamedTuple):
    """What came of it: durations in seconds, and what a recount of the topics finds wrong, as sentences."""

    dying_s: float
    redriving_s: float
    finishing_s: float
    run: dict[str, Any]
    wrong: list[str]


def mass_redrive(site: Site, task_count: int, patience_s: float) -> Outcome:
    """Let tasks die, mend what they need, redrive all by their error, and wait until they are finished."""
    mended = site.directory / "mended"
    environment = {
        "EBS_PROJECT": "mended_handler",
        "EBS_MAX_ATTEMPTS": "1",
        "MENDED_FILE": str(mended),
        **PATIENT,
    }
    began_at_s = time.monotonic()
    per_object = {"EBS_TASKS_PER_OBJECT": str(TASKS_PER_OBJECT)}
    with site.workers(**environment, **per_object) as fleet, site.api(**per_object) as api:
        accepted = []
        for _ in range(0, task_count, 1_000):
            count = min(task_count, 1_000) // TASKS_PER_OBJECT
            accepted += api.client.post("/api/objects", params={"count": count}, json={"name": "mass"}).json()["ids"]

        def wait(condition: Callable[[], Any]) -> Any:
            return until(condition, fleet.last_words, patience_s)

        wait(lambda: _figures(api)["tasks_dead"] == task_count)
        group = wait(lambda: _group(api, task_count))
        dead_at_s = time.monotonic()
        mended.touch()
        started = api.client.post(f"{PATH}/redrive", json={"fingerprint": group["fingerprint"]})
        run = wait(lambda: ended(api, started.headers["location"]))
        redriven_at_s = time.monotonic()
        figures = wait(lambda: _settled(api, task_count))
        finished_at_s = time.monotonic()
        wrong = [f"{one} is not FINISHED" for one in accepted if _state(api, one) != "FINISHED"]
        wrong += _wrong_figures(figures, task_count)
    wrong += _wrong_topics(site, task_count)
    wrong += asyncio.run(differences(site.broker.bootstrap, accepted=accepted, task_count=TASKS_PER_OBJECT))
    spent_s = (dead_at_s - began_at_s, redriven_at_s - dead_at_s, finished_at_s - redriven_at_s)
    return Outcome(*spent_s, run, wrong)


def ended(api: ApiProcess, path: str) -> dict[str, Any] | None:
    """Return a run if it has ended."""
    run: dict[str, Any] = api.client.get(path).json()
    return run if run["state"] != "RUNNING" else None


def _figures(api: ApiProcess) -> dict[str, Any]:
    figures: dict[str, Any] = api.client.get("/api/statistics").json()
    return figures


def _group(api: ApiProcess, count: int) -> dict[str, Any] | None:
    """Return the one group of all letters, once the view has read them all."""
    groups: list[dict[str, Any]] = api.client.get(f"{PATH}?group_by=fingerprint").json()["groups"]
    return groups[0] if [count] == [group["count"] for group in groups] else None


def _settled(api: ApiProcess, task_count: int) -> dict[str, Any] | None:
    figures = _figures(api)
    done = figures["tasks_finished"] == task_count and figures["objects_finished"] == task_count // TASKS_PER_OBJECT
    return figures if done and figures["view"]["lag_records"] == 0 else None


def _state(api: ApiProcess, object_id: str) -> str:
    return str(api.client.get(f"/api/objects/{object_id}").json().get("state"))


def _wrong_figures(figures: dict[str, Any], task_count: int) -> list[str]:
    expected = {"tasks_created": task_count, "tasks_dead": 0, "tasks_in_progress": 0, "imbalance": 0}
    return [f"{name} is {figures[name]}, not {value}" for name, value in expected.items() if figures[name] != value]


def _wrong_topics(site: Site, task_count: int) -> list[str]:
    events = [msgspec.json.decode(record.value) for record in site.read(TASK_EVENTS)]
    requests = [msgspec.json.decode(record.value) for record in site.read(TASK_REQUESTS)]
    acts = [record.key for record in site.read(DEAD_LETTERS) if dict(record.headers).get("ebs-act") == b"redriven"]
    told = {
        "finished": [one["task_id"] for one in events if one["type"] == "TASK_FINISHED"],
        "dead": [one["task_id"] for one in events if one["type"] == "TASK_DEAD"],
        "redriven": [one["task_id"] for one in requests if one.get("redrive") == 1],
        "acted on": acts,
    }
    wrong = []
    for what, ids in told.items():
        counted = Counter(ids)
        wrong += [f"{one} was {what} {count} times" for one, count in counted.items() if count > 1]
        if len(counted) != task_count:
            wrong.append(f"{len(counted)} were {what}, not {task_count}")
    return wrong
