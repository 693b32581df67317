"""The API as a process of its own, and a client of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from app.local.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

_ROOT = Path(__file__).parents[2]
_PATH = os.pathsep.join((str(_ROOT), str(_ROOT / "tests" / "faults" / "sabotage")))


def until(condition: Callable[[], Any], what: str | Callable[[], str], timeout_s: float = 30) -> Any:
    """Return the condition's value once it is true; `what` it was waited for may be told in the end only."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what if isinstance(what, str) else what()}")


class ApiProcess:
    """`uvicorn api.main:http_app`, ready when the block begins, and `client`."""

    def __init__(
        self, directory: Path, *, port: int | None = None, module: str = "api.main", **environment: str
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / f"api-{self.port}.log"
        command = [sys.executable, "-m", "uvicorn", f"{module}:http_app", "--port", str(self.port), "--no-access-log"]
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": _PATH} | environment,
                cwd=directory,
            )
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def __enter__(self) -> Self:
        self.wait_until_ready()
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
        """Return when the process is ready."""
        until(lambda: self.status("/readyz") == httpx.codes.OK, self.log_path.read_text)

    def stop(self) -> None:
        """Stop it as a supervisor does."""
        self.client.close()
        self.process.terminate()
        self.process.wait(20)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()
