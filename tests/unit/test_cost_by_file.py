"""The table of what test files cost, as `make test` prints it."""

from __future__ import annotations

import subprocess
import sys

from cost_by_file import table, tree_cpu_s

BURN = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\n"
SEEN_S = 0.15
"""Of the 0.2 s: the kernel rounds four figures of each process down to ticks of 10 ms."""


def test_most_expensive_file_comes_first_and_all_are_summed():
    """The sum counts the rows that are not shown, too."""
    costs = {f"test_{number}.py": (number, 2 * number) for number in range(40)}
    _, first, *rest, total = table(costs)
    assert ["39.0", "78.0", "test_39.py"] == first.split()
    assert 24 == len(rest)
    assert ["780.0", "1560.0", "all", "40", "rows"] == total.split()


def test_cpu_of_processes_below_counts_while_they_live_and_afterwards():
    """A broker is counted while it runs, a command that has ended is not forgotten."""
    before_s = tree_cpu_s()
    with subprocess.Popen([sys.executable, "-c", BURN + "input()"], stdin=-1, stdout=-1) as process:
        process.stdout.readline()
        assert tree_cpu_s() - before_s >= SEEN_S
        process.communicate(b"\n")
    assert tree_cpu_s() - before_s >= SEEN_S
