"""Dead letters, groups and redrives as people read them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from api.dead_letters.schemas import (
    ActAnswer,
    GroupAnswer,
    HeaderAnswer,
    LetterAnswer,
    LetterDetail,
    LetterLinks,
    RefusedAnswer,
    RunAnswer,
    RunLinks,
)
from api.dependencies import object_links, task_link
from app.events import DECODE_ERRORS, parse_task_id
from app.rules.dead_letters import MESSAGE_HEADER, STACK_TRACE_HEADER
from app.rules.letter_acts import LetterState

if TYPE_CHECKING:
    from api.view.dead_letter_summaries import LetterSummary
    from api.view.dead_letters import Groups
    from app.rules.letter_acts import LetterId
    from app.rules.redrive import DeadLetterRecord
    from app.rules.redrive_runs import RunProgress

PATH = "/api/dead-letters"
_PREVIEW_CHARS = 2_000
_MAX_UTF8_BYTES = 4


def describe_letter(letter_id: LetterId, summary: LetterSummary) -> LetterAnswer:
    """Return a letter as it stands in a list."""
    return LetterAnswer(
        id=str(letter_id),
        state=summary.state,
        at_ms=summary.at_ms,
        fingerprint=summary.fingerprint,
        error_type=summary.error_type or None,
        error=summary.message or None,
        topic=summary.topic or None,
        kind=summary.kind or None,
        task_id=summary.task_id or None,
        object_id=summary.object_id or None,
        attempts=summary.attempts,
        redrive=summary.redrive,
        acts=[
            ActAnswer(
                state=done.state,
                at_ms=done.at_ms,
                by=done.by,
                reason=done.reason or None,
                redrive=done.redrive if done.state is LetterState.REDRIVEN else None,
            )
            for done in summary.acts
        ],
        links=letter_links(letter_id, summary.object_id or None, summary.task_id),
    )


def describe_fully(letter_id: LetterId, summary: LetterSummary, letter: DeadLetterRecord) -> LetterDetail:
    """Return a letter with its bytes, headers and stack trace."""
    headers = {name: value.decode("utf-8", "replace") for name, value in letter.headers}
    listed = msgspec.structs.asdict(describe_letter(letter_id, summary))
    return LetterDetail(
        **listed | {"error": headers.get(MESSAGE_HEADER) or None},
        key=None if letter.key is None else letter.key.decode("utf-8", "replace"),
        **_describe_value(letter.value),
        headers=[HeaderAnswer(name, value.decode("utf-8", "replace")) for name, value in letter.headers],
        stack_trace=headers.get(STACK_TRACE_HEADER),
    )


def letter_links(letter_id: LetterId, object_id: str | None, task_id: str | None = None) -> LetterLinks:
    """Return the links of a letter."""
    tasks = None if object_id is None else object_links(object_id).tasks
    parsed = parse_task_id(task_id or "")
    task = None if parsed is None or parsed[0] != object_id else task_link(*parsed)
    return LetterLinks(f"{PATH}/{letter_id}", tasks, task)


def describe_groups(groups: Groups) -> GroupAnswer:
    """Return a fingerprint's letters."""
    return GroupAnswer(
        fingerprint=groups.fingerprint,
        count=sum(groups.counts.values()),
        states=groups.counts,
        kinds=_most_first(groups.kinds),
        topics=_most_first(groups.topics),
        first_at_ms=groups.first_at_ms,
        last_at_ms=groups.last_at_ms,
        error_type=groups.error_type or None,
        error=groups.message or None,
    )


def _most_first(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def describe_run(run: RunProgress) -> RunAnswer:
    """Return how far a redrive of many letters is."""
    return RunAnswer(
        id=run.run_id,
        state=run.state,
        filter=run.wanted,
        by=run.by,
        rate_per_s=run.rate_per_s,
        redriven_count=run.redriven_count,
        refused_count=run.refused_count,
        skipped_count=run.skipped_count,
        refused=[RefusedAnswer(*one) for one in run.refused],
        error=run.error,
        started_at_ms=run.started_at_ms,
        ended_at_ms=run.ended_at_ms,
        links=RunLinks(f"{PATH}/redrives/{run.run_id}"),
    )


def _describe_value(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"value": None, "value_base64": None, "value_text": None, "value_bytes": None}
    told: dict[str, Any]
    try:
        msgspec.json.decode(value)
    except DECODE_ERRORS:
        text = value[: _PREVIEW_CHARS * _MAX_UTF8_BYTES].decode("utf-8", "replace")[:_PREVIEW_CHARS]
        told = {"value": None, "value_base64": base64.b64encode(value).decode(), "value_text": text}
    else:
        told = {"value": msgspec.Raw(value), "value_base64": None, "value_text": None}
    return {**told, "value_bytes": len(value)}
