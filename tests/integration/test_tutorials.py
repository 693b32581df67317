"""The tutorials' commands, as they stand in the pages, on a real system: what a newcomer types works."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from api_process import PATIENCE_S, until
from broker_site import PARTITIONS
from pages import DOCS, blocks

from app.addresses.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker_site import Site

USUAL_PORT = "localhost:8000"
SYSTEM, COMMANDS, SHOWS = "terminal 1", "terminal 2", "terminal 1 shows"
NOT_RUN = {"demo", "install"}
"""Blocks that take minutes, and are tested elsewhere: `test_command`."""
LOG = "terminal-1.log"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("EBS_")}
SHOWN = {
    "first-steps": ['"holds":true', "1 finished", "equal: the tables match the topics"],
    "first-project": [
        "3 passed",
        '{"cents": 105}',
        "115",
        "expects the old price",
        "no price for kiwi",
        "done: 1",
    ],
    "first-handler": ["it failed, as expected", "no price for pear", '{"apple":3}', "would be redriven: 1", "done: 1"],
}
"""What the commands of a page show, white space aside."""


@pytest.mark.parametrize("name", SHOWN)
def test_tutorial_can_be_followed(site: Site, tmp_path: Path, name: str) -> None:
    """Each block in its terminal, each file where the page says; `ebs up` finds a Kafka that is there."""
    port = free_port()
    (tmp_path / ".venv").symlink_to(sys.prefix)
    environment = ENVIRONMENT | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EBS_BROKER": site.broker.bootstrap,
        "EBS_PARTITIONS": str(PARTITIONS),
        "EBS_API_PORT": str(port),
        "EBS_API_URL": f"http://127.0.0.1:{port}",
        "EBS_PROCESS_TIME": "0.5-1",  # instead of 3-5: the same, sooner
    }
    page = DOCS / "tutorials" / f"{name}.md"
    before, after = _scripts(page, tmp_path)
    shown = _run(before, tmp_path, environment)
    with _system(page, tmp_path, environment):
        shown += _run(after.replace(USUAL_PORT, f"127.0.0.1:{port}"), tmp_path, environment)
    without_space = "".join(shown.split())
    assert [] == [text for text in SHOWN[name] if "".join(text.split()) not in without_space], shown


def _scripts(page: Path, folder: Path) -> tuple[str, str]:
    """Write a page's files; returns its commands before and after the system is started. Some are not run."""
    scripts = ["", ""]
    started = False
    shown: Counter[str] = Counter()
    for block in blocks(page, "bash", "python", "text"):
        if block.language == "text":
            if block.title == SHOWS:
                shown[block.text] += 1
                scripts[started] += _wait_for(block.text.strip(), shown[block.text], folder / LOG)
        elif block.language == "python":
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
        elif block.title == SYSTEM:
            started = True
        else:
            assert block.title in {COMMANDS, *NOT_RUN}, block
            scripts[started] += block.text if block.title == COMMANDS else ""
    assert started
    # The second terminal stays in its folder.
    entered = "".join(line for line in scripts[0].splitlines(keepends=True) if line.startswith("cd "))
    return scripts[0].replace("mkdir ", "mkdir -p "), entered + scripts[1]


def _wait_for(line: str, count: int, log: Path) -> str:
    """Return the command that waits until the system has said a line that often: a reader would see it."""
    return f'until [ "$(grep -cF {shlex.quote(line)} {log})" -ge {count} ]; do sleep 0.1; done\n'


@contextmanager
def _system(page: Path, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run what the page has for the first terminal, until it says that it is ready."""
    (command,) = (block.text for block in blocks(page, "bash") if block.title == SYSTEM)
    log = folder / LOG
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["bash", "-c", command], stdout=output, stderr=output, cwd=folder, env=environment, start_new_session=True
        ) as process,
    ):
        try:

            def is_ready() -> bool:
                assert process.poll() is None, log.read_text()
                return "ready: " in log.read_text()

            until(is_ready, lambda: f"the system to be ready:\n{log.read_text()}")
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(PATIENCE_S)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def _run(script: str, folder: Path, environment: dict[str, str]) -> str:
    """Run commands one after the other, up to the first that fails; returns what they showed."""
    ran = subprocess.run(
        ["bash", "-exo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=PATIENCE_S * 2,
        check=False,
    )
    assert 0 == ran.returncode, f"{ran.stdout}\n{ran.stderr}\n{[path.read_text() for path in folder.glob('*.log')]}"
    return ran.stdout
