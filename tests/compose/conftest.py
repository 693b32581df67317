"""The compose stack, really built and run: with a Docker engine and base images made here where there are none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from api_process import until
from compose_stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
_ENGINE_START_S = 60


@pytest.fixture(scope="session")
def engine() -> Iterator[None]:
    """Use the Docker engine that runs, else start one for these tests (root, docker.io)."""
    if _engine_answers():
        yield
        return
    # Not pytest's: a path of a Unix socket has at most 108 characters.
    place = Path(tempfile.mkdtemp(prefix="ebs-engine-"))
    os.environ["DOCKER_HOST"] = f"unix://{place}/docker.sock"
    argv = ["dockerd", "-H", os.environ["DOCKER_HOST"], "--group", "root", "--data-root", str(place / "data")]
    argv += ["--exec-root", str(place / "exec"), "-p", str(place / "pid")]
    with (place / "log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as daemon:
        try:
            until(_engine_answers, (place / "log").read_text, _ENGINE_START_S)
            yield
        finally:
            daemon.terminate()
            daemon.wait(60)
            shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def stack(engine: None) -> Iterator[Stack]:  # noqa: ARG001  # it must run
    """Build the image and bring the compose stack up; its logs are printed if a test fails."""
    subprocess.run([HERE / "base-images.sh", sys.executable], check=True)
    stack = Stack()
    try:
        stack.build()
        stack.up()
        yield stack
    finally:
        print(stack.logs())
        stack.down()


def _engine_answers() -> bool:
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
