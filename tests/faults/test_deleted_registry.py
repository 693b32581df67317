"""Somebody deletes the topic that says which topics are ours, under `ebs up`, and while it is away."""

from __future__ import annotations

import asyncio
import os
import signal

import httpx
from api_process import PATIENCE_S, until
from running_ebs import EBS, running, worked

from app.addresses.ports import free_port
from app.kafka.cluster import Cluster
from app.names import BARE


def delete_registry(bootstrap: str) -> None:
    """Delete the topic that says which topics are this system's."""

    async def scenario() -> None:
        async with Cluster(bootstrap).admin("test") as admin:
            await admin.delete_topics([BARE.topics])

    asyncio.run(scenario())


def test_up_goes_on_when_the_topic_of_its_topics_is_deleted(tmp_path):
    """Under a system that runs, whose processes die then, and under one that has ended."""
    port = str(free_port())
    up = [*EBS, "up", "--port", str(free_port()), "--kafka-port", port]
    with running(*up, cwd=tmp_path) as system:
        url = system.until(r"ready: curl -X POST (\S+)/api/objects")[1]
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            worked(client, "order", "1")
            delete_registry(f"127.0.0.1:{port}")
            pids = system.pids()
            for pid in pids.values():
                os.kill(pid, signal.SIGKILL)
            for role, pid in pids.items():
                system.until(rf"{role} +\| started, process (?!{pid}\b)")
            until(lambda: is_answered(client), lambda: f"the API to be there again\n{system.text}")
            assert "FINISHED" == worked(client, "order", "2")["state"], system.text
        delete_registry(f"127.0.0.1:{port}")
        system.process.kill()
        system.process.wait()
    with running(*up, cwd=tmp_path) as system:
        system.until(r"topic ebs-topics was gone: \d+ topics of the embedded broker are adopted")
        system.until(r"ready: curl")
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            assert "FINISHED" == worked(client, "order", "3")["state"], system.text


def is_answered(client: httpx.Client) -> bool:
    """Return whether the API answers and accepts objects."""
    try:
        return client.get("/readyz").is_success
    except httpx.TransportError:
        return False
