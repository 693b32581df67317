"""The compose stack: it comes up, works, loses a worker, scales and stops, and no task is lost or done twice."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

import httpx
from api_process import until
from checker import differences
from compose_stack import KAFKA, docker

if TYPE_CHECKING:
    from compose_stack import Stack

SERVICES = ("kafka", "api", "distribution", "processing", "statistics")


def ready(stack: Stack) -> bool:
    """Return whether the API says that it is ready."""
    with contextlib.suppress(httpx.HTTPError):
        return stack.http.get("/readyz").status_code == 200
    return False


def finished(stack: Stack, object_count: int) -> None:
    """Wait until so many objects are finished, and see that each task was finished once."""
    until(
        lambda: stack.statistics()["objects_finished"] == object_count,
        lambda: f"{object_count} objects are finished\n{stack.statistics()}\n{stack.logs()}",
        120,
    )
    totals = stack.statistics()
    assert (3 * object_count, 0, 0) == (totals["tasks_finished"], totals["imbalance"], totals["tasks_dead"])


def health(stack: Stack, service: str) -> list[str]:
    """Return what the engine says of the health of a service's containers."""
    return [stack.state(one)["State"]["Health"]["Status"] for one in stack.containers(service)]


def test_stack_comes_up_and_works(stack: Stack) -> None:
    """Objects that are posted are finished, and every service counts as healthy."""
    until(lambda: ready(stack), lambda: f"the API is ready\n{stack.logs()}", 60)
    before = stack.statistics()["objects_finished"]
    stack.submit(100)
    finished(stack, before + 100)
    for service in SERVICES:
        until(
            lambda: health(stack, service) == ["healthy"],  # noqa: B023  # called at once
            lambda: f"{service}: {[stack.state(one)['State'] for one in stack.containers(service)]}",  # noqa: B023  # as above
            60,
        )


def test_containers_are_locked_down(stack: Stack) -> None:
    """No role runs as root, can write to its image or has a capability."""
    for service in SERVICES[1:]:
        (container,) = stack.containers(service)
        host = stack.state(container)["HostConfig"]
        assert "10001:10001" == stack.state(container)["Config"]["User"]
        assert host["ReadonlyRootfs"]
        assert ["ALL"] == host["CapDrop"]


def test_image_has_no_build_tools(stack: Stack) -> None:  # noqa: ARG001  # it builds the image
    """Neither a compiler nor pip is in what we add, and no secret or data of the checkout."""
    listing = docker("run", "--rm", "ebs:test", "sh", "-c", "ls -A /app /opt/ebs/bin; command -v gcc make || true")
    assert set() == {"pip", "gcc", "make", ".git", ".env", ".ebs", "stats.db", "tests"} & set(listing.split())


def test_killed_worker_loses_no_task(stack: Stack) -> None:
    """Four processors, two of them killed at work: others take over, the killed come back, every task ends once."""
    before = stack.statistics()["objects_finished"]
    stack.up("--scale", "processing=4")
    until(lambda: len(stack.containers("processing")) == 4, "four processors", 30)
    stack.submit(1_000)
    until(lambda: stack.statistics()["tasks_in_progress"] > 0, "the processors work", 60)
    for container in stack.containers("processing")[:2]:
        # From outside, as the kernel does when memory is short: what `docker kill` kills is not started again.
        os.kill(stack.state(container)["State"]["Pid"], signal.SIGKILL)
    finished(stack, before + 1_000)
    until(lambda: len(stack.containers("processing")) == 4, "the killed are back", 30)


def test_scaling_down_loses_no_task(stack: Stack) -> None:
    """Four processors go down to one at work: the others drain, end with exit code 0, and every task ends once."""
    before = stack.statistics()["objects_finished"]
    stack.submit(1_000)
    until(lambda: stack.statistics()["tasks_in_progress"] > 0, "the processors work", 60)
    leaving = stack.containers("processing")
    for container in leaving[1:]:
        docker("stop", "--time", "40", container)
        assert 0 == stack.state(container)["State"]["ExitCode"]
    stack.up("--scale", "processing=1")
    finished(stack, before + 1_000)
    assert 1 == len(stack.containers("processing"))


def test_broker_restart_loses_nothing(stack: Stack) -> None:
    """Kafka is stopped and started while objects wait: all of them are finished, and what was counted still is."""
    before = stack.statistics()["objects_finished"]
    stack.submit(200)
    stack.compose("restart", "kafka", timeout_s=120)
    until(lambda: ready(stack), lambda: f"the API is ready\n{stack.logs()}", 120)
    finished(stack, before + 200)


async def test_topics_hold_every_event_once(stack: Stack) -> None:
    """After all that, a recount of the topics finds no event twice, none missing, and every figure as it is shown."""
    before = stack.statistics()["objects_finished"]
    ids = stack.submit(10)
    finished(stack, before + 10)
    assert [] == await differences(KAFKA, accepted=ids)
