"""The parts of the reference about what users call: commands, and the names of the package `ebs`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec
from reference_tables import table

import ebs
import ebs.testing
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
        if name in {"Client", "AsyncClient"}:
            lines += _client_methods(name, thing)
            continue
        if _is_error(thing) and name not in {"Reject", "Retry"}:
            lines += _error_members(thing)
            continue
        if _is_struct(thing) and name not in {"BatchContext", "Context", "Task"}:
            lines += _struct_fields(name, thing)
            continue
        if name == "Task":
            lines += [*_task_fields(thing), ""]
            continue
        if name == "Project":
            lines += _project_methods(thing)
            continue
        text = inspect.getdoc(thing) or ""
        if name == "BatchContext":
            lines += [text, "", *table(("member", "meaning"), _batch_context_members())]
        elif name == "Context":
            lines += [text.partition("\n\n")[0], "", *table(("member", "meaning"), _context_members())]
        else:
            lines += ["```text", f"{name}{_signature(thing)}", "```", "", text, ""]
    return [*lines, *testing_part()]


def testing_part() -> list[str]:
    """Return what `from ebs.testing import` gives: the functions, then what they return."""
    lines = ["## ebs.testing", ""]
    for name in ("run", "arun"):
        thing = getattr(ebs.testing, name)
        lines += ["```text", f"{name}{_signature(thing)}", "```", "", inspect.getdoc(thing) or "", ""]
    for name in ("ObjectRun", "TaskRun", "AttemptRun", "Failure", "ProducedObject", "ProducedRecord"):
        thing = getattr(ebs.testing, name)
        rows = [[f"`{one.name}`", f"`{one.type}`"] for one in dataclasses.fields(thing)]
        rows += [[f"`{key}`", inspect.getdoc(one) or ""] for key, one in vars(thing).items() if _is_member(key, one)]
        lines += [f"### {name}", "", inspect.getdoc(thing) or "", "", *table(("field", "type, or meaning"), rows)]
    return lines


def _is_member(name: str, value: Any) -> bool:
    return isinstance(value, property) or (inspect.isfunction(value) and not name.startswith("_"))


def _client_methods(name: str, client: type) -> Iterator[str]:
    """Return the methods; those that only point at the other client's are left out."""
    yield from ("```text", f"{name}{_signature(client)}", "```", "", inspect.getdoc(client) or "", "")
    for method_name, method in vars(client).items():
        if not method_name.startswith("_"):
            text = inspect.getdoc(method) or ""
            if "see `Client." in text:
                continue
            yield from ("```text", f"{name}.{method_name}{_signature(method)}", "```", "", text, "")


def _project_methods(project: type) -> Iterator[str]:
    """Return what registers functions: the other members are for ebs itself."""
    yield from (inspect.getdoc(project) or "", "")
    for name in ("task", "split", "join"):
        method = vars(project)[name]
        yield from ("```text", f"@project.{name}{_registering_signature(method)}", "```", "")
        yield from (inspect.getdoc(method) or "", "")


def _registering_signature(method: Callable[..., Any]) -> str:
    """Return the signature of a decorator: what it returns says nothing, and `batch=None` only refuses a batch."""
    return _signature(method).partition(" -> ")[0].replace(", batch: None = None", "")


def _is_error(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, ebs.EbsError)


def _error_members(error: type[Exception]) -> list[str]:
    """Return what an error means and is a kind of, and its properties: programs catch it, they do not make it."""
    kinds = " and ".join(f"`{base.__name__}`" for base in error.__bases__)
    rows = [[f"`{key}`", inspect.getdoc(one) or ""] for key, one in vars(error).items() if isinstance(one, property)]
    return [f"A kind of {kinds}. {inspect.getdoc(error)}", "", *(table(("member", "meaning"), rows) if rows else [])]


def _is_struct(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, msgspec.Struct)


def _struct_fields(name: str, struct: type[msgspec.Struct]) -> list[str]:
    types = {key: _plain_type(value) for key, value in inspect.get_annotations(struct).items()}
    rows = [[f"`{one.name}`", f"`{types[one.name]}`"] for one in msgspec.structs.fields(struct)]
    members = {key: one for key, one in vars(struct).items() if isinstance(one, property)}
    rows += [[f"`{key}`", inspect.getdoc(one) or ""] for key, one in members.items()]
    return [inspect.getdoc(struct) or name, "", *table(("field", "type, or meaning"), rows)]


def _plain_type(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else str(annotation)


def _signature(thing: Callable[..., Any]) -> str:
    text = re.sub(r"'(\w[^']*)'", r"\1", str(inspect.signature(thing)))
    return (
        text.replace("_AnyHandler", "Handler").replace("(self, ", "(").replace("(self)", "()").removesuffix(" -> None")
    )


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
    for name in ("progress", "submit", "send"):
        method = vars(ebs.Context)[name]
        yield [f"`{name}{_signature(method)}`", inspect.getdoc(method) or ""]


def _batch_context_members() -> Iterator[list[str]]:
    yield ["`time_limit_s`", "How long the call may take."]
    yield ["`deadline`, `remaining_s`", "The end of the time limit and the time until then, as in `Context`."]
    for name in ("of", "progress", "log"):
        member = vars(ebs.BatchContext)[name]
        signature = "" if isinstance(member, property) else _signature(member)
        yield [f"`{name}{signature}`", inspect.getdoc(member) or ""]


def _attribute_text(name: str) -> str:
    body = next(one for one in ast.walk(ast.parse(inspect.getsource(ebs.Context))) if isinstance(one, ast.ClassDef))
    for at, node in enumerate(body.body):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name:
            text = body.body[at + 1]
            assert isinstance(text, ast.Expr)
            return str(ast.literal_eval(text.value))
    raise LookupError(name)
