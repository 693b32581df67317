"""A run in words, for a terminal and for the report of a test that fails."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from ebs.frames import users_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebs.testing.object_run import ObjectRun, TaskRun

_MAX_CHARS = 200
_MAX_TASKS = 50
_MAX_PRODUCED = 20


def story_of(run: ObjectRun, *, stacks: bool = False) -> str:
    """Return what happened: each task with its attempts, and the result.

    `stacks`: if the object failed, the stack of the last error follows.
    """
    return "\n".join(_lines(run, stacks=stacks))


def plain_run(value: Any) -> Any:
    """Return a run, or a part of one, as what JSON can hold: all but the exceptions themselves."""
    if is_dataclass(value):
        return {one.name: plain_run(getattr(value, one.name)) for one in fields(value) if one.name != "exception"}
    if isinstance(value, list):
        return [plain_run(one) for one in value]
    if isinstance(value, dict):
        return {name: plain_run(one) for name, one in value.items()}
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _lines(run: ObjectRun, *, stacks: bool) -> Iterator[str]:
    yield f"object {run.object_id} of kind {run.kind}: {run.state}"
    # A long list hides what failed: of the others, only the first are shown.
    shown = [task for number, task in enumerate(run.all_tasks) if task.error or number < _MAX_TASKS]
    for task in shown:
        yield from _told(task, run)
    if len(shown) < len(run.all_tasks):
        yield f"  and {len(run.all_tasks) - len(shown)} more tasks, which finished"
    for one in run.submitted[:_MAX_PRODUCED]:
        callback = f", callback to {one.callback_url}" if one.callback_url else ""
        yield f"submitted: {one.kind} {_short(one.content)}{callback}"
    for record in run.sent[:_MAX_PRODUCED]:
        value = "a tombstone" if record.value is None else _cut(record.value.decode(errors="backslashreplace"))
        yield f"sent to {record.topic}: {value}"
    more = max(0, len(run.submitted) - _MAX_PRODUCED) + max(0, len(run.sent) - _MAX_PRODUCED)
    if more:
        yield f"and {more} more objects and records"
    if run.join is not None and run.join.error is None:
        yield f"result: {_short(run.result)}"
    if stacks and run.state != "FINISHED" and run.errors and users_part(run.errors[-1].exception.__traceback__):
        yield f"\n{run.errors[-1].stack.rstrip()}"


def _told(task: TaskRun, run: ObjectRun) -> Iterator[str]:
    label = task.role if task.sequence is None else f"task {task.sequence}"
    if task.name and task.role == "task":
        label += f" {_short(task.name)}"
    if task.error is not None:
        outcome = f"DEAD after {_count(len(task.attempts), 'attempt')}"
    else:
        outcome = _count(len(run.tasks), "task") if task.role == "split" else _short(task.result)
    yield f"  {label}: {outcome}"
    if task.error is None and len(task.attempts) == 1:
        return
    for attempt in task.attempts:
        what = "returned" if attempt.error is None else "\n      ".join(f"failed: {attempt.error}".split("\n"))
        yield f"    attempt {attempt.number}, at {attempt.started_s:,.1f} s: {what}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short(value: Any) -> str:
    return _cut(json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
