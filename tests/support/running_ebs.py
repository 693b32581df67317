"""`ebs` as a user runs it: a process whose output a test waits for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from api_process import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

EBS = [sys.executable, "-m", "ebs"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("EBS_")}
STARTED = re.compile(r"(\S+) +\| started, process (\d+)")


class Running:
    """A running `ebs`, whose output a test can wait for."""

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path) -> None:
        self.process = process
        self._log_path = log_path

    @property
    def text(self) -> str:
        """Return all that it has said."""
        return self._log_path.read_text(errors="replace")

    def until(self, pattern: str) -> re.Match[str]:
        """Return the first match of a pattern in all that it has said, as soon as there is one."""

        def found() -> re.Match[str] | None:
            has_ended = self.process.poll() is not None
            match = re.search(pattern, self.text)
            assert match or not has_ended, f"ended without {pattern!r}:\n{self.text}"
            return match

        match: re.Match[str] = until(found, lambda: f"{pattern!r} in:\n{self.text}")
        return match

    def pids(self) -> dict[str, int]:
        """Return the processes that it has said to have started."""
        return {role: int(pid) for role, pid in STARTED.findall(self.text)}


@contextmanager
def running(*command: str | Path, cwd: Path, **variables: str) -> Iterator[Running]:
    """Run `ebs` while the block runs; whatever happens, nothing is left of it."""
    # Into a file: a pipe that the test does not read all the time fills up, and then everything stands still.
    log_path = cwd / "ebs.log"
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd, env=ENVIRONMENT | variables) as process,
    ):
        try:
            yield Running(process, log_path)
        finally:
            process.kill()  # its children are tethered to it


def worked(client: httpx.Client, kind: str, content: str) -> Any:
    """Submit an object of one task; return what its handler returned."""
    posted = client.post("/api/objects", json={"kind": kind, "name": kind, "content": content, "tasks": 1})
    assert posted.is_success, posted.text
    path = f"/api/objects/{posted.json()['id']}"
    until(lambda: client.get(path).json().get("state") in {"FINISHED", "FAILED"}, f"the end of {kind}")
    return client.get(f"{path}/tasks").json()["tasks"][0]
