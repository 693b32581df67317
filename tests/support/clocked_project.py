"""Kinds that wait for each reason there is: a retry, a delay, a rate, their key. Each run is written down."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ebs import Project

if TYPE_CHECKING:
    from ebs import Context, Task

RATE_PER_S = 20
CLOCKED = {"EBS_PROJECT": "clocked_project", "EBS_BACKOFF_S": "1", "EBS_MAX_ATTEMPTS": "3"}
"""Settings of all processes that have it; CLOCKED_RUNS is the path of the file of runs."""
RETRIED, DELAYED, RATED, KEYED = "retried", "delayed", "rated", "keyed"


class Run(NamedTuple):
    """A run of a task; times in seconds of the machine's monotonic clock, which no test sets."""

    kind: str
    task_id: str
    attempt: int
    begin_s: float
    end_s: float


def work(task: Task, context: Context) -> None:
    """Take 10 ms; the first attempt of `retried` fails, and that of the first task of each object of `keyed`."""
    begin_s = time.monotonic()
    time.sleep(0.01)
    line = f"{task.kind} {task.task_id} {context.attempt} {begin_s!r} {time.monotonic()!r}\n"
    # One write a line, so that lines of several processes do not mix.
    with Path(os.environ["CLOCKED_RUNS"]).open("ab", buffering=0) as runs:
        runs.write(line.encode())
    if context.attempt == 1 and (task.kind == RETRIED or (task.kind == KEYED and task.sequence == 0)):
        raise ConnectionError("not yet")


def read_runs(path: Path) -> list[Run]:
    """Return all runs."""
    lines = (line.split() for line in path.read_text().splitlines())
    return [Run(kind, task, int(attempt), float(begin), float(end)) for kind, task, attempt, begin, end in lines]


def out_of_order(runs: list[Run]) -> list[str]:
    """Return what of `keyed` did not run one after another, by object, each task with all of its attempts."""
    by_object: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.kind == KEYED:
            by_object[run.task_id.rpartition("-")[0]].append(run)
    found = []
    for of_object in by_object.values():
        for before, after in pairwise(sorted(of_object, key=lambda run: (run.task_id, run.attempt))):
            if after.begin_s < before.end_s:
                found.append(f"{after} began before the end of {before}")
    return found


project = Project()
project.task(RETRIED)(work)
project.task(DELAYED)(work)
project.task(RATED, rate_per_s=RATE_PER_S)(work)
project.task(KEYED, per_key=1)(work)
