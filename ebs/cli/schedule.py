"""`ebs schedule`: set, show, pause, run and delete schedules, as a client of the API."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ebs.cli.client import path_of
from ebs.cli.commands import PlainCommand, subcommands
from ebs.cli.content import Tasks, content_of, json_content_of
from ebs.cli.instants import duration_s, instant_text, zoned_instant
from ebs.cli.remote import Api, AsJson, all_pages, open_api, show, show_with_warnings, table_of
from ebs.cli.task_tables import short_json
from ebs.delays import MAX_DELAY_S

if TYPE_CHECKING:
    from rich.table import Table

    Answer = dict[str, Any]

SCHEDULES = "schedules"
_A_PAGE = 200
_SHOWN_CHARS = 200


class Missed(StrEnum):
    """Which missed instants fire."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the schedule.")]

schedule = subcommands("Submit objects by the clock: list, set, pause, run, delete.")


@schedule.callback(invoke_without_command=True)
def _listed_by_default(
    context: typer.Context,
    as_json: AsJson = False,  # noqa: FBT002  # typer's way to make a flag
    api: Api = None,
) -> None:
    """Submit objects by the clock: list, set, pause, run, delete.

    Without a subcommand: `list`.
    """
    if context.invoked_subcommand is None:
        list_schedules(context, as_json=as_json, api=api)


@schedule.command("list", cls=PlainCommand)
def list_schedules(context: typer.Context, *, as_json: AsJson = False, api: Api = None) -> None:
    """List the schedules and when they fire next."""
    with open_api(context, api) as client:
        answer = all_pages(client, path_of(SCHEDULES), SCHEDULES, limit=_A_PAGE)
    rows = [
        (
            one["name"],
            one["state"],
            one["in_words"],
            one["kind"],
            _instant(one["next_at_ms"]),
            _instant(one["last_at_ms"]),
            one["fired_count"],
        )
        for one in answer[SCHEDULES]
    ]
    headings = ("name", "state", "fires", "kind", "next", "last", "fired")
    table = table_of(SCHEDULES, headings, rows)
    empty = 'there is no schedule; `ebs schedule set nightly --cron "0 2 * * *" --kind KIND` sets one'
    show(answer, table if rows else empty, as_json=as_json)


@schedule.command("show", cls=PlainCommand)
def show_schedule(context: typer.Context, name: Name, *, as_json: AsJson = False, api: Api = None) -> None:
    """Show a schedule, its next five instants and the object that it submits."""
    with open_api(context, api) as client:
        answer = client.get(path_of(SCHEDULES, name))
    show(answer, _table_of(answer), as_json=as_json)


@schedule.command("set", cls=PlainCommand)
def set_schedule(
    context: typer.Context,
    name: Name,
    *,
    cron: Annotated[
        str | None,
        typer.Option("--cron", metavar="LINE", help='Minute, hour, day, month, weekday: "30 6 * * 1-5"; or @daily.'),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="DURATION", help="Instead of a cron line: 30s, 10m, 2h or 1d.")
    ] = None,
    zone: Annotated[
        str | None, typer.Option("--zone", metavar="ZONE", help="Time zone of the cron line. Default: UTC.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Kind of the objects.")] = None,
    content: Annotated[
        str | None,
        typer.Option("--content", metavar="TEXT", help="Content of the objects, a text; @FILE reads a file."),
    ] = None,
    content_json: Annotated[
        str | None,
        typer.Option("--content-json", metavar="JSON", help="Content of the objects as JSON; @FILE reads a file."),
    ] = None,
    tasks: Tasks = None,
    object_name: Annotated[
        str | None,
        typer.Option("--object-name", metavar="TEXT", help="Name of the objects. Default: that of the schedule."),
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="DURATION", help="Start the tasks later than the instant.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="Whose work it is, such as a customer: limits by key count by it."),
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option("--callback-url", metavar="URL", help="Where ebs sends each end of each object.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="No instant before this time: 2027-01-01T09:00.")
    ] = None,
    end: Annotated[str | None, typer.Option("--end", metavar="TIME", help="No instant after this time.")] = None,
    missed: Annotated[
        Missed | None,
        typer.Option("--missed", metavar="|".join(Missed), help="Missed instants that fire: none, the last or all."),
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Do not fire until `ebs schedule resume`.")] = False,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE", help="The whole schedule as JSON, as for the API; - reads stdin."),
    ] = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Set a new schedule, or replace one.

    Each of its instants submits one object, exactly once. Give --cron or --every, or the whole schedule in a --file.
    In a file the tasks can be a list of items, as for an object.
    """
    if content is not None and content_json is not None:
        raise typer.BadParameter("give --content or --content-json, not both")
    given: Answer = {
        "cron": cron,
        "every_s": None if every is None else duration_s(every),
        "time_zone": zone,
        "kind": kind,
        "tasks": tasks,
        "object_name": object_name,
        "delay_s": None if delay is None else duration_s(delay),
        "key": key,
        "callback_url": callback_url,
        "start_at": None if start is None else zoned_instant(start),
        "end_at": None if end is None else zoned_instant(end),
        "missed": None if missed is None else missed.value,
        "paused": paused or None,
        "content": content_of(content) if content is not None else None,
    }
    if content_json is not None:
        given["content"] = json_content_of(content_json)
    body = {field: value for field, value in given.items() if value is not None}
    if given["delay_s"] is not None and given["delay_s"] > MAX_DELAY_S:
        raise typer.BadParameter(f"{delay} is more than a year ({MAX_DELAY_S // 86_400}d)", param_hint="--delay")
    if file is not None:
        if body:
            raise typer.BadParameter("--file is the whole schedule: leave out the other options")
        body = json_content_of(file if file == "-" else f"@{file.removeprefix('@')}", "--file", "one JSON object")
    elif (cron is None) == (every is None):
        raise typer.BadParameter('give --cron "30 6 * * 1-5" or --every 1h, or the whole schedule in a --file')
    with open_api(context, api) as client:
        answer = client.put(path_of(SCHEDULES, name), body)
    _show_change(answer, f"schedule {name} is set", as_json=as_json)


@schedule.command("pause", cls=PlainCommand)
def pause_schedule(context: typer.Context, name: Name, *, as_json: AsJson = False, api: Api = None) -> None:
    """Let a schedule not fire until it is resumed.

    Instants that come while it is paused never fire.
    """
    with open_api(context, api) as client:
        answer = client.post(path_of(SCHEDULES, name, "pause"))
    _show_change(answer, f"schedule {name} is paused; `ebs schedule resume {name}` undoes it", as_json=as_json)


@schedule.command("resume", cls=PlainCommand)
def resume_schedule(context: typer.Context, name: Name, *, as_json: AsJson = False, api: Api = None) -> None:
    """Let a schedule fire again, from its next instant on."""
    with open_api(context, api) as client:
        answer = client.post(path_of(SCHEDULES, name, "resume"))
    _show_change(answer, f"schedule {name} is resumed", as_json=as_json)


@schedule.command("run", cls=PlainCommand)
def run_schedule(context: typer.Context, name: Name, *, as_json: AsJson = False, api: Api = None) -> None:
    """Submit the object of a schedule now.

    Its instants stay as they are. A paused schedule can be run, too.
    """
    with open_api(context, api) as client:
        answer = client.post(path_of(SCHEDULES, name, "run"))
    show(answer, f"object {answer['id']}: `ebs status {answer['id']}` shows it", as_json=as_json)


@schedule.command("delete", cls=PlainCommand)
def delete_schedule(context: typer.Context, name: Name, *, as_json: AsJson = False, api: Api = None) -> None:
    """Delete a schedule. Objects that it has submitted go on."""
    with open_api(context, api) as client:
        answer = client.delete(path_of(SCHEDULES, name))
    _show_change(answer, f"schedule {name} is deleted", as_json=as_json)


def _show_change(answer: Answer, words: str, *, as_json: bool) -> None:
    lines = [words]
    found = answer["schedule"]
    if found is not None and not found["paused"]:
        lines.append(f"it fires: {found['in_words']}; next {', '.join(found['next_instants']) or 'never'}")
    show_with_warnings(answer, *lines, as_json=as_json)


def _table_of(found: Answer) -> Table:
    rows = [
        ("state", found["state"]),
        ("fires", found["in_words"]),
        ("next", found["next_instants"][0] if found["next_instants"] else None),
        *(("", instant) for instant in found["next_instants"][1:]),
        ("last", _instant(found["last_at_ms"])),
        ("last object", found["last_object_id"]),
        ("fired", found["fired_count"]),
        ("missed instants", found["missed"]),
        ("kind", found["kind"]),
    ]
    more = ("start_at", "end_at", "object_name", "delay_s", "key", "callback_url")
    rows += [(name.replace("_", " "), found[name]) for name in more if found[name] is not None]
    rows += [(name, short_json(found[name], _SHOWN_CHARS)) for name in ("tasks", "content") if found[name] is not None]
    return table_of(
        f"schedule {found['name']}", ("", ""), [(name, None if of is None else str(of)) for name, of in rows]
    )


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant_text(at_ms)
