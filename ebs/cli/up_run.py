"""What `ebs up` does: it runs the system until somebody stops it, and reports each start, stop and restart."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from app.errors import EbsError, SettingsError
from app.names import PROCESSING
from app.settings.project import makes_objects_up
from ebs.cli.bars import DownloadBar
from ebs.cli.local_system import OWN_ROLE, LocalSystem, unless_stopped
from ebs.cli.plan import API_ROLE, environment, worker_names
from ebs.cli.readiness import readiness_of
from ebs.local.prefixed_output import PrefixedOutput
from ebs.local.program_log import ProgramLog
from ebs.local.project_check import check_project
from ebs.local.reload import Reloader
from ebs.local.supervisor import StopRequest, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings.settings import Settings
    from ebs.cli.plan import Plan
    from ebs.local.project_check import ProjectCheck


async def run_up(plan: Plan, *, verbose: bool) -> None:
    """Run the plan. Raises an `EbsError` if the system cannot work."""
    if plan.settings.project and not plan.reload:
        plan = plan.with_queues((await _usable(plan)).queues.values())
    terminal = PrefixedOutput(sys.stdout, [OWN_ROLE, API_ROLE, *worker_names(plan)])
    request = StopRequest()
    log = ProgramLog(plan.log_dir, terminal, on_gone=request.stop.set, verbose=verbose)

    def say(line: str) -> None:
        log.event(OWN_ROLE, line)

    say(f"the logs of all processes are in {log.directory} (-v shows them here)")
    with stop_on_signals(request), DownloadBar() as bar:
        system = LocalSystem(plan, log=log, say=say, on_download=bar)
        beside = [asyncio.create_task(_announce(system, say)), asyncio.create_task(_tell_stop(request, say))]
        try:
            if plan.reload:
                reloader = Reloader(environment(plan), say=say, renew=lambda is_new: _renew(system, reloader, is_new))
                await unless_stopped(request, reloader.until_usable())
                system.plan = plan.with_queues(reloader.queues.values())
                beside.append(asyncio.create_task(_follow(system, reloader, say)))
            if not request.stop.is_set():
                await system.run(request)
        finally:
            for task in beside:
                task.cancel()
    say("everything is stopped")
    log.close()
    if log.is_gone:
        raise BrokenPipeError


async def _usable(plan: Plan) -> ProjectCheck:
    """Look at the project. Raises `SettingsError` if no process could use it; with --reload a save may repair it."""
    look = await check_project(environment(plan))
    if look.refusal is not None:
        raise SettingsError(look.refusal)
    return look


async def _follow(system: LocalSystem, reloader: Reloader, say: Callable[[str], None]) -> None:
    await system.started.wait()
    try:
        await reloader.follow()
    except EbsError as error:
        say(str(error))


def _renew(system: LocalSystem, reloader: Reloader, is_new: bool) -> None:  # noqa: FBT001  # called with one
    """Start again what works with the project; with other kinds, roles or queues also what only has to know those."""
    assert system.supervisor is not None  # it has started
    if is_new:
        system.supervisor.renew([API_ROLE, *system.follow_queues(reloader.queues.values())])
    else:
        workers = worker_names(system.plan)
        system.supervisor.renew(name for name, group in workers.items() if group.role == PROCESSING)


async def _announce(system: LocalSystem, say: Callable[[str], None]) -> None:
    await system.started.wait()
    await readiness_of(system, say).wait()
    url = system.plan.api_url
    say(f"ready: {_first_step(system.plan.settings, url)}, curl {url}/api/statistics counts; Ctrl-C stops all")


def _first_step(settings: Settings, url: str) -> str:
    """Return how to submit a first object: with a project, an empty request is refused."""
    if makes_objects_up(settings):
        return f"curl -X POST {url}/api/objects makes an object"
    return f"ebs submit --api {url} --kind KIND --content TEXT submits an object"


async def _tell_stop(request: StopRequest, say: Callable[[str], None]) -> None:
    await request.asked.wait()
    say("stopping; Ctrl-C again stops at once")
    await request.hurry.wait()
    say("stopping at once")
