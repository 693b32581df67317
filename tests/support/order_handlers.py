"""A handler that writes down when each of its runs begins and ends, so that a test sees which ones met."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ebs import Project

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebs import Context, Task

WORK_S = 0.1


class Span(NamedTuple):
    """A run of an object's task by a process; times in seconds of the machine's monotonic clock."""

    object_id: str
    begin_s: float
    end_s: float
    task_id: str
    process: int


async def spanned(task: Task, _context: Context) -> None:
    """Take some time, and write down from when to when, also if cancelled."""
    path = Path(os.environ["ORDER_HANDLER_SPANS"])
    begin_s = time.monotonic()
    _write(path, "begin", task, begin_s)
    try:
        await asyncio.sleep(WORK_S)
    finally:
        _write(path, "end", task, time.monotonic())


def _write(path: Path, word: str, task: Task, at_s: float) -> None:
    # One write a line, so that lines of several processes do not mix.
    with path.open("ab", buffering=0) as spans:
        spans.write(f"{word} {task.object_id} {task.task_id} {os.getpid()} {at_s!r}\n".encode())


def read_spans(path: Path, killed_at_s: Mapping[int, float]) -> list[Span]:
    """Return all runs; one that a kill ended ends when its process did."""
    begun: dict[tuple[str, int], float] = {}
    spans = []
    for line in path.read_text().splitlines():
        word, object_id, task_id, process, at_s = line.split()
        key = (task_id, int(process))
        if word == "begin":
            assert key not in begun, f"{task_id} began twice in one process"
            begun[key] = float(at_s)
        else:
            spans.append(Span(object_id, begun.pop(key), float(at_s), task_id, key[1]))
    for (task_id, process), begin_s in begun.items():
        spans.append(Span(task_id.rpartition("-")[0], begin_s, max(begin_s, killed_at_s[process]), task_id, process))
    return spans


def meetings(spans: list[Span]) -> list[tuple[Span, Span]]:
    """Return the pairs of runs of one object that were at work at the same time."""
    met = []
    latest: dict[str, Span] = {}
    for span in sorted(spans, key=lambda one: one.begin_s):
        before = latest.get(span.object_id)
        if before is not None and span.begin_s < before.end_s:
            met.append((before, span))
        if before is None or span.end_s > before.end_s:
            latest[span.object_id] = span
    return met


project = Project()
project.task("*", per_key=1)(spanned)
