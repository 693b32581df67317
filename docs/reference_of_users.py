"""The parts of the reference about what users call: commands, and the names of the package `ebs`."""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec
from reference_tables import table

import ebs
from ebs.cli.commands import COMMANDS, imported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def cli_part() -> list[str]:
    """Return every command with its arguments and options."""
    return [line for entry in COMMANDS for line in _commands(imported(entry.name), f"ebs {entry.name}")]


def _commands(command: Any, name: str) -> Iterator[str]:
    context = command.context_class(command, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (f"## {name}", "", inspect.cleandoc(command.help or ""), "", "```text", f"{name} {usage}", "```", "")
    rows = [
        [f"`{', '.join(one.opts) if one.opts[0].startswith('-') else one.name.upper()}`", *_value(one)]
        for one in command.params
    ]
    if rows:
        yield from table(("argument or option", "value", "meaning"), rows)
    for sub_name, sub in getattr(command, "commands", {}).items():
        yield from _commands(sub, f"{name} {sub_name}")


def _value(parameter: Any) -> tuple[str, str]:
    meaning = getattr(parameter, "help", "") or ""
    if getattr(parameter, "is_flag", False):
        return "", meaning
    words = [" or ".join(f"`{one}`" for one in getattr(parameter.type, "choices", ())) or str(parameter.metavar)]
    low, high = getattr(parameter.type, "min", None), getattr(parameter.type, "max", None)
    if low is not None:
        words.append(f"{low:,} or more" if high is None else f"{low:,} to {high:,}")
    if isinstance(parameter.default, int | float):
        words.append(f"default {parameter.default:g}")
    return ", ".join(words), meaning


def python_part() -> list[str]:
    """Return what `from ebs import` gives: signatures and docstrings."""
    lines = []
    for name in ebs.__all__:
        thing = getattr(ebs, name)
        lines += [f"## {name}", ""]
        if name == "Task":
            lines += [*_task_fields(thing), ""]
            continue
        text = inspect.getdoc(thing) or ""
        if name == "Context":
            lines += [text.partition("\n\n")[0], "", *table(("member", "meaning"), _context_members())]
        else:
            lines += ["```text", f"{name}{_signature(thing)}", "```", "", text, ""]
    return lines


def _signature(thing: Callable[..., Any]) -> str:
    text = re.sub(r"'(\w[^']*)'", r"\1", str(inspect.signature(thing)))
    return text.replace("_AnyHandler", "Handler").replace("(self, ", "(").removesuffix(" -> None")


def _task_fields(task: type[msgspec.Struct]) -> list[str]:
    rows = [
        [f"`{field.name}`", "always" if field.required else "where it applies"]
        for field in msgspec.structs.fields(task)
    ]
    return ["What a handler is given. It cannot be changed.", "", *table(("field", "there"), rows)]


def _context_members() -> Iterator[list[str]]:
    yield ["`task`", "The task."]
    yield ["`time_limit_s`", "How long this attempt may take."]
    yield ["`cancelled`", _attribute_text("cancelled")]
    for name, member in vars(ebs.Context).items():
        if not name.startswith("_") and isinstance(member, property):
            yield [f"`{name}`", inspect.getdoc(member) or ""]
    progress = ebs.Context.progress
    yield [f"`progress{_signature(progress)}`", inspect.getdoc(progress) or ""]


def _attribute_text(name: str) -> str:
    body = next(one for one in ast.walk(ast.parse(inspect.getsource(ebs.Context))) if isinstance(one, ast.ClassDef))
    for at, node in enumerate(body.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            text = body.body[at + 1]
            assert isinstance(text, ast.Expr)
            return str(ast.literal_eval(text.value))
    raise LookupError(name)
