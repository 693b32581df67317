"""`ebs up --reload` in a folder of a user's: a save takes effect, and a broken one ends nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from api_process import PATIENCE_S, until
from broker_site import PARTITIONS

from app.addresses.ports import free_port

if TYPE_CHECKING:
    from broker_site import Site

EBS = str(Path(sys.executable).with_name("ebs"))
NEW_KIND = """

@project.task("word")
def length(word: Task[str], context: Context) -> int:
    return len(word.content)
"""


def is_ready(url: str) -> bool:
    """Return whether an API answers that it is ready."""
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def test_a_new_project_runs_and_follows_its_files(site: Site, tmp_path: Path) -> None:
    """It runs as `ebs new` made it. Price, syntax error and new kind: each save is said, and what can be used is."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EBS_")} | {
        "EBS_BROKER": site.broker.bootstrap,
        "EBS_PARTITIONS": str(PARTITIONS),
        "EBS_API_PORT": str(port),
        "EBS_API_URL": f"http://127.0.0.1:{port}",
    }
    subprocess.run([EBS, "new", "shop"], cwd=tmp_path, env=environment, check=True)
    folder, log = tmp_path / "shop", tmp_path / "up.log"
    work = folder / "shop" / "work.py"
    made = work.read_text()

    def result_of(*arguments: str) -> object:
        argv = [EBS, "submit", *arguments, "--wait", "--timeout", str(PATIENCE_S), "--json"]
        ran = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert 0 == ran.returncode, f"{ran.stdout}\n{ran.stderr}\n{log.read_text()}"
        shown = [EBS, "status", json.loads(ran.stdout)["ids"][0], "--json"]
        status = subprocess.run(shown, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        answer = json.loads(status.stdout)
        return answer["result"] if answer["result"] is not None else answer["tasks"][0]["result"]

    def wait_for(text: str, count: int = 1) -> None:
        until(lambda: log.read_text().count(text) >= count, lambda: f"{count} times {text!r}:\n{log.read_text()}")

    argv = [EBS, "up", "--project", "shop.work", "--reload"]
    with (
        log.open("wb") as output,
        subprocess.Popen(argv, stdout=output, stderr=output, cwd=folder, env=environment) as up,
    ):
        try:
            wait_for("ready: ")
            order = ("--kind", "order", "--content", "@order.json")
            assert {"cents": 105} == result_of(*order)
            work.write_text(made.replace('"apple": 30', '"apple": 35'))
            wait_for("shop/work.py changed: processing restarts")
            assert {"cents": 115} == result_of(*order)
            work.write_text(f"{made}def broken(:\n")
            wait_for("cannot be used, so the workers keep the old one: EBS_PROJECT=shop.work")
            assert {"cents": 115} == result_of(*order)
            work.write_text(made + NEW_KIND)
            wait_for("shop/work.py changed: all processes restart")
            until(lambda: len(re.findall(r"api +\| started", log.read_text())) == 2, "the new API")
            until(lambda: is_ready(environment["EBS_API_URL"]), "the new API to be ready")
            assert {"cents": 105} == result_of(*order)
            assert 5 == result_of("--kind", "word", "--content", "apple", "--tasks", "1")
            up.send_signal(signal.SIGINT)
            assert 0 == up.wait(PATIENCE_S), log.read_text()
        finally:
            up.kill()  # its children are tethered to it
    assert "restarts because" not in log.read_text()
