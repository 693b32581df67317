"""The run of `ebs demo`: it starts the system, posts objects, and shows the counts."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING

import httpx
import typer
from rich.console import Console

from app.addresses.ports import LOOPBACK, free_port
from app.settings.security import keys_of
from ebs.cli.bars import DownloadBar, TaskBar
from ebs.cli.demo_play import DemoPlay, patience_s
from ebs.cli.local_system import LocalSystem
from ebs.cli.object_tables import totals_table, windows_table
from ebs.cli.options import is_set, settings_of
from ebs.cli.plan import API_ROLE, Plan, worker_names
from ebs.cli.readiness import readiness_of
from ebs.client.loopback import takes_proxies
from ebs.local.embedded_kafka import DEFAULT_PORT
from ebs.local.prefixed_output import PrefixedOutput
from ebs.local.program_log import ProgramLog
from ebs.local.supervisor import StopRequest, stop_on_signals

if TYPE_CHECKING:
    from pathlib import Path

    from app.settings.settings import Settings

INTERRUPTED = 130  # as shells count a Ctrl-C
_PROCESS_TIME = "0.05-0.2"
_WINDOWS_SHOWN = 12
_CALL_TIMEOUT_S = 120.0  # a call that makes 100,000 objects takes its time


def plan_of(
    directory: Path,
    *,
    broker: str | None = None,
    partitions: int | None = None,
    port: int | None = None,
    kafka_port: int | None = None,
    workers_per_role: int = 1,
) -> Plan:
    """Return what a demonstration runs: its data in a directory, on free ports where none are named, with short tasks.

    Its objects are made up, and no project works on them; all else is as the settings say.
    """
    own_port = None if broker else kafka_port or free_port(DEFAULT_PORT)
    settings = settings_of(
        broker=broker or f"{LOOPBACK}:{own_port}",
        partitions=partitions,
        data_dir=directory,
        process_time=None if is_set("EBS_PROCESS_TIME") else _PROCESS_TIME,
        generate=True,
        project="",
    )
    api_port = port or free_port(settings.api_port, settings.api_host)
    return Plan(settings.model_copy(update={"api_port": api_port}), own_port, workers_per_role)


class Demo:
    """One demonstration; a failed one leaves its directory, with the log, to be looked at."""

    def __init__(self, plan: Plan, *, objects: int, leave: bool, timeout_s: float | None, verbose: bool) -> None:
        self._plan = plan
        self._objects = objects
        self._leave = leave
        self._timeout_s = timeout_s or _patience_s(plan, objects)
        self._verbose = verbose
        self._console = Console()

    async def run(self) -> int:
        """Return the exit code. Raises an `EbsError` if the system cannot work or takes too long."""
        request = StopRequest()
        terminal = PrefixedOutput(self._console.file, [API_ROLE, *worker_names(self._plan)])
        log = ProgramLog(
            self._plan.log_dir,
            terminal,
            on_gone=request.stop.set,
            verbose=self._verbose,
            tells_lives=self._verbose,
        )
        self._say(f"the logs of all processes are in {log.directory} (--verbose shows them here)")
        with closing(log), stop_on_signals(request), DownloadBar() as bar:
            system = LocalSystem(self._plan, log=log, say=self._say, on_download=bar)
            running = asyncio.create_task(system.run(request))
            playing = asyncio.create_task(self._play(system))
            try:
                await asyncio.wait([running, playing], return_when=asyncio.FIRST_COMPLETED)
                if not playing.done():
                    return INTERRUPTED  # unless `running` failed: it is awaited below
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
                f"posting {self._objects} objects of {settings.tasks_per_object} tasks each when the system is ready"
            )
            with TaskBar(self._console) as bar:
                play = DemoPlay(client, readiness_of(system, self._say), on_progress=bar)
                outcome = await play.run(self._objects, settings.tasks_per_object, self._timeout_s)
            self._console.print(totals_table(outcome.figures))
            windows = await client.get("/api/statistics/windows", params={"limit": _WINDOWS_SHOWN})
            if windows.is_success:
                self._console.print(windows_table(windows.json()["windows"]))
        if outcome.differences:
            typer.secho("the counts are wrong: " + "; ".join(outcome.differences), fg=typer.colors.RED, err=True)
            return 1
        self._say(f"all {self._objects * settings.tasks_per_object} tasks are finished, and every count is exact")
        return 0

    def _suggest(self) -> None:
        url = self._plan.api_url
        self._say("the system runs until Ctrl-C; try in another terminal:")
        self._say(f"  curl -i -X POST {url}/api/objects      one more object; its address is in the answer")
        self._say(f"  curl -X POST '{url}/api/objects?count=1000'      many")
        self._say(f"  curl {url}/api/statistics      the totals")
        watched = f"sqlite3 {self._plan.settings.own_stats_db} 'select * from statistics'"  # noqa: S608  # for people
        self._say(f'  watch -n 1 "{watched}"')

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _authorization(settings: Settings) -> dict[str, str]:
    """Return the header of a key that may write, where the API that is started here has keys."""
    key = settings.api_key.get_secret_value() or next(iter(keys_of(settings.api_keys_write)), "")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _patience_s(plan: Plan, objects: int) -> float:
    settings = plan.settings
    work_s = settings.process_time.high_s
    return patience_s(objects, settings.tasks_per_object, work_s, settings.concurrency * plan.workers_per_role)
