"""How a task's content becomes what a function asks for: `Task[Order]` is decoded to `Order`.

A msgspec struct, a dataclass, a TypedDict, a pydantic model, or any type of these, lists and dicts that msgspec reads.
`Task` alone takes any JSON value.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

import msgspec

from ebs.errors import ProjectRefused, Reject
from ebs.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable

_ERRORS_TOLD = 10
"""Of one content; msgspec tells the first one only."""
_ERRORS_LISTED = 10_000
"""pydantic lists all or none, in the worker's event loop: a content has room for hundreds of thousands (seconds)."""
_LISTS = (list, tuple, Sequence)
_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError)


def decoder_of(call: Any) -> Callable[[bytes], Any]:
    """Return what reads the content for a function; raises `ProjectRefused` if its first parameter names no type."""
    return _decoder(content_type(call), "the content does not fit", "asks for Task[{}]")


def batch_decoder_of(call: Any) -> Callable[[bytes], Any]:
    """Return what reads the content of each task for a batch function: its first parameter is a list of tasks."""
    return _decoder(batch_content_type(call), "the content does not fit", "asks for list[Task[{}]]")


def results_decoder_of(call: Any) -> Callable[[bytes], Any]:
    """Return what reads the results for a join: its first parameter is annotated with a list, or with nothing."""
    wanted = _annotation_of(call)
    if wanted is Any or wanted is object:
        wanted = list[Any]
    if (get_origin(wanted) or wanted) not in _LISTS:
        name = _name_of(wanted)
        raise ProjectRefused(f"takes a {name} as its first argument, but it gets all results: annotate it as list[...]")
    return _decoder(wanted, "the results of the tasks do not fit", "asks for {}")


def _decoder(wanted: Any, unfit: str, asks: str) -> Callable[[bytes], Any]:
    try:
        decoder = msgspec.json.Decoder(wanted, dec_hook=_read_model)
        odd = [one for one in _custom_types(msgspec.inspect.type_info(wanted)) if not _is_model(one)]
        reason = f"{odd[0].__name__} is not a struct, dataclass, TypedDict or pydantic model" if odd else ""
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    if reason:
        raise ProjectRefused(f"{asks.format(_name_of(wanted))}, which cannot be decoded from JSON: {reason}")

    def decode(content: bytes) -> Any:
        try:
            return decoder.decode(content)
        except _ERRORS as error:
            raise Reject(f"{unfit} {_name_of(wanted)}: {error}") from None

    return decode


def content_type(call: Any) -> Any:
    """Return the T of the `Task[T]` that a function's first parameter is annotated with, `Any` for a bare `Task`."""
    annotation = _annotation_of(call)
    if annotation is Task or annotation is Any or annotation is object:
        return Any
    if get_origin(annotation) is Task:
        (wanted,) = get_args(annotation)
        return wanted
    if (wanted := _content_of_list(annotation)) is not None:
        raise ProjectRefused(
            f"takes a list of tasks as its first argument, but it gets one task: annotate it as {_task_of(wanted)}, or "
            f'give it tasks together: @project.task("kind", batch=64)'
        )
    name = _name_of(annotation)
    raise ProjectRefused(f"takes a {name} as its first argument, but it gets a task: annotate it as Task[{name}]")


def batch_content_type(call: Any) -> Any:
    """Return the T of the `list[Task[T]]` that a batch function's first parameter is annotated with."""
    annotation = _annotation_of(call)
    if annotation is Any or annotation is object or annotation in _LISTS:
        return Any
    wanted = _content_of_list(annotation)
    if wanted is not None:
        return wanted
    if annotation is Task or get_origin(annotation) is Task:
        (one,) = get_args(annotation) or (Any,)
        raise ProjectRefused(
            f"has batch, so it gets a list of tasks: annotate its first argument as list[{_task_of(one)}], not "
            f"{_task_of(one)}, and return a list of results; or drop batch"
        )
    of = annotation if get_origin(annotation) not in _LISTS else (get_args(annotation) or (Any,))[0]
    raise ProjectRefused(
        f"takes a {_name_of(annotation)} as its first argument, but it has batch, so it gets a list of tasks: annotate "
        f"it as list[Task[{_name_of(of)}]]"
    )


def _content_of_list(annotation: Any) -> Any:
    """Return the T of a `list[Task[T]]`, `Any` for a list of bare tasks, None for anything else."""
    inner = get_args(annotation)
    if get_origin(annotation) not in _LISTS or not inner:
        return None
    if inner[0] is Task or inner[0] is Any:
        return Any
    return get_args(inner[0])[0] if get_origin(inner[0]) is Task else None


def _task_of(wanted: Any) -> str:
    return "Task" if wanted is Any else f"Task[{_name_of(wanted)}]"


def _annotation_of(call: Any) -> Any:
    """Return what a function's first parameter is annotated with, `Any` for nothing."""
    parameter = next(iter(inspect.signature(call).parameters.values()))
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty or parameter.kind is parameter.VAR_POSITIONAL:
        return Any
    if isinstance(annotation, str):
        try:
            annotation = _evaluated(call, annotation)
        except Exception as error:
            if "[" not in annotation:  # a bare Task, imported for type checkers only
                return Any
            raise ProjectRefused(
                f"asks for {annotation}, which cannot be resolved ({type(error).__name__}: {error}): define and import "
                "its types in the module itself, not in a function and not under TYPE_CHECKING"
            ) from error
    return annotation


def _evaluated(call: Any, annotation: str) -> Any:
    """Return what an annotation in quotes means, where the function stands. A partial and an object are looked into."""
    inner = inspect.unwrap(getattr(call, "func", call))
    method = inner if inspect.isroutine(inner) else type(inner).__call__
    names = getattr(getattr(method, "__func__", method), "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={"task": annotation})
    return get_type_hints(holder, globalns=names, include_extras=True)["task"]


def _custom_types(info: Any) -> set[type]:
    """Return the classes in a type that msgspec leaves to a hook."""
    found: set[type] = set()
    seen: list[Any] = []
    waiting = [info]
    while waiting:
        one = waiting.pop()
        if isinstance(one, msgspec.inspect.CustomType):
            found.add(one.cls)
        elif isinstance(one, (list, tuple)):
            waiting.extend(one)
        elif isinstance(one, (msgspec.inspect.Type, msgspec.inspect.Field)) and not any(one is old for old in seen):
            seen.append(one)
            waiting.extend(getattr(one, name) for name in one.__struct_fields__)
    return found


def _is_model(wanted: Any) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(wanted, type) and issubclass(wanted, pydantic.BaseModel)


def _read_model(wanted: Any, value: Any) -> Any:
    try:
        return wanted.model_validate(value)
    except sys.modules["pydantic"].ValidationError as error:
        raise ValueError(_in_words(error)) from None


def _in_words(error: Any) -> str:
    """Return the first errors of a pydantic model, and how many more there are."""
    count = error.error_count()
    if count > _ERRORS_LISTED:
        return f"{count:,} errors"
    found = error.errors(include_url=False, include_context=False, include_input=False)[:_ERRORS_TOLD]
    said = [f"{one['msg']} - at `{'.'.join(map(str, one['loc']))}`" for one in found]
    more = [f"and {count - len(said):,} more"] if count > len(said) else []
    return "; ".join([*said, *more])


def _name_of(wanted: Any) -> str:
    return wanted.__name__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted)
