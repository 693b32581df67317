"""Options by which commands say which dead letters they mean."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebs.cli.instants import instant_ms

if TYPE_CHECKING:
    from collections.abc import Callable

LETTERS = "dead-letters"

Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind of task.")]
Error = Annotated[
    str | None, typer.Option("--error", metavar="TEXT", help="Only if the error's type or message contains this.")
]
Fingerprint = Annotated[
    str | None, typer.Option("--fingerprint", metavar="ID", help="Only this group of errors (see `groups`).")
]
Topic = Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="Only records of this topic.")]
Object = Annotated[str | None, typer.Option("--object", metavar="ID", help="Only tasks of this object.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Died at or after: 2h, 2026-11-24T07:00.")]
Before = Annotated[str | None, typer.Option("--before", metavar="TIME", help="Died before: 10m, 2026-11-24T07:00.")]
LetterId = Annotated[str, typer.Argument(metavar="ID", help="The letter's id, such as 3-17.")]


def conditions(
    *,
    kind: Kind = None,
    error: Error = None,
    fingerprint: Fingerprint = None,
    topic: Topic = None,
    of_object: Object = None,
    since: Since = None,
    before: Before = None,
) -> dict[str, Any]:
    """Return the conditions as the API takes them; None: none. Raises `typer.BadParameter` for what is no time."""
    return {
        "kind": kind,
        "error": error,
        "fingerprint": fingerprint,
        "topic": topic,
        "object_id": of_object,
        "since_ms": instant_ms(since),
        "before_ms": instant_ms(before),
    }


def by_conditions(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `conditions` in place of its parameter `wanted`, which gets what they return."""
    options = inspect.signature(conditions, eval_str=True).parameters
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        one
        for name, parameter in signature.parameters.items()
        for one in (options.values() if name == "wanted" else [parameter])
    ]

    @functools.wraps(command)
    def run(*arguments: Any, **named: Any) -> None:
        bound = shown.bind(*arguments, **named)
        bound.apply_defaults()
        given = bound.arguments
        command(wanted=conditions(**{name: given.pop(name) for name in options}), **given)

    # typer reads both.
    shown = signature.replace(parameters=parameters)
    run.__signature__ = shown  # type: ignore[attr-defined]  # the documented way (PEP 362)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
