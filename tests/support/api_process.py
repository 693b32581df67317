"""The API as a process of its own, and a client of it."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
from fork_server import start_module

from app.addresses.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parents[2]
_PATH = os.pathsep.join((str(_ROOT), str(_ROOT / "tests" / "faults" / "sabotage"), str(_ROOT / "tests" / "support")))
_POLL_S = 0.05
PATIENCE_S = 120.0
"""How long anything that must come may take: no test is to fail because a machine is slow, or stands still for once."""


_PATIENT = {"EBS_PUBLISH_TIMEOUT_S": "30", "EBS_VIEW_WAIT_S": "60", "EBS_TASKS_PER_OBJECT": "3"}
"""So that a slow broker or view is no 503; tests in which they are away for good say how long that takes."""


def until(condition: Callable[[], Any], what: str | Callable[[], str], timeout_s: float = PATIENCE_S) -> Any:
    """Return the condition's value once it is true; `what` it was waited for may be told in the end only."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(_POLL_S)


class ApiProcess:
    """`uvicorn api.main:http_app`, ready when the block begins, and `client`."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        module: str = "api.main",
        namespace: str = "",
        **environment: str,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / f"api-{self.port}.log"
        self.log_path.unlink(missing_ok=True)
        self.process = start_module(
            "uvicorn",
            [f"{module}:http_app", "--port", str(self.port), "--no-access-log"],
            env=os.environ | {"PYTHONPATH": _PATH, "EBS_NAMESPACE": namespace} | _PATIENT | environment,
            cwd=directory,
            log_path=self.log_path,
        )
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """Return what the process said."""
        return self.log_path.read_text()

    def status(self, path: str) -> int:
        """GET a path; 0 as long as nobody answers."""
        try:
            return self.client.get(path).status_code
        except httpx.TransportError:
            return 0

    def wait_until_ready(self) -> None:
        """Return when the process is ready; one that has ended never will be."""
        until(
            lambda: self.process.poll() is not None or self.status("/readyz") == httpx.codes.OK,
            lambda: f"the API to be ready; it said:\n{self.log}",
        )
        assert self.process.poll() is None, f"the API ended with {self.process.poll()}:\n{self.log}"

    def stop(self) -> None:
        """Stop it as a supervisor does."""
        self.client.close()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_S)
            return
        self.kill()
        raise AssertionError(f"the API did not stop in {PATIENCE_S:g} s; it said:\n{self.log}")

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()
