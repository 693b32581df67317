"""A project: which function works on which kind of objects, and by which policy.

project = Project()

@project.task("order", attempts=5, time_limit_s=30)
async def price(line: Task[Line], context: Context) -> Priced: ...
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

from ebs.errors import ProjectRefused
from ebs.function import Policy, function_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ebs.function import Backoff, Function

__all__ = ["Project"]

ANY_KIND = "*"
_KIND = re.compile(r"[A-Za-z0-9._-]{1,64}")
_AnyFunction = TypeVar("_AnyFunction", bound="Callable[..., Any]")


class Project:
    """The functions of one system. What is wrong with one is a `ProjectRefused` where it is registered."""

    def __init__(self) -> None:
        self._task_functions: dict[str, Function] = {}

    def task(
        self,
        kind: str,
        *,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        max_age_s: float | None = None,
        time_limit_s: float | None = None,
        max_result_bytes: int | None = None,
    ) -> Callable[[_AnyFunction], _AnyFunction]:
        """Register the function that works on the tasks of a kind; `"*"` stands for all kinds that have none.

        | policy | default | what it is |
        | --- | --- | --- |
        | `attempts` | EBS_MAX_ATTEMPTS | attempts at a task, the first one included |
        | `backoff` | EBS_RETRY_TIERS_S | seconds from a failed attempt to the next: a number, a list (the last \
repeats), or a function of how many attempts have failed |
        | `max_age_s` | EBS_MAX_TASK_AGE_H | no attempt starts at a task that is older, in seconds |
        | `time_limit_s` | EBS_TASK_TIME_LIMIT_S | seconds that one attempt may take |
        | `max_result_bytes` | EBS_MAX_RESULT_BYTES | largest result, in bytes of JSON |
        """
        _check_kind(kind)
        policy = Policy(attempts, backoff, max_age_s, time_limit_s, max_result_bytes)

        def register(call: _AnyFunction) -> _AnyFunction:
            function = function_of(kind, call, policy)
            if kind in self._task_functions:
                raise ProjectRefused(
                    f"kind {kind} has two functions for its tasks, {self._task_functions[kind].name} and "
                    f"{function.name}: a kind has one"
                )
            self._task_functions[kind] = function
            return call

        return register

    @property
    def kinds(self) -> frozenset[str] | None:
        """The kinds that have functions; None if every kind has, because there is one for `"*"`."""
        return None if ANY_KIND in self._task_functions else frozenset(self._task_functions)

    def task_function(self, kind: str) -> Function | None:
        """Return the function that works on the tasks of a kind, None if there is none."""
        return self._task_functions.get(kind) or self._task_functions.get(ANY_KIND)

    def __iter__(self) -> Iterator[Function]:
        """Iterate over all functions."""
        return iter(self._task_functions.values())


def _check_kind(kind: Any) -> None:
    if callable(kind):
        raise ProjectRefused('write @project.task("kind"), with the kind of the objects, instead of @project.task')
    if not isinstance(kind, str) or (kind != ANY_KIND and not _KIND.fullmatch(kind)):
        raise ProjectRefused(
            f"no object has the kind {kind!r}: a kind is 1 to 64 characters out of A-Z a-z 0-9 . _ -, or "
            f'"{ANY_KIND}" for all others'
        )
