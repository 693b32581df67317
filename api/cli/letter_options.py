"""Options by which commands say which dead letters they mean."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from api.cli.instants import instant_ms

LETTERS = "dead-letters"

Kind = Annotated[str | None, typer.Option("--kind", help="Only this kind of task.")]
Error = Annotated[str | None, typer.Option("--error", help="Only errors whose type or message contains this.")]
Fingerprint = Annotated[str | None, typer.Option("--fingerprint", help="Only this group (see `groups`).")]
Topic = Annotated[str | None, typer.Option("--topic", help="Only what came from this topic.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="From then on: 2h, 2026-11-24T07:00.")]
Before = Annotated[str | None, typer.Option("--before", metavar="TIME", help="Before then: 10m, 2026-11-24T07:00.")]
LetterId = Annotated[str, typer.Argument(metavar="ID", help="The letter's id, such as 3-17.")]


def conditions(
    *,
    kind: str | None,
    error: str | None,
    fingerprint: str | None,
    topic: str | None,
    since: str | None,
    before: str | None,
) -> dict[str, Any]:
    """Return the conditions as the API takes them; None: none. Raises `typer.BadParameter` for what is no time."""
    return {
        "kind": kind,
        "error": error,
        "fingerprint": fingerprint,
        "topic": topic,
        "since_ms": instant_ms(since),
        "before_ms": instant_ms(before),
    }
