"""A project: which function works on which kind of objects, and by which policy.

project = Project()

@project.task("order", attempts=5, time_limit_s=30)
async def price(line: Task[Line], context: Context) -> Priced: ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ebs.errors import ProjectRefused
from ebs.function import Policy, StartLimits, function_of
from ebs.queues import DEFAULT_QUEUE
from ebs.task import CALLBACK_KIND, KIND, KIND_IN_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebs.function import Backoff, Function, Role

__all__ = ["Project"]

ANY_KIND = "*"
_AnyFunction = TypeVar("_AnyFunction", bound="Callable[..., Any]")


class Project:
    """The functions of one system. Registering a wrong function raises `ProjectRefused`."""

    def __init__(self) -> None:
        self._functions: dict[tuple[Role, str], Function] = {}

    def task(
        self,
        kind: str,
        *,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        max_age_s: float | None = None,
        time_limit_s: float | None = None,
        max_result_bytes: int | None = None,
        rate_per_s: float | None = None,
        concurrency: int | None = None,
        per_key: int | None = None,
        queue: str | None = None,
        batch: int | None = None,
        batch_wait_s: float | None = None,
    ) -> Callable[[_AnyFunction], _AnyFunction]:
        """Register the function that works on the tasks of a kind; `"*"` stands for all kinds that have none.

        | policy | default | what it is |
        | --- | --- | --- |
        | `attempts` | EBS_MAX_ATTEMPTS | attempts at a task, the first one included |
        | `backoff` | EBS_BACKOFF_S | seconds from a failed attempt to the next: a number, a list (the last \
repeats), or a function of how many attempts have failed |
        | `max_age_s` | EBS_MAX_TASK_AGE_H | no attempt starts at a task that is older, in seconds |
        | `time_limit_s` | EBS_TASK_TIME_LIMIT_S | seconds that one attempt may take |
        | `max_result_bytes` | EBS_MAX_RESULT_BYTES | largest result, in bytes of JSON |
        | `rate_per_s` | no limit | tasks of the kind that start a second, in the whole system |
        | `concurrency` | no limit | tasks of the kind that run at once, in the whole system |
        | `per_key` | no limit | tasks of one key that run at once, in the whole system; 1: one after another. A task \
without a key has the key of its object, or else the id of its object as key |
        | `queue` | `"default"` | the queue of the kind, with workers of its own; its split and join go there, too |
        | `batch` | one task a call | most tasks that one call gets, 2 to 1,000: `embed(tasks: list[Task[Doc]], \
context: BatchContext) -> list[Result]`; an exception in the list fails that task alone |
        | `batch_wait_s` | 0.05 | a call with fewer tasks starts when its first task has waited for so long, 0 to 60 s |
        """
        starts = StartLimits(rate_per_s, concurrency, per_key)
        limits = (attempts, backoff, max_age_s, time_limit_s, max_result_bytes)
        return self._register("task", kind, Policy(*limits, starts, queue, batch, batch_wait_s))

    def split(
        self,
        kind: str,
        *,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        max_age_s: float | None = None,
        time_limit_s: float | None = None,
        batch: None = None,
    ) -> Callable[[_AnyFunction], _AnyFunction]:
        """Register the function that splits an object of a kind into its tasks, before they start.

        It gets the object as a task and returns or yields the content of each task: any JSON value, or an `Item`. It
        has attempts, limits and dead letters like any task. Each policy means what it means for `task`.
        """
        return self._register("split", kind, Policy(attempts, backoff, max_age_s, time_limit_s, batch=batch))

    def join(
        self,
        kind: str,
        *,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        max_age_s: float | None = None,
        time_limit_s: float | None = None,
        max_result_bytes: int | None = None,
        batch: None = None,
    ) -> Callable[[_AnyFunction], _AnyFunction]:
        """Register the function that gets the results of all tasks of an object, once each has finished.

        They stand in the order of the tasks: `join(results: list[Priced], context)`. What it returns is the object's
        result. Each policy means what it means for `task`.
        """
        policy = Policy(attempts, backoff, max_age_s, time_limit_s, max_result_bytes, batch=batch)
        return self._register("join", kind, policy)

    def _register(self, role: Role, kind: str, policy: Policy) -> Callable[[_AnyFunction], _AnyFunction]:
        _check_kind(role, kind)

        def register(call: _AnyFunction) -> _AnyFunction:
            function = function_of(role, kind, call, policy)
            known = self._functions.setdefault((role, kind), function)
            if known is not function:
                what = "functions for its tasks" if role == "task" else f"{role}s"
                raise ProjectRefused(f"kind {kind} has two {what}, {known.name} and {function.name}: a kind has one")
            return call

        return register

    @property
    def kinds(self) -> frozenset[str] | None:
        """The kinds that have functions; None if every kind has, because there is one for `"*"`."""
        kinds = frozenset(kind for _, kind in self._functions)
        return None if ANY_KIND in kinds else kinds

    @property
    def queues(self) -> dict[str, str]:
        """The queue of each kind; `"*"` stands for all kinds that are not in it."""
        queues = {one.kind: one.policy.queue or DEFAULT_QUEUE for one in self if one.role == "task"}
        for one in self:
            queues.setdefault(one.kind, queues.get(ANY_KIND, DEFAULT_QUEUE))
        return queues | {CALLBACK_KIND: DEFAULT_QUEUE}

    @property
    def limits(self) -> dict[str, StartLimits]:
        """The limits of each kind; `"*"` stands for each kind that is not in it."""
        return {one.kind: one.policy.starts for one in self if one.role == "task"}

    def function(self, role: Role, kind: str) -> Function | None:
        """Return the function of a kind, None if there is none; `"*"` takes the tasks of all kinds without one."""
        return self._functions.get((role, kind)) or (self._functions.get((role, ANY_KIND)) if role == "task" else None)

    def is_limited_by_key(self, kind: str) -> bool:
        """Return whether the tasks of a kind have `per_key`."""
        function = self.function("task", kind)
        return function is not None and function.policy.starts.per_key is not None

    def has(self, role: Role, kind: str) -> bool:
        """Return whether a kind has a split, or a join."""
        return (role, kind) in self._functions

    def __iter__(self) -> Iterator[Function]:
        """Iterate over all functions."""
        return iter(self._functions.values())

    def check(self) -> None:
        """Raise `ProjectRefused` if functions do not fit together: called when all are registered."""
        if not self._functions:
            raise ProjectRefused('the project has no function: write @project.task("kind") above one')
        for function in self:
            _ = function.mode
            if function.role != "task" and self.function("task", function.kind) is None:
                raise ProjectRefused(
                    f"kind {function.kind} has a {function.role}, {function.name}, but no function for its tasks: "
                    f'write @project.task("{function.kind}")'
                )


def _check_kind(role: Role, kind: Any) -> None:
    if callable(kind):
        raise ProjectRefused(f'write @project.{role}("kind"), with the kind of the objects, instead of @project.{role}')
    if kind == ANY_KIND and role != "task":
        raise ProjectRefused(f'only task functions can be for "{ANY_KIND}": name the kind of the {role}')
    if kind == CALLBACK_KIND:
        raise ProjectRefused(
            f"the kind {CALLBACK_KIND} is that of callbacks, which ebs sends itself: choose another name"
        )
    if not isinstance(kind, str) or (kind != ANY_KIND and not KIND.fullmatch(kind)):
        raise ProjectRefused(
            f'no object has the kind {kind!r}: a kind is {KIND_IN_WORDS}, or "{ANY_KIND}" for all others'
        )
