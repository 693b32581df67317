"""A pytest plugin: `--cost` prints the CPU and wall time of each test file, most expensive first (Linux only).

CPU is that of pytest and of all processes below it: brokers, workers, browsers. A fixture is charged to the file whose
test is the first to ask for it. When the parent of a process ends first, the time of this process is lost. Chromium
does this to its renderers, so the figures of tests/browser are too low.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

COLLECTION = "(start and collection)"
_LINES = 25
_CPU = slice(11, 15)
"""utime, stime, cutime, cstime among what follows the name in /proc/PID/stat (proc_pid_stat(5))."""


class CostByFile:
    """CPU and wall time (s) by file, in one process of pytest and in the workers that report to it."""

    def __init__(self) -> None:
        self.costs: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._before = (0.0, time.monotonic())
        self._file: str | None = None

    def pytest_runtestloop(self) -> None:
        """Charge what was used before the first test."""
        self._charge(COLLECTION)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Charge a file after the last of its tests: a look at all processes costs 5 ms."""
        if self._file is None:  # an xdist worker has waited for this test since the last one
            self._before = (tree_cpu_s(), time.monotonic())
        self._file = item.nodeid.partition("::")[0]
        result = yield
        if nextitem is None or nextitem.path != item.path:
            self._charge(self._file)
            self._file = None
        return result

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Send the costs of an xdist worker to the process that prints them."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["cost_by_file"] = dict(self.costs)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take the costs of an xdist worker; one that crashed has sent none."""
        for file, used in getattr(node, "workeroutput", {}).get("cost_by_file", {}).items():
            self._add(file, *used)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        terminalreporter.section("cost by file")
        for line in table(self.costs):
            terminalreporter.write_line(line)

    def _charge(self, file: str) -> None:
        cpu_s, at_s = self._before
        self._add(file, max(tree_cpu_s() - cpu_s, 0.0), time.monotonic() - at_s)

    def _add(self, file: str, cpu_s: float, wall_s: float) -> None:
        self.costs[file][0] += cpu_s
        self.costs[file][1] += wall_s


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.addoption("--cost", action="store_true", help="print the CPU and wall time of each test file (Linux)")


def pytest_configure(config: pytest.Config) -> None:
    """Measure if asked to."""
    if config.getoption("--cost"):
        config.pluginmanager.register(CostByFile())


def table(costs: Mapping[str, Iterable[float]]) -> list[str]:
    """Return the lines of the table: the files that cost most, and the sum of all."""
    rows = sorted(((cpu_s, wall_s, file) for file, (cpu_s, wall_s) in costs.items()), reverse=True)
    total = (sum(row[0] for row in rows), sum(row[1] for row in rows), f"all {len(rows)} rows")
    shown = [*rows[:_LINES], total]
    return ["   CPU s   wall s  file", *(f"{cpu_s:8.1f} {wall_s:8.1f}  {file}" for cpu_s, wall_s, file in shown)]


def tree_cpu_s() -> float:
    """Return the CPU time (s) of this process and of all processes below it, ended ones included."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    used: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(") ")[2].split()
        except OSError:
            continue  # the process has just ended
        pid = int(path.parent.name)
        children[int(fields[1])].append(pid)
        used[pid] = sum(map(int, fields[_CPU]))
    waiting, ticks = [os.getpid()], 0
    while waiting:
        pid = waiting.pop()
        ticks += used.get(pid, 0)
        waiting += children[pid]
    return ticks / os.sysconf("SC_CLK_TCK")
