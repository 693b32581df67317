"""The `ebs` command's options, plan and demonstration, against fakes."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner

from app.addresses.ports import free_port, is_free
from app.names import WorkerGroup
from app.settings.settings import load
from ebs.cli import cli
from ebs.cli.bars import DownloadBar, TaskBar
from ebs.cli.demo_play import DemoFailed, DemoPlay, differences, expected_figures, patience_s
from ebs.cli.demo_run import plan_of
from ebs.cli.instants import clock_text
from ebs.cli.object_tables import windows_table
from ebs.cli.plan import Plan, api_program, environment, worker_names, worker_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTHING = dict.fromkeys(
    ["objects_created", "objects_finished", "tasks_created", "tasks_started", "tasks_in_progress", "tasks_finished"], 0
)


class AtOnce:
    """A system that is ready."""

    async def wait(self) -> None:
        """Return."""


class FakeApi:
    """An API whose tasks advance by one each time that somebody looks."""

    def __init__(self, *, per_object: int = 3, before: int = 0, double_after: int | None = None, stuck: bool = False):
        self.per_object = per_object
        self.objects = before
        self.finished = before * per_object
        self.double_after = double_after
        self.stuck = stuck
        self.looks = 0
        self.posts: list[int] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if request.method == "POST":
            self.posts.append(int(request.url.params["count"]))
            self.objects += self.posts[-1]
            return httpx.Response(202, json={"count": self.posts[-1]})
        self.looks += 1
        if self.looks == 2:
            raise httpx.ConnectError("the API starts again")
        return httpx.Response(200, json=self.figures())

    def figures(self) -> dict[str, int]:
        """Return the totals, one task further than the last time."""
        tasks = self.objects * self.per_object
        if not self.stuck:
            self.finished = min(self.finished + 1, tasks)
        extra = int(self.double_after is not None and self.finished >= self.double_after)
        return {
            "objects_created": self.objects,
            "objects_finished": self.finished // 3,
            "tasks_created": tasks,
            "tasks_started": self.finished + extra,
            "tasks_in_progress": 0,
            "tasks_finished": self.finished + extra,
        }


def play(api: FakeApi, objects: int, *, timeout_s: float = 60.0):
    """Let the demonstration run against a fake; return its outcome and the progress that it showed."""
    shown: list[tuple[int, int]] = []

    async def run():
        async with httpx.AsyncClient(transport=httpx.MockTransport(api), base_url="http://api") as client:
            demo = DemoPlay(client, AtOnce(), on_progress=lambda *progress: shown.append(progress), poll_s=0.0)
            return await demo.run(objects, api.per_object, timeout_s)

    return asyncio.run(run()), shown


def test_demo_ends_when_every_count_is_exact():
    """It posts once, shows each step and ends with nothing to complain about."""
    api = FakeApi()
    outcome, shown = play(api, objects=4)
    assert [4] == api.posts
    assert [] == outcome.differences
    assert [(done, 12) for done in range(13)] == sorted(set(shown))


def test_demo_counts_from_where_the_data_was():
    """On a directory of an earlier run only what is new must be added."""
    outcome, shown = play(FakeApi(before=5), objects=2)
    assert [] == outcome.differences
    assert (6, 6) == shown[-1]


def test_demo_posts_very_many_objects_in_calls_that_the_api_takes():
    """A call makes 100,000 objects at most."""
    api = FakeApi(per_object=0)
    play(api, objects=250_000)
    assert [100_000, 100_000, 50_000] == api.posts


def test_demo_sees_a_task_that_was_counted_twice():
    """One finished task too many is a difference, however long one waits."""
    outcome, _ = play(FakeApi(double_after=6), objects=2)
    assert ["tasks_started is 7, not 6", "tasks_finished is 7, not 6"] == outcome.differences


def test_demo_that_takes_too_long_says_how_far_it_is():
    """The time limit ends with the figures that are missing."""
    with pytest.raises(DemoFailed, match=r"not finished after 0.5 s.*tasks_finished is 0, not 6"):
        play(FakeApi(stuck=True), objects=2, timeout_s=0.5)


def test_demo_passes_on_a_refusal():
    """An API that does not take the objects is quoted."""

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(503, text="the broker is away")
        return httpx.Response(200, json=NOTHING)

    async def run():
        async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://api") as client:
            await DemoPlay(client, AtOnce(), on_progress=lambda _done, _total: None).run(1, 3, 10)

    with pytest.raises(DemoFailed, match="503 the broker is away"):
        asyncio.run(run())


@pytest.mark.parametrize("name", ["objects_created", "tasks_created", "tasks_started", "tasks_finished"])
def test_every_count_is_compared(name):
    """A single count that is one off is named."""
    expected = expected_figures(NOTHING, 10, 3)
    right = {**NOTHING, **expected}
    assert [] == differences(expected, right)
    assert [f"{name} is {right[name] - 1}, not {right[name]}"] == differences(
        expected, {**right, name: right[name] - 1}
    )


def test_patience_grows_with_the_work():
    """Twice the objects get more time, twice the concurrency less."""
    assert patience_s(1_000, 3, 4.0, 64) < patience_s(2_000, 3, 4.0, 64)
    assert patience_s(1_000, 3, 4.0, 128) < patience_s(1_000, 3, 4.0, 64)


def test_plan_runs_the_api_and_a_worker_of_each_role():
    """Every program runs a module of this source tree with this Python, each worker on a web port of its own."""
    plan = Plan(load(api_port=8123, log_level="warn"), 9092)
    workers, pages = worker_programs(plan, {})
    found = [api_program(plan), *workers]
    assert ["api", "distribution", "processing", "statistics"] == [program.role for program in found]
    assert {sys.executable} == {program.argv[0] for program in found}
    assert ["uvicorn", "api.main:http_app"] == list(found[0].argv[3:5])
    assert ["--host", "127.0.0.1", "--port", "8123"] == list(found[0].argv[5:9])
    assert ["faust", "-A", "agents.processing", "worker", "-l", "warn"] == list(found[2].argv[3:])
    ports = [program.env["EBS_WEB_PORT"] for program in found[1:]]
    assert 3 == len(set(ports))
    assert [f"http://127.0.0.1:{port}" for port in ports] == list(pages.values())


def test_plan_numbers_the_workers_of_a_role():
    """Several workers of a role have a name each and the same command."""
    names = worker_names(Plan(load(), None, workers_per_role=2))
    assert ["distribution-1", "distribution-2", "processing-1", "processing-2"] == list(names)[:4]
    assert [WorkerGroup("statistics")] * 2 == list(names.values())[4:]


def test_plan_has_a_worker_of_each_queue_unless_another_number_is_asked_for():
    """Nothing stands still by default; a queue of an earlier project may be worked, too, one of elsewhere left out."""
    plan = Plan(load(), None, queue_workers={"gpu": 2, "old": 1, "mail": 0}).with_queues(["gpu", "mail", "default"])
    processing = {name: group.queue for name, group in worker_names(plan).items() if group.role == "processing"}
    assert {
        "processing": "default",
        "processing-gpu-1": "gpu",
        "processing-gpu-2": "gpu",
        "processing-old": "old",
    } == processing
    assert ("default", "gpu", "mail") == plan.queues
    workers, pages = worker_programs(plan, {"processing": "http://known"})
    queues = {program.role: program.env["EBS_QUEUE"] for program in workers}
    assert {name: queue for name, queue in processing.items() if name != "processing"}.items() <= queues.items()
    assert ("default", "default") == (queues["distribution"], queues["statistics"])
    assert pages.keys() == queues.keys()


def test_project_that_gets_a_queue_keeps_its_workers_and_gets_another():
    """With --reload; those of a queue that it has no more stay, because tasks may wait there."""
    plan = Plan(load(), None).with_queues(["gpu"])
    later = plan.with_queues(["mail"])
    assert ["default", "gpu", "mail"] == [g.queue for g in worker_names(later).values() if g.role == "processing"]
    assert worker_names(plan).items() <= worker_names(later).items()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("gpu", "give a queue and the number of its workers"),
        ("gpu=", "give a queue and the number of its workers"),
        ("gpu=-1", "give a queue and the number of its workers"),
        ("gpu=65", "give a queue and the number of its workers (0 to 64)"),
        ("GPU=1", "the name of a queue must be"),
        ("=1", "the name of a queue must be"),
    ],
)
def test_numbers_of_workers_that_make_no_sense_are_refused(asked, said):
    """Before anything starts, in words."""
    told = CliRunner().invoke(cli, ["up", "--queue", asked], env={"COLUMNS": "200"})
    assert 2 == told.exit_code
    assert said in " ".join(told.output.replace("│", " ").split())


def test_programs_share_one_environment(tmp_path, monkeypatch):
    """Options reach every program, paths do not depend on its directory, and nobody inherits a worker's identity."""
    monkeypatch.setenv("EBS_WORKER_ID", "mine")
    monkeypatch.setenv("EBS_CONCURRENCY", "7")
    monkeypatch.setenv("EBS_DRAIN_S", "25")
    monkeypatch.setenv("PYTHONPATH", "lib")
    monkeypatch.chdir(tmp_path)
    settings = load(broker="kafka:9092", partitions=5, data_dir=Path("here"), process_time="0.1-0.2")
    env = environment(Plan(settings, None))
    assert "EBS_WORKER_ID" not in env
    expected = {
        "EBS_BROKER": "kafka:9092",
        "EBS_CONCURRENCY": "7",
        "EBS_DATA_DIR": str(tmp_path / "here"),
        "EBS_DRAIN_S": "3.0",
        "EBS_PARTITIONS": "5",
        "EBS_PROCESS_TIME": "0.1-0.2",
        "EBS_STATS_DB": str(tmp_path / "stats.db"),
        "PYTHONPATH": "lib",
    }
    assert expected == {name: env[name] for name in expected}


def test_demonstration_makes_objects_up_and_keeps_statistics_in_the_current_folder(tmp_path, monkeypatch):
    """`watch sqlite3 stats.db` of the README works beside it, and no project of the user's gets made-up objects."""
    monkeypatch.setenv("EBS_PROJECT", "agents.examples")
    monkeypatch.chdir(tmp_path)
    env = environment(plan_of(tmp_path / "elsewhere", broker="kafka:9092"))
    assert str(tmp_path / "stats.db") == env["EBS_STATS_DB"]
    assert ("true", "0.05-0.2", "") == (env["EBS_GENERATE"], env["EBS_PROCESS_TIME"], env["EBS_PROJECT"])
    assert "false" == environment(Plan(load(), None))["EBS_GENERATE"]


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000"), ("localhost", "http://localhost:8000")],
)
def test_api_url_can_be_used_from_here(host, url):
    """An address to listen on is turned into one to talk to."""
    assert url == Plan(load(api_host=host), None).api_url


@contextmanager
def held_port(*, listening: bool) -> Iterator[int]:
    """Yield a port that no other process can have meanwhile; one without a listener refuses connections."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        if listening:
            held.listen()
        yield held.getsockname()[1]


def test_free_ports_are_searched_upwards():
    """The first free port from the wanted one on is taken."""
    with held_port(listening=True) as taken:
        assert not is_free(taken)
        found = free_port(taken)
    assert taken < found < taken + 1_000


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--broker", "no-port"],
        ["up", "--partitions", "0"],
        ["up", "--port", "70000"],
        ["demo", "--objects", "0"],
        ["demo", "--what"],
        ["topics", "extra"],
        ["unknown"],
    ],
)
def test_wrong_usage_exits_with_2(arguments):
    """Usage errors are told apart from failures by their exit code."""
    assert 2 == CliRunner().invoke(cli, arguments).exit_code


def ebs(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "ebs", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **variables},
        check=False,
    )


def test_version_is_printed():
    """`ebs --version` says who it is."""
    done = ebs("--version")
    assert (0, True) == (done.returncode, done.stdout.startswith("ebs"))


def test_wrong_setting_is_one_line_and_exit_code_1():
    """A setting that cannot be used names its variable; there is no traceback."""
    done = ebs("topics", EBS_PARTITIONS="many")
    assert 1 == done.returncode
    assert done.stderr.startswith("ebs: EBS_PARTITIONS=many: ")
    assert 1 == len(done.stderr.splitlines())


def test_absent_broker_is_waited_for_and_then_named():
    """`ebs topics --timeout` says that it waits, and ends with exit code 1."""
    with held_port(listening=False) as port:
        broker = f"127.0.0.1:{port}"
        done = ebs("topics", "--timeout", "0.3", EBS_BROKER=broker)
    assert 1 == done.returncode
    first, last = done.stderr.splitlines()
    assert f"waiting for the Kafka broker at {broker} (refused)" == first
    assert last.startswith("ebs: gave up after 0.3 s")


def test_windows_are_shown_oldest_first():
    """As time runs, although the API answers with the newest first."""
    console = Console(file=io.StringIO(), width=140)
    counts = {"objects_created": 1, "objects_finished": 1, "tasks_finished": 2, "tasks_failed": 0}
    spreads = {name: {"mean": None} for name in ("queue_wait_ms", "work_time_ms", "object_time_ms")}
    windows = [{"start_ms": n * 10_000, "kind": "default", **counts, **spreads} for n in (119, 118, 108)]
    console.print(windows_table(windows))
    text = console.file.getvalue()
    starts = [clock_text(one["start_ms"])[:8] for one in windows]
    assert sorted(starts, key=text.index) == starts[::-1]


def test_bar_is_lines_where_there_is_no_terminal():
    """In a log of CI the progress is readable."""
    console = Console(file=io.StringIO())
    with TaskBar(console) as bar:
        bar(0, 10)
        bar(3, 10)
        bar(10, 10)
    assert ["0 of 10 tasks finished", "10 of 10 tasks finished"] == console.file.getvalue().splitlines()


def test_download_bar_that_is_not_needed_shows_nothing(capsys):
    """Every start but the first is quiet about it."""
    with DownloadBar():
        pass
    assert ("", "") == capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "processing", "--to", "soon"], "give worked, committed, earliest, latest or an offset"),
        (["--role", "processing", "--to", "-1"], "give worked"),
        (["--role", "statistics", "--to", "worked"], "its tables say"),
        (["--role", "statistics", "--to", "latest", "--topic", "control"], "reads objects, task-events"),
        (["--role", "nobody", "--to", "latest"], "nobody"),
    ],
)
def test_offsets_that_make_no_sense_are_refused(arguments, said):
    """Before any broker is asked."""
    refused = CliRunner().invoke(cli, ["offsets", "reset", *arguments], env={"COLUMNS": "200"})
    assert (2, True) == (refused.exit_code, said in refused.stderr)
