"""The fixtures `ebs_run` and `ebs_arun`: `ebs.testing.run` and `arun` for tests with pytest.

Every pytest of an environment with ebs imports this file at its start: it imports the rest when a fixture is used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from ebs.testing import ObjectRun


@pytest.fixture
def ebs_run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ObjectRun]:
    """Run one object in this process: `ebs_run(project, kind, content)` is `ebs.testing.run` with the default settings.

    Variables named EBS_* of the environment do not count. If the test fails, its report shows each run.
    """
    from ebs.testing import run

    _use_defaults(monkeypatch)

    def run_and_report(*given: Any, **named: Any) -> ObjectRun:
        return _reported(request, run(*given, **named))

    return run_and_report


@pytest.fixture
def ebs_arun(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Coroutine[Any, Any, ObjectRun]]:
    """Do what `ebs_run` does, for tests that are `async def`.

    Write `await ebs_arun(project, kind, content)`.
    """
    from ebs.testing import arun

    _use_defaults(monkeypatch)

    async def run_and_report(*given: Any, **named: Any) -> ObjectRun:
        return _reported(request, await arun(*given, **named))

    return run_and_report


def _use_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("EBS_"):
            monkeypatch.delenv(name)


def _reported(request: pytest.FixtureRequest, run: ObjectRun) -> ObjectRun:
    from ebs.testing.story import story_of

    request.node.add_report_section("call", "ebs_run", story_of(run))
    return run
