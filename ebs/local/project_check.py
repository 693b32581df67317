"""Asks a process whether a project can be used: to import it runs anybody's code, so that never happens here."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, NamedTuple

from ebs import start
from ebs.local.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMPORT_LIMIT_S = 60.0


class ProjectCheck(NamedTuple):
    """What a look at the project found: why it cannot be used, or what it has functions for.

    `imported_tests` are files that look like tests but are part of the project, relative to the current folder.
    `queues` are the queues of its kinds.
    """

    refusal: str | None
    functions: list[list[str]]
    imported_tests: list[str]
    queues: Mapping[str, str] = {}


async def check_project(env: Mapping[str, str]) -> ProjectCheck:
    """Look at the project that EBS_PROJECT names in `env`, from the current folder."""
    process = await asyncio.create_subprocess_exec(
        *tethered(start.command("agents.execution.check")),
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_IMPORT_LIMIT_S):
            answer, errors = await process.communicate()
    except TimeoutError:
        return ProjectCheck(f"the import takes more than {_IMPORT_LIMIT_S:.0f} s", [], [])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == 0 and answer:
        return ProjectCheck(**json.loads(answer))
    said = errors.decode(errors="replace").strip().splitlines()
    ended = f"the import ends its process (exit code {process.returncode})"
    return ProjectCheck(said[-1] if said else ended, [], [])
