"""`ebs demo`: the whole system, some objects, and what became of them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import httpx
import typer
from rich.console import Console

from api.cli.bars import DownloadBar, TaskBar
from api.cli.demo_play import DemoPlay, patience_s
from api.cli.demo_tables import statistics_table, windows_table
from api.cli.local_system import API_ROLE, LocalSystem, Plan, worker_names
from api.cli.options import ApiPort, Broker, DataDir, KafkaPort, Partitions, WorkersPerRole, is_set, settings_of
from api.cli.readiness import readiness_of
from api.loopback import takes_proxies
from app.local.embedded_kafka import DEFAULT_PORT
from app.local.ports import LOOPBACK, free_port
from app.local.prefixed_output import PrefixedOutput
from app.local.supervisor import StopRequest, stop_on_signals
from app.security_settings import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings import Settings

_PROCESS_TIME = "0.05-0.2"
_INTERRUPTED = 130  # as shells count a Ctrl-C
_CALL_TIMEOUT_S = 120.0  # a call that makes 100,000 objects takes its time


def demo(
    objects: Annotated[int, typer.Option("--objects", min=1, max=10_000_000, help="How many objects to post.")] = 200,
    *,
    leave: Annotated[bool, typer.Option("--exit", help="End by itself: with 0 only if the counts are exact.")] = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=1, help="Seconds that the work may take; left out: a fair guess.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what the programs say.")] = False,
    broker: Broker = None,
    partitions: Partitions = None,
    port: ApiPort = None,
    data_dir: DataDir = None,
    kafka_port: KafkaPort = None,
    workers_per_role: WorkersPerRole = 1,
) -> None:
    """Run the whole system, post objects, show their tasks being finished, and then the statistics.

    It takes a data directory of its own, and the next free ports where the usual ones are taken.
    """
    directory = data_dir or Path(tempfile.mkdtemp(prefix="ebs-demo-"))
    own_port = None if broker else kafka_port or free_port(DEFAULT_PORT)
    settings = settings_of(
        broker=broker or f"{LOOPBACK}:{own_port}",
        partitions=partitions,
        data_dir=directory,
        stats_db=None if is_set("EBS_STATS_DB") else directory / "stats.db",
        process_time=None if is_set("EBS_PROCESS_TIME") else _PROCESS_TIME,
        log_level=None if verbose or is_set("EBS_LOG_LEVEL") else "warn",
    )
    api_port = port or free_port(settings.api_port, settings.api_host)
    plan = Plan(settings.model_copy(update={"api_port": api_port}), own_port, workers_per_role)
    exit_code = asyncio.run(Demo(plan, objects=objects, leave=leave, timeout_s=timeout_s, verbose=verbose).run())
    if data_dir is None and exit_code in {0, _INTERRUPTED}:
        shutil.rmtree(directory, ignore_errors=True)
    raise typer.Exit(exit_code)


class Demo:
    """One demonstration; a failed one leaves its directory, with the log, to be looked at."""

    def __init__(self, plan: Plan, *, objects: int, leave: bool, timeout_s: float | None, verbose: bool) -> None:
        self._plan = plan
        self._objects = objects
        self._leave = leave
        self._timeout_s = timeout_s or _patience_s(plan, objects)
        self._log_path = None if verbose else plan.settings.data_dir.absolute() / "demo.log"
        self._console = Console()

    async def run(self) -> int:
        """Return the exit code. Raises an `EbsError` if the system cannot work or takes too long."""
        request = StopRequest()
        with stop_on_signals(request), self._log() as log, DownloadBar() as bar:
            output = PrefixedOutput(log, [API_ROLE, *worker_names(self._plan)])
            system = LocalSystem(self._plan, output=output, say=self._say, on_download=bar)
            running = asyncio.create_task(system.run(request))
            playing = asyncio.create_task(self._play(system))
            try:
                await asyncio.wait([running, playing], return_when=asyncio.FIRST_COMPLETED)
                if not playing.done():
                    return _INTERRUPTED  # unless `running` failed: it is awaited below
                exit_code = await playing
                if not self._leave:
                    self._suggest()
                    await asyncio.wait([running])
                return exit_code
            finally:
                request.stop.set()
                playing.cancel()
                await asyncio.gather(playing, return_exceptions=True)
                await running

    async def _play(self, system: LocalSystem) -> int:
        await system.started.wait()
        settings = self._plan.settings
        headers = _authorization(settings)
        url = self._plan.api_url
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=_CALL_TIMEOUT_S, trust_env=takes_proxies(url)
        ) as client:
            self._say(
                f"posting {self._objects} objects of {settings.tasks_per_object} tasks each as soon as it is ready"
            )
            with TaskBar(self._console) as bar:
                play = DemoPlay(client, readiness_of(system, self._say), on_progress=bar)
                outcome = await play.run(self._objects, settings.tasks_per_object, self._timeout_s)
            self._console.print(statistics_table(outcome.figures))
            windows = await client.get("/api/statistics/windows")
            if windows.is_success:
                self._console.print(windows_table(windows.json()["windows"]))
        if outcome.differences:
            typer.secho("the counts are wrong: " + "; ".join(outcome.differences), fg=typer.colors.RED, err=True)
            return 1
        self._say(f"all {self._objects * settings.tasks_per_object} tasks are finished, and every count is exact")
        return 0

    def _suggest(self) -> None:
        url = self._plan.api_url
        self._say("the system goes on until Ctrl-C; try in another terminal:")
        self._say(f"  curl -i -X POST {url}/api/objects      one more object; its address is in the answer")
        self._say(f"  curl -X POST '{url}/api/objects?count=1000'      many")
        self._say(f"  curl {url}/api/statistics      the totals")
        watched = f"sqlite3 {self._plan.settings.own_stats_db} 'select * from statistics'"  # noqa: S608  # for people
        self._say(f'  watch -n 1 "{watched}"')

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def _log(self) -> Iterator[IO[str]]:
        if self._log_path is None:
            yield self._console.file
            return
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._say(f"what the programs say goes to {self._log_path} (--verbose shows it here)")
        with self._log_path.open("a") as log:
            yield log


def _authorization(settings: Settings) -> dict[str, str]:
    """Return the header of a key that may write, where the API that is started here has keys."""
    key = settings.api_key.get_secret_value() or next(iter(keys_of(settings.api_keys_write)), "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _patience_s(plan: Plan, objects: int) -> float:
    settings = plan.settings
    work_s = settings.process_time.high_s
    return patience_s(objects, settings.tasks_per_object, work_s, settings.concurrency * plan.workers_per_role)
