"""Docker Compose over docker/compose.yaml, for tests: ports, project and images of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parent.parent.parent
API = "http://127.0.0.1:18000"
KAFKA = "127.0.0.1:19094"
IMAGE = "ebs:test"


class Stack:
    """One compose project."""

    def __init__(self) -> None:
        has_plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        program = ["docker", "compose"] if has_plugin else [shutil.which("docker-compose") or "docker-compose"]
        self._argv = [*program, "-p", "ebs-test", "-f", str(ROOT / "docker" / "compose.yaml")]
        self._env = os.environ | {
            # The classic builder: the Dockerfile needs no more, and the network is the machine's.
            "DOCKER_BUILDKIT": "0",
            "EBS_IMAGE": IMAGE,
            "EBS_API_PORT": "18000",
            "KAFKA_PORT": "19094",
            "EBS_PROCESS_TIME": "0.2",
        }
        self.http = httpx.Client(base_url=API, timeout=10)

    def build(self, tag: str = IMAGE, context: Path = ROOT, file: str = "docker/Dockerfile") -> None:
        """Build an image; without arguments that of the project."""
        argv = ["docker", "build", "--quiet", "--network", "host", "--build-arg", f"EBS_IMAGE={IMAGE}", "--tag", tag]
        subprocess.run([*argv, "--file", context / file, context], env=self._env, check=True, timeout=600)

    def set(self, **variables: str) -> None:
        """Give the compose file other variables, from the next `up` on."""
        self._env |= variables

    def up(self, *arguments: str) -> None:
        """Start what does not run as it should."""
        self.compose("up", "-d", "--no-build", *arguments, timeout_s=240)

    def down(self) -> None:
        """Remove everything, the data too."""
        self.http.close()
        self.compose("down", "--volumes", "--timeout", "5", timeout_s=120)

    def logs(self) -> str:
        """Return what all containers said last."""
        return self.compose("logs", "--no-color", "--tail", "200")

    def compose(self, *arguments: str, timeout_s: float = 60) -> str:
        """Run a command of Compose; returns its output."""
        done = subprocess.run(
            [*self._argv, *arguments], env=self._env, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def containers(self, service: str, *, stopped: bool = False) -> list[str]:
        """Return the ids of a service's containers, running ones only unless `stopped` ones count too."""
        argv = ["docker", "ps", "--quiet", "--no-trunc", "--filter", f"label=com.docker.compose.service={service}"]
        argv += ["--filter", "label=com.docker.compose.project=ebs-test", *(["--all"] if stopped else [])]
        return docker(*argv[1:]).split()

    def state(self, container: str) -> dict[str, Any]:
        """Return what the engine says of a container."""
        found: dict[str, Any] = json.loads(docker("inspect", container))[0]
        return found

    def submit(self, count: int) -> list[str]:
        """Submit objects, and return their ids."""
        answer = self.http.post("/api/objects", params={"count": count})
        assert answer.status_code == 202, answer.text
        ids: list[str] = answer.json()["ids"]
        return ids

    def statistics(self) -> dict[str, Any]:
        """Return the totals."""
        found: dict[str, Any] = self.http.get("/api/statistics").json()
        return found


def docker(*arguments: str) -> str:
    """Run a command of Docker; returns its output."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout
