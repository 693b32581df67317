"""From settings to handlers: what cannot work is refused at the start, not when the first task comes."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agents.execution.default_handler import default_handler
from app import json_text
from app.errors import SettingsError
from app.events import DECODE_ERRORS, Kind
from app.process.name_clashes import words_about
from app.rules.kinds import handled_kinds, why_unhandled
from ebs import start
from ebs.errors import Reject
from ebs.marks import inline, is_cpu_bound, is_inline
from ebs.task import Task

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from app.settings.settings import Settings
    from ebs.context import Context
    from ebs.marks import Handler

    Mode = Literal["inline", "coroutine", "thread", "process"]

_SPEC = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)")


class HandlerRefused(ValueError):
    """A handler cannot be used; the text is the reason."""


@dataclass(frozen=True, slots=True)
class LoadedHandler:
    """A handler with the way it runs. `name` is its spec; a process imports it by that."""

    name: str
    function: Handler
    mode: Mode

    @property
    def can_run_apart(self) -> bool:
        """Whether another process can import it; only what we made ourselves cannot."""
        return _SPEC.fullmatch(self.name) is not None


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of a worker: those of some kinds, and the one of all others."""

    default: LoadedHandler
    by_kind: Mapping[str, LoadedHandler]

    def for_kind(self, kind: str) -> LoadedHandler:
        """Return the handler of a kind of task."""
        return self.by_kind.get(kind, self.default)

    def __iter__(self) -> Any:
        return iter((self.default, *self.by_kind.values()))


def load_handlers(settings: Settings) -> Handlers:
    """Import what EBS_HANDLER and EBS_HANDLERS name; raises `SettingsError` with the variable, the spec and the reason.

    The current directory can be imported from. Where only some kinds have handlers, tasks of others are rejected.
    """
    start.prepare()
    by_kind = {}
    for kind, spec in settings.handlers.items():
        variable = f"EBS_HANDLERS[{kind}]"
        try:
            msgspec.convert(kind, Kind)
        except msgspec.ValidationError as error:
            raise SettingsError(f"{variable}={spec}: no object has such a kind: {error}") from None
        by_kind[kind] = _load(variable, spec)
    if settings.handler:
        return Handlers(_load("EBS_HANDLER", settings.handler), by_kind)
    handled = handled_kinds(settings)
    if handled is not None:
        return Handlers(_no_handler(handled), by_kind)
    function = default_handler(settings.process_time)
    return Handlers(LoadedHandler("the default handler", function, mode_of(function)), by_kind)


def _no_handler(handled: Collection[str]) -> LoadedHandler:
    """Return the handler of kinds that have none: a misspelt kind would seem to be worked otherwise."""

    def reject(task: Task, _context: Context) -> object:
        raise Reject(why_unhandled(task.kind, handled) or "")

    return LoadedHandler("no handler", inline(reject), "inline")


def resolve(spec: str) -> Any:
    """Import what a spec `package.module:function` names; raises `HandlerRefused`."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise HandlerRefused("must be package.module:function, such as shop.images:resize")
    try:
        found = importlib.import_module(match["module"])
    # A module runs any code when it is imported, even `sys.exit()`.
    except (Exception, SystemExit) as error:
        reason = _in_words(error) + words_about(error)
        raise HandlerRefused(f"{match['module']} cannot be imported: {reason}") from error
    try:
        return functools.reduce(getattr, match["path"].split("."), found)
    except AttributeError as error:
        raise HandlerRefused(f"there is no {match['path']} in {match['module']}: {error}") from error


def mode_of(function: Any) -> Mode:
    """Return how a handler runs; raises `HandlerRefused` if it cannot be one."""
    _check_callable(function)
    _check_arguments(function)
    is_async = _is_any(function, inspect.iscoroutinefunction)
    if is_inline(function) and is_cpu_bound(function):
        raise HandlerRefused("is marked @inline and @cpu_bound: it can run in one place only")
    if is_inline(function) or is_cpu_bound(function):
        mark = "@inline" if is_inline(function) else "@cpu_bound"
        if is_async:
            raise HandlerRefused(f"is `async def` and marked {mark}: drop the mark, or make it a plain `def`")
        return "inline" if is_inline(function) else "process"
    return "coroutine" if is_async else "thread"


def _load(variable: str, spec: str) -> LoadedHandler:
    try:
        function = resolve(spec)
        mode = mode_of(function)
        # Another process has decoded the content with its call.
        return LoadedHandler(spec, function if mode == "process" else _with_content(function), mode)
    except HandlerRefused as error:
        raise SettingsError(f"{variable}={spec}: {error}") from error


def _with_content(function: Any) -> Any:
    """Return a handler that decodes the content of its request first, where it runs: in the loop, or in a thread."""

    def run(request: Task, context: Context) -> Any:
        task = context.task = _task_of(request)
        return function(task, context)

    return functools.update_wrapper(run, function)


def _task_of(request: Task) -> Task:
    try:
        content = json_text.decode(msgspec.json.encode(request.content))
    except DECODE_ERRORS as error:
        raise Reject(f"the content of the task is not JSON that can be read: {error}") from error
    fields = (getattr(request, name) for name in Task.__struct_fields__)
    task = Task(*fields)
    return msgspec.structs.replace(task, content=content)


def _check_callable(function: Any) -> None:
    if inspect.isclass(function):
        raise HandlerRefused("is a class: name a function, or an instance with a `__call__` method")
    if not callable(function):
        raise HandlerRefused(f"cannot be called, it is of type {type(function).__name__}: name a function")
    if _is_any(function, inspect.isgeneratorfunction) or _is_any(function, inspect.isasyncgenfunction):
        raise HandlerRefused("is a generator (it has a `yield`): nothing would run it, use `return`")


def _check_arguments(function: Any) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise HandlerRefused(f"does not say which arguments it takes, wrap it in a `def`: {error}") from error
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise HandlerRefused(f"is called with (task, context), but takes {signature}: {error}") from error


def _is_any(function: Any, check: Any) -> bool:
    """Return whether a function is of some sort, or the `__call__` of an object is."""
    return bool(check(function) or check(function.__call__))


def _in_words(error: BaseException) -> str:
    """Return an import's error with the line of the user's file that raised it."""
    words = f"{type(error).__name__}: {error}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    # The first frame is ours; a syntax error names its line itself.
    if len(frames) > 1 and not isinstance(error, SyntaxError):
        words += f" ({frames[-1].filename}, line {frames[-1].lineno})"
    return words
