"""Applies changes of a project: watches its files, and checks in a separate process whether they can be used.

A file that cannot be imported changes nothing: the programs go on with what they have. Neither does a test, unless the
project imports it: a test is saved often, and a restart interrupts tasks.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import SettingsError
from app.process.extras import how_to_install
from app.process.test_files import is_test
from ebs.local.project_check import check_project

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from watchfiles import Change

    from ebs.local.project_check import ProjectCheck


class Reloader:
    """Follows the project of `env` (EBS_PROJECT) in the current folder; `say(line)` tells people.

    `renew(is_new)` is called when a changed project can be used; `is_new`: it has functions for other kinds or roles,
    or other queues, which all processes have to know. `queues` are the queues of its kinds.
    """

    def __init__(self, env: Mapping[str, str], *, say: Callable[[str], None], renew: Callable[[bool], None]) -> None:
        """Begin to watch; in the event loop."""
        self._env = env
        self._say = say
        self._renew = renew
        self._functions: list[list[str]] = []
        self.queues: Mapping[str, str] = {}
        self._imported_tests: frozenset[str] | None = None
        self._changes = _changes(Path.cwd(), self._matters)
        # It watches from here on: what is saved while a process looks at the project is the next change.
        self._next = asyncio.ensure_future(anext(self._changes))

    async def until_usable(self) -> None:
        """Return when the project can be used: each save is another try."""
        while (look := await self._look()).refusal is not None:
            self._say(f"{look.refusal}. Nothing starts until the project can be used: repair the file and save it")
            await self._changed()
        self._functions, self.queues = look.functions, look.queues

    async def follow(self) -> None:
        """Renew the programs with each change, until cancelled."""
        while True:
            changed = await self._changed()
            look = await self._look()
            if look.refusal is not None:
                self._say(f"{changed} changed, but it cannot be used, so the workers keep the old one: {look.refusal}")
                continue
            is_new = (look.functions, look.queues) != (self._functions, self.queues)
            self._functions, self.queues = look.functions, look.queues
            who = "all processes restart" if is_new else "processing restarts"
            self._say(f"{changed} changed: {who}")
            self._renew(is_new)

    async def _look(self) -> ProjectCheck:
        look = await check_project(self._env)
        # Any file may repair a project that cannot be used.
        self._imported_tests = None if look.refusal is not None else frozenset(look.imported_tests)
        return look

    def _matters(self, path: Path) -> bool:
        """Return whether a change of a file can change the project; `path` is relative to the current folder."""
        return self._imported_tests is None or not is_test(path) or str(path) in self._imported_tests

    async def _changed(self) -> str:
        """Return which files were changed, in words."""
        try:
            changed = await self._next
        except OSError as error:
            raise SettingsError(
                f"--reload cannot watch {Path.cwd()} ({error}): start in the folder of the project alone, or set "
                "WATCHFILES_FORCE_POLLING=true"
            ) from None
        self._next = asyncio.ensure_future(anext(self._changes))
        return changed


async def _changes(folder: Path, matters: Callable[[Path], bool]) -> AsyncGenerator[str]:
    try:
        from watchfiles import PythonFilter, awatch  # noqa: PLC0415  # it comes with an extra
    except ImportError:
        raise SettingsError(f"--reload needs the package watchfiles: {how_to_install('local')}") from None
    is_source = PythonFilter()

    def is_wanted(change: Change, path: str) -> bool:
        # The folders above the project say nothing: it may lie in one that is called `tests`.
        relative = Path(path).relative_to(folder)
        return is_source(change, str(relative)) and matters(relative)

    async for changes in awatch(folder, watch_filter=is_wanted):
        paths = sorted({str(Path(path).relative_to(folder)) for _, path in changes})
        yield paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
