"""The list of all `ebs` commands. A command is imported only when it runs.

`ebs --help` imports none of them, so this list has the line that help shows for each. A test compares the lines with
the commands' docstrings.
"""

from __future__ import annotations

import inspect
from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable

HELP_NAMES = {"help_option_names": ["--help", "-h"]}


class Entry(NamedTuple):
    """A command in the list: `place` is `module:function` below `ebs.cli`, or a `typer.Typer` of subcommands there."""

    panel: str
    name: str
    place: str
    line: str


_RUN = "Run"
_FOLLOW = "Submit and follow"
_FAILURES = "Failures"
_CONTROL = "Control"
_DIAGNOSE = "Diagnose"

COMMANDS = (
    Entry(_RUN, "up", "up:up", "Run the whole system here until Ctrl-C."),
    Entry(_RUN, "demo", "demo:demo", "Run the whole system, post objects and show the counts."),
    Entry(_RUN, "new", "new:new", "Make a small project: functions, tests, Dockerfile."),
    Entry(_RUN, "run", "run:run", "Run one object through a project here, without Kafka."),
    Entry(_RUN, "topics", "topics:topics", "Make the missing topics and check the others."),
    Entry(_FOLLOW, "submit", "submit:submit", "Submit one object, many copies of it, or a file of objects."),
    Entry(_FOLLOW, "objects", "objects:objects", "List objects, newest first."),
    Entry(_FOLLOW, "status", "status:status", "Show an object and its tasks."),
    Entry(_FOLLOW, "tasks", "tasks:tasks", "Show the tasks of an object, or one of them."),
    Entry(_FOLLOW, "watch", "watch:watch", "Watch the totals, or one object, live."),
    Entry(_FOLLOW, "stats", "stats:stats", "Show totals, durations and windows."),
    Entry(
        _FAILURES,
        "dead-letters",
        "dead_letters:dead_letters",
        "List and show dead letters: tasks that failed for good.",
    ),
    Entry(_FAILURES, "redrive", "redrive:redrive", "Give dead letters a new first attempt."),
    Entry(_FAILURES, "discard", "redrive:discard", "Mark a dead letter as discarded."),
    Entry(_CONTROL, "waiting", "waiting_tasks:waiting", "List waiting tasks, start them now or cancel them."),
    Entry(_CONTROL, "control", "control:control", "Show the pauses, limits, cancels and drains in force."),
    Entry(_CONTROL, "pause", "control:pause", "Start no new tasks, of all kinds or of one kind."),
    Entry(_CONTROL, "resume", "control:resume", "Undo the pause of all kinds, or of one kind."),
    Entry(_CONTROL, "cancel", "control:cancel", "Cancel an object, a task, or many tasks."),
    Entry(_CONTROL, "rate", "control:rate", "Limit how many tasks of a kind start per second."),
    Entry(
        _CONTROL,
        "limit",
        "control:limit",
        "Limit how many tasks of a kind, or of a key, run at once.",
    ),
    Entry(_CONTROL, "concurrency", "control:concurrency", "Set how many tasks a worker runs at once."),
    Entry(_CONTROL, "drain", "control:drain", "Let one worker start no more tasks."),
    Entry(
        _CONTROL,
        "schedule",
        "schedule:schedule",
        "Submit objects by the clock: list, set, pause, run, delete.",
    ),
    Entry(_DIAGNOSE, "doctor", "doctor:doctor", "Check topics, brokers, settings, workers and disk."),
    Entry(_DIAGNOSE, "workers", "workers:workers", "Show the live workers and what blocks them."),
    Entry(_DIAGNOSE, "queues", "queues:queues", "Show the queues, their kinds and workers."),
    Entry(_DIAGNOSE, "explain", "explain:explain", "Show where an object's time went, task by task."),
    Entry(_DIAGNOSE, "recount", "recount:recount", "Recount the topics and compare with the statistics."),
    Entry(_DIAGNOSE, "offsets", "offsets:offsets", "Set the offsets at which a role continues."),
)


class PlainCommand(TyperCommand):
    """A command whose help shows no types: `--wait`, not `--wait <bool>`; options name what they take themselves."""

    def __init__(self, *positional: Any, help: str | None = None, **given: Any) -> None:  # noqa: A002  # typer's name
        # Typer would keep the line breaks of a docstring within its paragraphs.
        paragraphs = inspect.cleandoc(help or "").split("\n\n")
        super().__init__(*positional, help="\n\n".join(one.replace("\n", " ") for one in paragraphs), **given)

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` included."""
        return _without_types(super().get_params(ctx))


class PlainGroup(TyperGroup):
    """A group of commands with the same help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, `--help` included."""
        return _without_types(super().get_params(ctx))


def _without_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.param_type_name == "argument":
            parameter.type = copy(parameter.type)
            parameter.type.get_metavar = lambda **_asked: ""
    return parameters


def subcommands(line: str, *, no_args_is_help: bool = False) -> typer.Typer:
    """Return a group for a command that has subcommands."""
    return typer.Typer(cls=PlainGroup, help=line, no_args_is_help=no_args_is_help, add_completion=False)


class AllCommands(PlainGroup):
    """The commands of the list; the one that is called is imported, the others are only names."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        for entry in COMMANDS:
            self.add_command(TyperCommand(entry.name, help=entry.line, rich_help_panel=entry.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the called command, imported, with its arguments."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and imported(command.name), rest


def imported(name: str | None) -> Any:
    """Return a command of the list in full."""
    entry = next(entry for entry in COMMANDS if entry.name == name)
    module, _, attribute = entry.place.partition(":")
    found = getattr(import_module(f"ebs.cli.{module}"), attribute)
    command = typer.main.get_group(found) if isinstance(found, typer.Typer) else _alone(found)
    command.name = entry.name
    return command


def _alone(function: Callable[..., None]) -> Any:
    group = typer.Typer(add_completion=False)
    group.command(cls=PlainCommand)(function)
    return typer.main.get_command(group)
