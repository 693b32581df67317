"""The breaker on a real broker: two workers, a kind that only dies, and what is left of it after kills and resumes."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from api_process import ApiProcess, until
from broker_site import PARTITIONS
from checker import differences
from feed import feed
from fleet import PATIENT, TAKEN_OVER, Fleet, running_fleet
from mass_redrive import ended
from plain_names import TASK_EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker_site import Site

WORKERS = ("processing-1", "processing-2")
MIN_TASKS = 20
CONCURRENCY = 10
MOST_DEATHS = len(WORKERS) * (MIN_TASKS + CONCURRENCY)
"""Until all workers have stopped: each does so by itself, at once, and need not hear of the other one."""
MAILS, IMAGES = 600, 150
ENVIRONMENT = {
    "EBS_PROJECT": "mended_handler:only_mails",
    "EBS_MAX_ATTEMPTS": "1",
    "EBS_CONCURRENCY": str(CONCURRENCY),
    "EBS_BREAKER_DEAD_SHARE": "0.5",
    "EBS_BREAKER_MIN_TASKS": str(MIN_TASKS),
    # Whatever this machine is busy with, it is one window.
    "EBS_BREAKER_WINDOW_S": "600",
}


class System:
    """A fleet with two processing workers, an API, and what it says."""

    def __init__(self, site: Site, fleet: Fleet, api: ApiProcess) -> None:
        self.site = site
        self.fleet = fleet
        self.api = api

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Return a condition's value once it is true; the workers' last words are told if it never is."""
        return until(condition, lambda: f"{what}\n{self.fleet.last_words()}")

    def feed(self, kind: str, tasks: int) -> list[str]:
        """Submit objects of three tasks each; returns their ids."""
        return asyncio.run(feed(self.site.broker.bootstrap, tasks // 3, partitions=PARTITIONS, kind=kind))

    def count(self, kind: str, name: str) -> int:
        """Return one of a kind's figures."""
        figures: dict[str, int] = self.api.client.get("/api/statistics").json()["kinds"].get(kind, {})
        return figures.get(name, 0)

    def pause(self, later_than_ms: int = 0) -> dict[str, Any]:
        """Return the kind's pause, once there is one from later than an instant."""

        def found() -> dict[str, Any] | None:
            pause: dict[str, Any] | None = self.paused_kinds().get("mail")
            return pause if pause is not None and pause["at_ms"] > later_than_ms else None

        pause: dict[str, Any] = self.wait(found, f"a pause from later than {later_than_ms}")
        return pause

    def paused_kinds(self) -> dict[str, Any]:
        """Return what `GET /api/control` says of kinds; nothing as long as it cannot be sure."""
        kinds: dict[str, Any] = self.api.client.get("/api/control").json().get("paused_kinds", {})
        return kinds

    def resume(self) -> None:
        """Resume the kind, as a person does."""
        answer = self.api.client.post("/api/control/resume", json={"kind": "mail"})
        assert 202 == answer.status_code, answer.text

    def both_work(self) -> bool:
        """Return whether both workers have partitions, with processes that live now."""
        workers = {one["worker"]: one for one in self.api.client.get("/api/workers").json()["workers"]}
        return all(
            name in workers
            and workers[name]["partitions"]
            and workers[name]["pid"] == self.fleet.workers[name].process.pid
            for name in WORKERS
        )

    def deaths(self) -> int:
        """Count TASK_DEAD on the topic."""
        return sum(json.loads(record.value)["type"] == "TASK_DEAD" for record in self.site.read(TASK_EVENTS))


def test_kind_that_dies_stops_for_all_until_it_is_resumed_and_nothing_is_lost(site):
    """Few die, the other kind flows on, kill -9 changes nothing, a resume of what is not mended stops again."""
    environment = ENVIRONMENT | {"MENDED_FILE": str(site.directory / "mended")}
    with running_fleet(site.broker.bootstrap, site.directory, PARTITIONS, **environment) as fleet, site.api() as api:
        fleet.start("distribution", **PATIENT)
        fleet.start("statistics", **PATIENT)
        for name in WORKERS:
            fleet.start("processing", name, EBS_WORKER_ID=name, **TAKEN_OVER)
        system = System(site, fleet, api)
        system.wait(system.both_work, "both workers")
        accepted = [*system.feed("mail", MAILS), *system.feed("image", IMAGES)]
        stops_for_everybody(system)
        accepted += survives_kills(system)
        stops_again_as_nothing_is_mended(system)
        goes_on_once_it_is_mended(system)
    found = asyncio.run(differences(site.broker.bootstrap, accepted=accepted))
    assert [] == found, found


def stops_for_everybody(system: System) -> None:
    """See the pause, with who and why."""
    pause = system.pause()
    assert pause["breaker"] in WORKERS
    assert f"breaker of worker {pause['breaker']}: " in pause["reason"]
    assert " tasks of kind mail died within 600 s; the last error: ConnectionError: no connection" in pause["reason"]


def survives_kills(system: System) -> list[str]:
    """Kill both workers at once: their next lives know of the pause, and work the other kind."""
    for name in WORKERS:
        system.fleet.kill(name)
    system.fleet.revive()
    system.wait(system.both_work, "both workers' next lives")
    accepted = system.feed("image", 30)
    system.wait(lambda: system.count("image", "tasks_finished") == IMAGES + 30, "the other kind")
    assert system.pause()["breaker"] in WORKERS
    assert MIN_TASKS <= system.deaths() <= MOST_DEATHS
    return accepted


def stops_again_as_nothing_is_mended(system: System) -> None:
    """Resumed, it takes as many deaths again: windows begin anew."""
    before, first = system.deaths(), system.pause()
    system.resume()
    assert system.pause(later_than_ms=first["at_ms"])["breaker"] in WORKERS
    assert before + MIN_TASKS <= system.deaths()


def goes_on_once_it_is_mended(system: System) -> None:
    """Resumed once more, what waited finishes; redriven, the dead do; no pause comes again."""
    (system.site.directory / "mended").touch()
    system.resume()

    def has_ended() -> bool:
        if "mail" in system.paused_kinds():
            # The other worker was on the way to its own limit when this one passed it: its pause came last.
            system.resume()
        return system.count("mail", "tasks_finished") + system.count("mail", "tasks_dead") == MAILS

    system.wait(has_ended, "the rest")
    assert system.deaths() <= 2 * MOST_DEATHS
    run = system.api.client.post("/api/dead-letters/redrive", json={"all": True})
    assert 202 == run.status_code, run.text
    assert "DONE" == system.wait(lambda: ended(system.api, run.headers["location"]), "the redrive")["state"]
    system.wait(lambda: system.count("mail", "tasks_finished") == MAILS, "the redriven tasks")
    assert {} == system.paused_kinds()
    assert 'ebs_pauses{by="breaker"} 0.0' in system.api.client.get("/metrics").text
