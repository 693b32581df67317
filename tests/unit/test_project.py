"""What a user registers: functions, their policies, and the types that they ask for. Mistakes are told at once."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import sys
from collections.abc import Sequence  # noqa: TC003  # an annotation that is read
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest
import sample_handlers

from app.events import CALLBACK_KIND
from ebs import BatchContext, Context, Project, Reject, Task, cpu_bound, inline
from ebs.errors import ProjectRefused
from ebs.function import mode_of, name_of


class Line(msgspec.Struct):
    """A line of an order."""

    sku: str
    count: int = 1


class Order(msgspec.Struct):
    """An order, as a struct."""

    customer: str
    lines: list[Line]


@dataclasses.dataclass
class Letter:
    """A letter, as a dataclass."""

    to: str
    sent_on: dt.date


class Parcel(TypedDict):
    """A parcel, as a dictionary."""

    weight_g: int


class Invoice(pydantic.BaseModel):
    """An invoice, as a pydantic model."""

    number: int
    lines: list[str] = []


class Own(pydantic.BaseModel):
    """A model that reads in a way of its own."""

    @classmethod
    def model_validate(cls, *_values: Any, **_options: Any) -> Any:
        """Refuse everything, in its own words."""
        raise ValueError("not today")


class Odd:
    """A class that cannot be decoded from JSON."""


def priced(task: Task[Order], context: Context) -> None:
    """Take an order."""


def posted(task: Task[Letter], context: Context) -> None:
    """Take a letter."""


def carried(task: Task[Parcel], context: Context) -> None:
    """Take a parcel."""


def own(task: Task[Own], context: Context) -> None:
    """Take what there is none of."""


def billed(task: Task[list[Invoice]], context: Context) -> None:
    """Take invoices."""


def anything(task: Task, context: Context) -> None:
    """Take any JSON value."""


def bare(task, context):  # type: ignore[no-untyped-def]
    """Take any JSON value."""


def odd(task: Task[Odd], context: Context) -> None:
    """Ask for the impossible."""


def order_itself(order: Order, context: Context) -> None:
    """Mistake the content for the task."""


def unresolved(task: Task[Nowhere], context: Context) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Name a type that is not there."""


def registered(function: Any, kind: str = "order", **policy: Any) -> Any:
    """Return what a project keeps of a function."""
    project = Project()
    assert project.task(kind, **policy)(function) is function
    return project.function("task", kind)


@pytest.mark.parametrize(
    ("function", "content", "expected"),
    [
        (priced, b'{"customer": "c", "lines": [{"sku": "a"}]}', Order("c", [Line("a", 1)])),
        (posted, b'{"to": "t", "sent_on": "2026-11-28"}', Letter("t", dt.date(2026, 11, 28))),
        (carried, b'{"weight_g": 5}', {"weight_g": 5}),
        (billed, b'[{"number": 7}]', [Invoice(number=7)]),
        (anything, b'{"any": [1, null, "x"]}', {"any": [1, None, "x"]}),
        (bare, b'"text"', "text"),
        (functools.partial(priced), b'{"customer": "c", "lines": []}', Order("c", [])),
    ],
)
def test_content_becomes_what_the_function_asks_for(function, content, expected):
    """A struct, a dataclass, a TypedDict, a pydantic model inside of a list, or any JSON value."""
    assert expected == registered(function).decode(content)


@pytest.mark.parametrize(
    ("function", "content", "words"),
    [
        (
            priced,
            b'{"customer": "c", "lines": [{"sku": 7}]}',
            "does not fit Order: Expected `str`, got `int` - at `$.lines[0].sku`",
        ),
        (priced, b'{"customer": "c"}', "Object missing required field `lines`"),
        (posted, b'{"to": "t", "sent_on": "soon"}', "Invalid RFC3339 encoded date - at `$.sent_on`"),
        (carried, b"null", "does not fit Parcel: Expected `object`, got `null`"),
        (billed, b'[{"number": 1}, {"number": "x"}]', "at `number` - at `$[1]`"),
        (
            billed,
            b'[{"number": 1, "lines": [' + b",".join([b"1"] * 12) + b"]}]",
            "`lines.9`; and 2 more - at `$[0]`",
        ),
        (billed, b'[{"number": 1, "lines": [' + b",".join([b"1"] * 10_001) + b"]}]", "10,001 errors - at `$[0]`"),
        (own, b"{}", "the content does not fit Own: not today"),
        (anything, b"{", "Input data was truncated"),
        (anything, b'"\xff"', "utf-8"),
        (anything, b"[" * 100_000, "the content does not fit"),
    ],
)
def test_content_that_does_not_fit_is_rejected_with_its_field(function, content, words):
    """No attempt can succeed: the reason says what is wrong and where."""
    with pytest.raises(Reject) as caught:
        registered(function).decode(content)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            odd,
            "asks for Task[Odd], which cannot be decoded from JSON: Odd is not a struct, dataclass, TypedDict or",
        ),
        (order_itself, "takes a Order as its first argument, but it gets a task: annotate it as Task[Order]"),
        (unresolved, "asks for Task[Nowhere], which cannot be resolved (NameError: name 'Nowhere' is not defined)"),
        (7, "cannot be called, it is of type int: use a function"),
        (sample_handlers.Resizer, "is a class: use a function, or an instance with a `__call__` method"),
        (sample_handlers.generator, "is a generator (it has a `yield`): nothing would run it, use `return`"),
        (sample_handlers.async_generator, "is a generator (it has a `yield`): nothing would run it, use `return`"),
        (sample_handlers.only_task, "is called with (task, context), but takes (_task: 'Task') -> 'None': too many"),
        (sample_handlers.keyword_needed, "missing a required"),
        (sample_handlers.inline_coroutine, "is `async def` and marked @inline: drop the mark, or make it a plain"),
        (sample_handlers.cpu_bound_coroutine, "is `async def` and marked @cpu_bound: drop the mark, or make it"),
        (sample_handlers.two_marks, "is marked @inline and @cpu_bound: it can run in one place only"),
        (max, "does not say which arguments it takes, wrap it in a `def`"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_registered(function, words):
    """The words name the kind and the function, and what to change."""
    with pytest.raises(ProjectRefused) as caught:
        registered(function)
    assert str(caught.value).startswith("the function of kind order, ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"attempts": 0}, "has attempts=0: it must be a whole number from 1 to 16"),
        ({"attempts": 2.5}, "has attempts=2.5: it must be a whole number"),
        ({"attempts": True}, "has attempts=True"),
        ({"time_limit_s": 0}, "has time_limit_s=0: it must be a number from 0.001 to 86,400"),
        ({"time_limit_s": float("nan")}, "has time_limit_s=nan"),
        ({"time_limit_s": "30"}, "has time_limit_s='30'"),
        ({"max_age_s": -1}, "has max_age_s=-1"),
        (
            {"max_result_bytes": 2_000_000},
            "has max_result_bytes=2000000: it must be a whole number from 0 to 1,048,576",
        ),
        ({"backoff": []}, "has an empty list as backoff"),
        ({"backoff": [1, -1]}, "has backoff=-1"),
        ({"backoff": "soon"}, "has backoff='soon'"),
    ],
)
def test_policies_are_checked(policy, words):
    """A number that means nothing is told before any task is worked."""
    with pytest.raises(ProjectRefused) as caught:
        registered(anything, **policy)
    assert words in str(caught.value)


def batched(tasks: list[Task[Order]], _context: BatchContext) -> list[None]:
    """Take orders together."""
    return [None] * len(tasks)


def any_batch(tasks: list[Task], _context: BatchContext) -> list[None]:
    """Take any JSON values together."""
    return [None] * len(tasks)


def some_sequence(tasks: Sequence[Task[Order]], _context: BatchContext) -> list[None]:
    """Take orders together, as another sort of list."""
    return [None] * len(tasks)


def contents_themselves(orders: list[Order], _context: BatchContext) -> list[None]:
    """Mistake the contents for the tasks."""
    return [None] * len(orders)


@pytest.mark.parametrize("function", [batched, some_sequence])
def test_batch_function_names_the_type_of_each_content(function):
    """The content of each task is decoded by itself."""
    one = registered(function, batch=64)
    assert Order("c", []) == one.decode(b'{"customer": "c", "lines": []}')
    with pytest.raises(Reject, match="the content does not fit Order"):
        one.decode(b"7")


@pytest.mark.parametrize("function", [any_batch, bare])
def test_batch_function_without_a_type_takes_anything(function):
    """As any function does."""
    assert [1] == registered(function, batch=2, batch_wait_s=0).decode(b"[1]")


@pytest.mark.parametrize(
    ("function", "policy", "words"),
    [
        (priced, {"batch": 64}, "annotate its first argument as list[Task[Order]], not Task[Order]"),
        (anything, {"batch": 64}, "annotate its first argument as list[Task], not Task, and return a list"),
        (order_itself, {"batch": 64}, "so it gets a list of tasks: annotate it as list[Task[Order]]"),
        (contents_themselves, {"batch": 64}, "so it gets a list of tasks: annotate it as list[Task[Order]]"),
        (batched, {}, "it gets one task: annotate it as Task[Order], or give it tasks together: @project.task("),
        (any_batch, {}, "it gets one task: annotate it as Task, or give it tasks together"),
        (any_batch, {"batch": 1}, "has batch=1: it must be a whole number from 2 to 1,000"),
        (any_batch, {"batch": 1_001}, "has batch=1001: it must be a whole number from 2 to 1,000"),
        (any_batch, {"batch": 2.5}, "has batch=2.5: it must be a whole number"),
        (any_batch, {"batch": True}, "has batch=True: it must be a whole number"),
        (any_batch, {"batch": 2, "batch_wait_s": -1}, "has batch_wait_s=-1: it must be a number from 0 to 60"),
        (any_batch, {"batch": 2, "batch_wait_s": 61}, "has batch_wait_s=61: it must be a number from 0 to 60"),
        (any_batch, {"batch": 2, "batch_wait_s": "1"}, "has batch_wait_s='1': it must be a number"),
        (any_batch, {"batch_wait_s": 1}, "has batch_wait_s=1, but no batch: say how many tasks one call gets at most"),
        (sample_handlers.at_once, {"batch": 2}, "is marked @inline and has batch=2: drop one of the two"),
        (sample_handlers.generator, {"batch": 2}, "is a generator"),
    ],
)
def test_batch_that_cannot_work_is_refused(function, policy, words):
    """At the import, with the kind, the function and the fix."""
    with pytest.raises(ProjectRefused) as caught:
        registered(function, **policy)
    assert str(caught.value).startswith("the function of kind order, ")
    assert words in str(caught.value)


def test_inline_mark_above_a_batch_function_is_refused():
    """When all functions are registered: the mark was not there before."""
    project = Project()
    inline(project.task("order", batch=2)(any_batch))
    try:
        with pytest.raises(ProjectRefused, match=r"the function of kind order, .* drop one of the two"):
            project.check()
    finally:
        del any_batch.ebs_inline


@pytest.mark.parametrize("role", ["split", "join"])
def test_split_and_join_have_no_batch(role):
    """An object has one of each."""
    with pytest.raises(ProjectRefused, match=rf"the {role} of kind order, .*:any_batch, has batch: only the functions"):
        getattr(Project(), role)("order", batch=64)(any_batch)


def test_kind_of_callbacks_is_reserved():
    """Its tasks would be sent to a URL, and never reach the function."""
    assert "ebs.callback" == CALLBACK_KIND
    with pytest.raises(ProjectRefused, match="choose another name"):
        registered(anything, kind=CALLBACK_KIND)


@pytest.mark.parametrize("kind", ["", "my images", "x" * 65, "a/b", 7, None])
def test_kind_that_no_object_can_have_is_refused(kind):
    """A function that would never run is a mistake that somebody wants to hear of."""
    with pytest.raises(ProjectRefused, match="no object has the kind"):
        Project().task(kind)


def test_decorator_without_a_kind_is_told():
    """It would register nothing, and the name would no longer be the function."""
    with pytest.raises(ProjectRefused, match=r'write @project\.task\("kind"\)'):
        Project().task(anything)  # type: ignore[arg-type]


def test_kind_has_one_function():
    """Two would be one too many, whichever wins."""
    project = Project()
    project.task("order")(priced)
    with pytest.raises(ProjectRefused, match=r"kind order has two functions for its tasks, .*:priced and .*:anything"):
        project.task("order")(anything)


def test_kinds_are_known_unless_one_function_takes_all_others():
    """Then none is unknown."""
    project = Project()
    project.task("order")(priced)
    assert {"order"} == project.kinds
    assert project.function("task", "other") is None
    project.task("*")(anything)
    assert project.kinds is None
    assert ("order", "*") == (project.function("task", "order").kind, project.function("task", "other").kind)


def test_mark_counts_above_and_below_the_decorator():
    """`@cpu_bound` over `@project.task` must not be lost in silence."""
    project = Project()
    cpu_bound(project.task("order")(bare))
    try:
        assert "process" == project.function("task", "order").mode
    finally:
        del bare.ebs_cpu_bound


@pytest.mark.parametrize(
    ("function", "mode", "name"),
    [
        (sample_handlers.plain, "thread", "sample_handlers:plain"),
        (sample_handlers.coroutine, "coroutine", "sample_handlers:coroutine"),
        (sample_handlers.at_once, "inline", "sample_handlers:at_once"),
        (sample_handlers.compute, "process", "sample_handlers:compute"),
        (sample_handlers.instance, "coroutine", "sample_handlers:Resizer"),
        (sample_handlers.instance.method, "thread", "sample_handlers:Resizer.method"),
        (sample_handlers.partial, "thread", "sample_handlers:with_default"),
    ],
)
def test_how_a_function_runs_is_seen_in_how_it_is_written(function, mode, name):
    """Marks and `async` decide; objects and partials are looked into."""
    assert (mode, name) == (mode_of(function), name_of(function))


def test_pydantic_is_not_needed():
    """A project without models must not make a worker import it."""
    assert "pydantic" not in sys.modules["ebs.payloads"].__dict__
