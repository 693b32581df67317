"""The commands of operators: `ebs pause`, `resume`, `cancel`, `rate`, `limit`, `concurrency`, `drain`, `control`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.rules.commands import MAX_CONCURRENCY
from ebs.cli.client import path_of
from ebs.cli.control_tables import control_table, still_paused
from ebs.cli.instants import instant_ms
from ebs.cli.remote import Api, AsJson, open_api, show, show_with_warnings
from ebs.function import MAX_LIMIT, MAX_PER_S

if TYPE_CHECKING:
    from rich.console import RenderableType


def _check_rate(per_s: float | None) -> float | None:
    # NaN passes typer's check of a range, and JSON has no form for it.
    if per_s is not None and not 0 < per_s <= MAX_PER_S:
        raise typer.BadParameter(f"must be more than 0 and at most {MAX_PER_S:,}")
    return per_s


Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind of task. Default: all kinds.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Reason, shown to other people.")]
Off = Annotated[bool, typer.Option("--off", help="Undo the command.")]
WorkerOption = Annotated[
    str | None, typer.Option("--worker", metavar="WORKER", help="Only this worker (see `ebs workers`).")
]


def pause(
    context: typer.Context, *, kind: Kind = None, reason: Reason = "", as_json: AsJson = False, api: Api = None
) -> None:
    """Start no new tasks, of all kinds or of one kind.

    Running tasks finish. The pause lasts until `ebs resume`, also if processes restart.
    """
    with open_api(context, api) as client:
        answer = client.post(path_of("control", "pause"), _given(kind=kind, reason=reason))
    option = f" --kind {kind}" if kind else ""
    _show(answer, f"{kind or 'every kind'} is paused; `ebs resume{option}` undoes it", as_json=as_json)


def resume(context: typer.Context, *, kind: Kind = None, as_json: AsJson = False, api: Api = None) -> None:
    """Undo the pause of all kinds, or of one kind."""
    with open_api(context, api) as client:
        answer = client.post(path_of("control", "resume"), _given(kind=kind))
    words = f"the pause of {kind or 'all kinds'} is undone"
    _show(answer, words, *still_paused(answer["control"]), as_json=as_json)


def cancel(
    context: typer.Context,
    object_id: Annotated[str | None, typer.Argument(metavar="OBJECT_ID", help="An object, with all its tasks.")] = None,
    *,
    task: Annotated[str | None, typer.Option("--task", metavar="ID", help="One task.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="All tasks of this kind that exist now.")
    ] = None,
    before: Annotated[
        str | None, typer.Option("--before", metavar="TIME", help="Only tasks created before: 10m, 2026-11-24T07:00.")
    ] = None,
    reason: Reason = "",
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Cancel an object, a task, or many tasks.

    Many: all tasks of a kind, or all that were created before a time. Running tasks are cancelled, too.
    """
    is_filter = kind is not None or before is not None
    if [object_id is not None, task is not None, is_filter].count(True) != 1:
        raise typer.BadParameter("name one thing: an OBJECT_ID, or --task ID, or --kind and --before")
    body = _given(task_id=task, kind=kind, created_before_ms=instant_ms(before), reason=reason)
    with open_api(context, api) as client:
        if object_id is None:
            answer = client.post(path_of("control", "cancel"), body)
        else:
            answer = client.delete(path_of("objects", object_id), reason=reason or None)
    _show(answer, f"cancelled: {_named(object_id, task, kind, before)}", as_json=as_json)


def _named(object_id: str | None, task: str | None, kind: str | None, before: str | None) -> str:
    if object_id is not None:
        return f"object {object_id}; `ebs tasks {object_id}` shows its tasks"
    if task is not None:
        return f"task {task}"
    return f"all tasks of {kind or 'every kind'} that were created before {before or 'now'}"


def rate(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="A kind of tasks.")],
    per_s: Annotated[
        float | None, typer.Argument(metavar="PER_S", callback=_check_rate, help="Tasks that may start per second.")
    ] = None,
    *,
    off: Off = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Limit how many tasks of a kind start per second.

    The limit is for all workers together.
    """
    if off == (per_s is not None):
        raise typer.BadParameter("give either PER_S or --off")
    with open_api(context, api) as client:
        path = path_of("control", "rate", kind)
        answer = client.delete(path) if off else client.put(path, {"per_s": per_s})
    words = f"{kind} has no limit" if off else f"at most {per_s:g} tasks of {kind} start per second"
    _show(answer, words, as_json=as_json)


def limit(
    context: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="A kind of tasks.")],
    *,
    rate: Annotated[
        float | None, typer.Option("--rate", metavar="PER_S", callback=_check_rate, help="Tasks that start per second.")
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", metavar="N", min=1, max=MAX_LIMIT, help="Tasks of the kind that run at once."),
    ] = None,
    per_key: Annotated[
        int | None,
        typer.Option(
            "--per-key", metavar="N", min=1, max=MAX_LIMIT, help="Tasks of one key at once; 1: one after another."
        ),
    ] = None,
    off: Off = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Limit how many tasks of a kind, or of a key, run at once.

    The limits are for all workers together, and override those of the project. Limits that you do not name stay as they
    are. --off goes back to the limits of the project.
    """
    if off == any(one is not None for one in (rate, concurrency, per_key)):
        raise typer.BadParameter("give --rate, --concurrency or --per-key, or else --off")
    limits_path, rate_path = path_of("control", "limits", kind), path_of("control", "rate", kind)
    with open_api(context, api) as client:
        if off:
            client.delete(rate_path)
            answer = client.delete(limits_path)
        if rate is not None:
            answer = client.put(rate_path, {"per_s": rate})
        if concurrency is not None or per_key is not None:
            known = client.get(path_of("control"))["limits"].get(kind, {})
            answer = client.put(limits_path, known | _given(concurrency=concurrency, per_key=per_key))
    _show(answer, _limits_in_words(kind, answer["control"]), as_json=as_json)


def _limits_in_words(kind: str, in_force: dict[str, Any]) -> str:
    rate, limits = in_force["rates"].get(kind), in_force["limits"].get(kind, {})
    said = [
        f"{rate:g} start per second" if rate else "",
        f"{limits['concurrency']} run at once" if limits.get("concurrency") else "",
        f"{limits['per_key']} of each key run at once" if limits.get("per_key") else "",
    ]
    found = ", ".join(one for one in said if one)
    return f"of the tasks of {kind} at most {found}" if found else f"{kind} has the limits of the project"


def concurrency(
    context: typer.Context,
    count: Annotated[
        int | None,
        typer.Argument(metavar="N", min=1, max=MAX_CONCURRENCY, help="Tasks that a worker runs at once."),
    ] = None,
    *,
    worker: WorkerOption = None,
    off: Off = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Set how many tasks a worker runs at once.

    --off goes back to EBS_CONCURRENCY.
    """
    if off == (count is not None):
        raise typer.BadParameter("give either N or --off")
    with open_api(context, api) as client:
        path = path_of("control", "concurrency")
        answer = client.delete(path, worker=worker) if off else client.put(path, _given(count=count, worker=worker))
    who = worker or "each worker"
    words = f"{who} goes back to EBS_CONCURRENCY" if off else f"{who} runs at most {count} tasks at once"
    _show(answer, words, as_json=as_json)


def drain(
    context: typer.Context,
    worker: Annotated[str, typer.Argument(metavar="WORKER", help="Name of the worker (see `ebs workers`).")],
    *,
    off: Off = False,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Let one worker start no more tasks.

    Its running tasks have EBS_DRAIN_S to finish. Then other workers take over its partitions; if there is no other
    worker, the tasks wait. The drain lasts until --off, even if the worker restarts.
    """
    with open_api(context, api) as client:
        path = path_of("control", "drain", worker)
        answer = client.delete(path) if off else client.post(path)
    words = f"{worker} works again" if off else f"{worker} starts no more tasks; `ebs drain {worker} --off` undoes it"
    _show(answer, words, as_json=as_json)


def control(context: typer.Context, *, as_json: AsJson = False, api: Api = None) -> None:
    """Show the pauses, limits, cancels and drains in force.

    Limits of the project are among them.
    """
    with open_api(context, api) as client:
        answer = client.get(path_of("control"))
    table = control_table(answer)
    show(answer, table if table.rows else "nothing is in force", as_json=as_json)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in {None, ""}}


def _show(answer: dict[str, Any], *shown: RenderableType, as_json: bool) -> None:
    show_with_warnings(answer, *shown, as_json=as_json)
    if not answer["seen"] and not as_json:
        typer.echo(
            "Kafka has stored the command, but the API has not read it back yet: check with `ebs control`", err=True
        )
