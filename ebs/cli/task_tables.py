"""The output for one task: its fields, its attempts, and the stack trace of the last failed attempt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from app.rules.waiting_rows import TIMED_REASONS
from ebs.cli.instants import clock_text, instant_text
from ebs.cli.remote import table_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import RenderableType
    from rich.table import Table

    Answer = Mapping[str, Any]

_MAX_VALUE_CHARS = 2_000


def described_task(answer: Answer) -> Iterator[RenderableType]:
    """Yield tables and lines that describe a task."""
    yield _task_table(answer)
    history = answer["attempt_history"]
    if history:
        yield _attempts_table(history)
    if not answer["history_complete"]:
        yield "some events of this task are deleted by the retention of the topic: not all attempts can be shown"
    failed = next((one for one in reversed(history) if one["stack_trace"]), None)
    if failed is not None:
        yield ""
        yield f"stack trace of attempt {_number(failed)} (--json has those of all attempts):"
        # Line by line: `show` escapes a line break within a text.
        yield from failed["stack_trace"].rstrip().split("\n")


def _task_table(answer: Answer) -> Table:
    content = "deleted by the retention of the topics" if answer["content_deleted"] else _value(answer["content"])
    instants = ("created_at_ms", "started_at_ms", "ended_at_ms")
    progress = None if answer["progress"] is None else f"{answer['progress']:.0%}"
    running = [("progress", progress), ("message", answer["message"]), ("worker", answer["worker"])]
    waits = answer.get("waiting")
    rows = [
        ("state", answer["state"]),
        *([("waits for", wait_text(waits).removeprefix("waits for "))] if waits else []),
        *((what, told) for what, told in running if told),
        ("role", answer["role"]),
        ("kind", answer["kind"]),
        ("name", answer["name"]),
        ("content", content),
        *([("result", _value(answer["result"]))] if answer["state"] == "FINISHED" else []),
        *([("error", answer["error"])] if answer["error"] else []),
        *((name.removesuffix("_at_ms"), answer[name] and instant_text(answer[name])) for name in instants),
        (
            "attempts",
            f"{answer['attempts']}" + (f", redriven {answer['redrives']} times" if answer["redrives"] else ""),
        ),
    ]
    return table_of(f"task {answer['id']}", ("what", "is"), rows)


def _attempts_table(history: list[Answer]) -> Table:
    headings = ("attempt", "ended", "worker", "started", "waited", "worked", "next one due", "error")
    rows = [
        (
            _number(one),
            one["outcome"],
            one["worker"],
            one["started_at_ms"] and clock_text(one["started_at_ms"]),
            _seconds(one["waited_ms"]),
            _seconds(one["worked_ms"]),
            one["next_attempt_at_ms"] and clock_text(one["next_attempt_at_ms"]),
            one["error"],
        )
        for one in history
    ]
    return table_of("attempts", headings, rows)


def attempt_text(number: int, redrive: int) -> str:
    """Return which attempt this is."""
    return f"{number}" + (f" (redrive {redrive})" if redrive else "")


def _number(attempt: Answer) -> str:
    return attempt_text(attempt["number"], attempt["redrive"])


def wait_text(waits: Answer) -> str:
    """Return what a task waits for, and until when."""
    until = "" if waits["due_at_ms"] is None else f" until {instant_text(waits['due_at_ms'])}"
    reason = waits["reason"]
    return f"{reason}{until}" if reason in TIMED_REASONS else f"waits for its {reason}"


def short_json(value: Any, max_chars: int) -> str:
    """Return a value as JSON, a long one only with its beginning."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def _value(value: Any) -> str:
    return short_json(value, _MAX_VALUE_CHARS)


def seconds_text(duration_ms: int) -> str:
    """Return a duration."""
    return f"{duration_ms / 1_000:,.3f} s"


def _seconds(duration_ms: int | None) -> str | None:
    return None if duration_ms is None else seconds_text(duration_ms)
