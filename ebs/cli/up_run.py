"""What `ebs up` does: it runs the system until somebody stops it, and reports each start, stop and restart."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import TYPE_CHECKING

from app.errors import EbsError, SettingsError
from app.names import DISTRIBUTION, PROCESSING
from app.settings.project import makes_objects_up
from ebs.cli.bars import DownloadBar
from ebs.cli.local_system import API_ROLE, OWN_ROLE, LocalSystem, environment, unless_stopped, worker_names
from ebs.cli.readiness import readiness_of
from ebs.local.prefixed_output import PrefixedOutput
from ebs.local.program_log import ProgramLog
from ebs.local.project_check import check_project
from ebs.local.reload import Reloader
from ebs.local.supervisor import StopRequest, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.settings.settings import Settings
    from ebs.cli.local_system import Plan


async def run_up(plan: Plan, *, verbose: bool) -> None:
    """Run the plan. Raises an `EbsError` if the system cannot work."""
    terminal = PrefixedOutput(sys.stdout, [OWN_ROLE, API_ROLE, *worker_names(plan)])
    request = StopRequest()
    log = ProgramLog(plan.log_dir, terminal, on_gone=request.stop.set, verbose=verbose)

    def say(line: str) -> None:
        log.event(OWN_ROLE, line)

    if plan.settings.project and not plan.reload:
        await _refuse_unusable(plan)
    say(f"the logs of all processes are in {log.directory} (-v shows them here)")
    with stop_on_signals(request), DownloadBar() as bar:
        system = LocalSystem(plan, log=log, say=say, on_download=bar)
        beside = [asyncio.create_task(_announce(system, say)), asyncio.create_task(_tell_stop(request, say))]
        try:
            if plan.reload:
                reloader = Reloader(environment(plan), say=say, renew=partial(_renew, system))
                await unless_stopped(request, reloader.until_usable())
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


async def _refuse_unusable(plan: Plan) -> None:
    """Raise `SettingsError` if no process could use the project; with --reload the next save may repair it."""
    refusal = (await check_project(environment(plan))).refusal
    if refusal is not None:
        raise SettingsError(refusal)


async def _follow(system: LocalSystem, reloader: Reloader, say: Callable[[str], None]) -> None:
    await system.started.wait()
    try:
        await reloader.follow()
    except EbsError as error:
        say(str(error))


def _renew(system: LocalSystem, is_new: bool) -> None:  # noqa: FBT001  # the signature of a callback
    """Start again what works with the project; with other kinds or roles also what only has to know those."""
    assert system.supervisor is not None  # it has started
    roles = {PROCESSING, DISTRIBUTION} if is_new else {PROCESSING}
    names = [name for name, role in worker_names(system.plan).items() if role in roles]
    system.supervisor.renew([*names, API_ROLE] if is_new else names)


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
