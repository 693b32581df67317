"""`ebs up` and `ebs demo` as a user runs them: from another directory, with the broker that they bring."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
from api_process import PATIENCE_S, until
from running_ebs import EBS, ENVIRONMENT, running, worked
from user_environment import Shop, make_shop

from app.addresses.ports import free_port

TEST = """
import agents
import app

from shop.work import project


def test_shop(ebs_run):
    for kind in ("order", "apart"):
        (result,) = ebs_run(project, kind, "20", tasks=1).results
        assert result["price"] == 41
    assert agents.Agent
    assert "shop" in app.__file__
"""

WARNED = "error::pytest.PytestAssertRewriteWarning"
"""What pytest would tell of a package with a plugin that is imported before pytest itself."""


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def tasks_created(client: httpx.Client) -> int:
    """Return how many tasks the statistics have counted."""
    return client.get("/api/statistics").json().get("tasks_created", 0)


def assert_tested(shop: Shop) -> None:
    """Run a test of the project in the user's environment: the fixture is there, nothing is told of it, names stay."""
    (shop.folder / "test_shop.py").write_text(TEST)
    argv = [shop.programs / "python", "-m", "pytest", "-q", "-W", WARNED, "-p", "no:cacheprovider", "test_shop.py"]
    environment = ENVIRONMENT | {"PYTHONPATH": f"lib{os.pathsep}."}
    ran = subprocess.run(argv, cwd=shop.folder, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr


def test_demo_ends_with_exact_counts(tmp_path):
    """`ebs demo --exit` works every task off once, says so, and leaves with 0."""
    done = subprocess.run(
        [*EBS, "demo", "--objects", "30", "--exit", "--data-dir", "data", "--timeout", "400"],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=tmp_path,
        env={**ENVIRONMENT, "EBS_TASKS_PER_OBJECT": "4"},
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr + (tmp_path / "data" / "logs" / "processing.log").read_text()
    assert "all 120 tasks are finished, and every count is exact" in done.stdout
    logs = "".join(path.read_text() for path in (tmp_path / "data" / "logs").glob("*.log"))
    pids = [int(pid) for pid in re.findall(r"-- started, process (\d+)", logs)]
    assert (4, []) == (len(pids), [pid for pid in pids if is_alive(pid)])


def test_up_works_in_a_users_folder_and_environment_survives_deaths_and_stops_soon(tmp_path):
    """`ebs up` finds the user's handlers and what they need, whatever packages of our names are about.

    It starts a killed broker and a killed worker again, and Ctrl-C leaves nothing behind.
    """
    shop = make_shop(tmp_path)
    folder = shop.folder
    assert_tested(shop)
    ports = ["--port", str(free_port()), "--kafka-port", str(free_port())]
    with running(shop.programs / "ebs", "up", "--project", "shop.work", *ports, cwd=folder, PYTHONPATH="lib") as system:
        url = system.until(r"ready: ebs submit --api (\S+) ")[1]
        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            for kind in ("order", "apart"):
                task = worked(client, kind, "20")
                assert {"price": 41, "folder": str(folder)} == task["result"], f"{task}\n{system.text}"
        assert (folder / "stats.db").exists()
        lock = (folder / ".ebs" / "kafka" / "broker.lock").read_text()
        broker_pid = int(re.search(r"process (\d+)", lock)[1])
        os.kill(broker_pid, signal.SIGKILL)
        system.until(r"Apache Kafka restarts because it was killed \(SIGKILL\)")
        worker_pid = system.pids()["distribution"]
        os.kill(worker_pid, signal.SIGKILL)
        system.until(rf"distribution +\| started, process (?!{worker_pid}\b)")

        with httpx.Client(base_url=url, timeout=PATIENCE_S) as client:
            until(
                lambda: client.post("/api/objects", json={"kind": "order", "content": "1"}).is_success,
                lambda: f"an object to be accepted\n{system.text}",
            )
            until(lambda: tasks_created(client) >= 3, lambda: f"its tasks\n{system.text}")

        started_s = time.monotonic()
        system.process.send_signal(signal.SIGINT)
        system.until("everything is stopped")
        assert 0 == system.process.wait(PATIENCE_S)
        # Ten on a quiet machine: 4.5 s for the programs, 3.5 s for Kafka, then they are killed.
        assert time.monotonic() - started_s < 40
        pids = system.pids()
        stop = system.text.partition("stopping; Ctrl-C again stops at once")[2]
    # One line for each process, one for all; none of Faust's and uvicorn's.
    assert [] == [line for line in stop.splitlines()[1:] if "stopped" not in line and "warning: " not in line], stop
    assert "INFO" not in system.text
    assert {"api", "distribution", "processing", "statistics"} == set(pids)
    broker_pid = int(re.search(r"process (\d+)", (folder / ".ebs" / "kafka" / "broker.lock").read_text())[1])
    assert [] == [pid for pid in (*pids.values(), broker_pid) if is_alive(pid)]


def test_topics_of_another_shape_are_refused(kafka):
    """`ebs topics` makes what `ebs up` with another partition count refuses, in one line and with exit code 1."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*EBS, *arguments, "--broker", kafka.bootstrap]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=ENVIRONMENT, check=False)

    made = run("topics", "--json", "--partitions", "3")
    refused = run("up", "--partitions", "5", "--port", str(free_port()))
    topics = {topic["name"]: topic for topic in json.loads(made.stdout)}
    assert (3, "delete", True) == tuple(topics["objects"][name] for name in ("partitions", "cleanup_policy", "made"))
    assert (1, "compact", True) == tuple(topics["control"][name] for name in ("partitions", "cleanup_policy", "made"))
    assert 1 == refused.returncode
    assert refused.stderr.startswith("ebs: topic objects has 3 partitions")
    assert "set EBS_PARTITIONS=3" in refused.stderr
    assert 1 == len(refused.stderr.splitlines())
