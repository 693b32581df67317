"""A pytest plugin: in CI a test that is skipped fails, as nobody would notice that something is missing there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the report of each test."""
    return checked((yield), is_ci=bool(os.environ.get("CI")))


def checked(report: pytest.TestReport, *, is_ci: bool) -> pytest.TestReport:
    """Return the report, as a failure if the test was skipped in CI."""
    if is_ci and report.skipped:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{reason}\nIn CI (the variable CI is set) a test must not be skipped: .ci/install-tools."
    return report
