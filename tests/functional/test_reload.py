"""What `ebs up --reload` does with the project's files: a process of its own imports each version before it is used."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.errors import SettingsError
from ebs.local import project_check
from ebs.local.project_check import check_project
from ebs.local.reload import Reloader

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_S = 120
HEAD = "from ebs import Project\nproject = Project()\n"
PRICE = '@project.task("order")\ndef price(task, context): return 1\n'
TOTAL = '@project.join("order")\ndef total(results, context): return 2\n'
BROKEN = "def price(:\n"


class Stage:
    """A folder with a project, and what its reloader says and does."""

    def __init__(self, folder: Path) -> None:
        (folder / "shop").mkdir()
        self.work = folder / "shop" / "work.py"
        self.said: list[str] = []
        self.renewed: list[bool] = []
        self._news = asyncio.Event()

    def reloader(self) -> Reloader:
        """Return a reloader of the current folder."""
        return Reloader({**os.environ, "EBS_PROJECT": "shop.work"}, say=self.say, renew=self.renew)

    def say(self, line: str) -> None:
        """Hear a line."""
        self.said.append(line)
        self._news.set()

    def renew(self, is_new: bool) -> None:  # noqa: FBT001
        """Hear that programs are to start again."""
        self.renewed.append(is_new)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when a condition holds."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Return a stage in its folder."""
    monkeypatch.chdir(tmp_path)
    return Stage(tmp_path)


async def test_changes_are_used_as_soon_as_they_can_be(stage: Stage) -> None:
    """A file that cannot be imported is named and changes nothing; the next save goes on."""
    stage.work.write_text(HEAD + BROKEN)
    reloader = stage.reloader()
    waiting = asyncio.create_task(reloader.until_usable())
    await stage.until(lambda: len(stage.said) == 1)
    assert "EBS_PROJECT=shop.work" in stage.said[0]
    assert "SyntaxError: invalid syntax (work.py, line 3)" in stage.said[0]
    stage.work.write_text(HEAD + PRICE)
    async with asyncio.timeout(LIMIT_S):
        await waiting

    following = asyncio.create_task(reloader.follow())
    stage.work.write_text(HEAD + PRICE.replace("1", "3"))
    await stage.until(lambda: stage.renewed == [False])
    assert "shop/work.py changed: processing restarts" == stage.said[-1]
    stage.work.write_text(HEAD + PRICE + BROKEN)
    await stage.until(lambda: "cannot be used" in stage.said[-1])
    assert "shop/work.py changed, but it cannot be used" in stage.said[-1]
    assert "SyntaxError" in stage.said[-1]
    assert [False] == stage.renewed
    stage.work.write_text(HEAD + PRICE + TOTAL)
    await stage.until(lambda: stage.renewed == [False, True])
    assert "shop/work.py changed: all processes restart" == stage.said[-1]
    stage.work.write_text(HEAD + PRICE.replace('"order"', '"order", queue="gpu"') + TOTAL)
    await stage.until(lambda: stage.renewed == [False, True, True])
    assert "gpu" == reloader.queues["order"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_save_while_the_project_is_looked_at_is_not_missed(stage: Stage) -> None:
    """It watches before the first look, so the workers never keep what is older than the file."""
    stage.work.write_text(HEAD + PRICE)
    reloader = stage.reloader()
    looking = asyncio.create_task(reloader.until_usable())
    await asyncio.sleep(0)
    stage.work.write_text(HEAD + PRICE + TOTAL)
    await looking
    following = asyncio.create_task(reloader.follow())
    await stage.until(lambda: len(stage.renewed) == 1)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_a_saved_test_restarts_nothing(stage: Stage) -> None:
    """Whatever pytest calls a test, in each folder; but the project may import what only looks like one."""
    stage.work.write_text(HEAD + "from shop import ab_test\n" + PRICE)
    product = stage.work.with_name("ab_test.py")
    product.touch()
    (stage.work.parent / "tests").mkdir()
    reloader = stage.reloader()
    await reloader.until_usable()
    following = asyncio.create_task(reloader.follow())
    for name in ("test_work.py", "work_test.py", "conftest.py", "tests/helpers.py"):
        (stage.work.parent / name).write_text("a = 1\n")
    product.write_text("a = 1\n")
    await stage.until(lambda: len(stage.renewed) == 1)
    assert ["shop/ab_test.py changed: processing restarts"] == stage.said
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_an_import_that_hangs_is_ended(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """And told like any other that cannot be used."""
    monkeypatch.setattr(project_check, "_IMPORT_LIMIT_S", 0.5)
    stage.work.write_text("import time\ntime.sleep(600)\n")
    waiting = asyncio.create_task(stage.reloader().until_usable())
    await stage.until(lambda: len(stage.said) == 1)
    assert "the import takes more than" in stage.said[0]
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize("noise", ["print('at work', end='')", "import atexit; atexit.register(print, 'bye')"])
async def test_what_a_project_prints_is_no_answer(stage: Stage, noise: str) -> None:
    """Neither before it nor behind it."""
    stage.work.write_text(f"{HEAD}{noise}\n{PRICE}")
    found = await check_project({**os.environ, "EBS_PROJECT": "shop.work"})
    assert (None, [["task", "order"]], [], {"order": "default", "ebs.callback": "default"}) == found


@pytest.mark.parametrize("code", [0, 3])
async def test_an_import_that_ends_its_process_is_refused(stage: Stage, code: int) -> None:
    """Also as if all was well."""
    stage.work.write_text(f"import os\nos._exit({code})\n")
    found = await check_project({**os.environ, "EBS_PROJECT": "shop.work"})
    assert (f"the import ends its process (exit code {code})", [], [], {}) == found


async def test_a_missing_watchfiles_is_shown_with_the_command(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with the extra `local`."""
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    stage.work.write_text(HEAD + BROKEN)
    with pytest.raises(SettingsError, match=r"needs the package watchfiles: .*pip install"):
        await stage.reloader().until_usable()


def test_without_reload_an_unusable_project_is_refused_at_once(tmp_path: Path) -> None:
    """Before Kafka starts, and with the name that was meant."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "work.py").write_text(HEAD + PRICE)
    argv = [Path(sys.executable).with_name("ebs"), "up", "--project", "shop.wrok"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("EBS_")}
    ran = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert (1, "") == (ran.returncode, ran.stdout)
    assert 'ebs: EBS_PROJECT=shop.wrok: there is no module shop.wrok (did you mean "shop.work"?)\n' == ran.stderr
    assert ["shop"] == [path.name for path in tmp_path.iterdir() if path.name != ".ebs"]
