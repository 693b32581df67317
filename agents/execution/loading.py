"""From the project to what runs: each function with its settings, and the default where there is no project.

What cannot work is refused at the start, not when the first task comes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agents.execution.default_handler import default_handler
from app.rules.kinds import why_unhandled
from app.rules.retry_policy import RetryPolicy
from app.settings.project import load_project, project_of
from ebs.errors import Reject
from ebs.function import function_of
from ebs.marks import inline
from ebs.task import Task

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from app.settings.settings import Settings
    from ebs.context import Context
    from ebs.function import Function, Mode
    from ebs.marks import Handler


class RunLimits(NamedTuple):
    """What one run may take, and what becomes of one that failed."""

    time_limit_s: float
    max_result_bytes: int
    retry: RetryPolicy


class Address(msgspec.Struct, frozen=True, array_like=True):
    """How another process finds a function: the project's spec, and the kind that it is registered for."""

    project: str
    kind: str


@dataclass(frozen=True, slots=True)
class LoadedHandler:
    """What runs tasks, in which way, and within which limits.

    `function` takes the request of a task. Without an `address` no other process can run it: we made it ourselves.
    """

    name: str
    function: Handler
    mode: Mode
    limits: RunLimits
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of a worker: those of some kinds, and the one of all others."""

    default: LoadedHandler
    by_kind: Mapping[str, LoadedHandler]

    def for_kind(self, kind: str) -> LoadedHandler:
        """Return the handler of a kind of task."""
        return self.by_kind.get(kind, self.default)

    def __iter__(self) -> Iterator[LoadedHandler]:
        return iter((self.default, *self.by_kind.values()))


def load_handlers(settings: Settings) -> Handlers:
    """Return the project's functions as handlers; raises `SettingsError` if there is a project that cannot be used.

    Tasks of a kind without a function are rejected. Without a project every task takes EBS_PROCESS_TIME.
    """
    project = project_of(settings)
    limits = limits_of(settings)
    if project is None:
        function = default_handler(settings.process_time)
        mode = function_of("default", function).mode
        return Handlers(LoadedHandler("the default handler", function, mode, limits), {})
    loaded = {one.kind: _loaded(one, settings.project, limits) for one in project}
    kinds = project.kinds
    if kinds is not None:
        return Handlers(LoadedHandler("no handler", inline(_rejecting(kinds)), "inline", limits), loaded)
    default = project.task_function("")
    assert default is not None  # or there would be kinds that have none
    return Handlers(loaded.pop(default.kind), loaded)


def limits_of(settings: Settings) -> RunLimits:
    """Return what holds for a function without a policy of its own."""
    max_age_ms = round(settings.max_task_age_h * 3_600_000)
    retry = RetryPolicy(settings.retry_tiers_s, settings.max_attempts, max_age_ms)
    return RunLimits(settings.task_time_limit_s, settings.max_result_bytes, retry)


@functools.cache
def find(address: Address) -> Handler:
    """Return the function at an address, in any process. Raises `SettingsError`, or `Reject` if it is gone."""
    function = load_project(address.project).task_function(address.kind)
    if function is None:
        raise Reject(f"the project {address.project} has no function for kind {address.kind} any more")
    return as_handler(function)


def as_handler(function: Function) -> Handler:
    """Return a user's function as what takes the request of a task: the content is decoded where the function runs."""
    call, decode = function.call, function.decode

    async def coroutine(request: Task, context: Context) -> Any:
        context.task = _task_of(request, decode)
        return await call(context.task, context)

    def plain(request: Task, context: Context) -> Any:
        context.task = _task_of(request, decode)
        return call(context.task, context)

    return functools.update_wrapper(coroutine if function.mode == "coroutine" else plain, call)


def _task_of(request: Task, decode: Any) -> Task:
    return Task(
        request.id,
        request.object_id,
        request.task_id,
        request.object_partition,
        request.kind,
        request.sequence,
        request.task_count,
        request.attempt,
        request.at_ms,
        request.name,
        decode(b"null" if request.content is msgspec.UNSET else msgspec.json.encode(request.content)),
        request.redrive,
    )


def _loaded(function: Function, project: str, limits: RunLimits) -> LoadedHandler:
    policy, retry = function.policy, limits.retry
    age_ms = retry.max_age_ms if policy.max_age_s is None else round(policy.max_age_s * 1_000)
    own = RunLimits(
        policy.time_limit_s or limits.time_limit_s,
        limits.max_result_bytes if policy.max_result_bytes is None else policy.max_result_bytes,
        RetryPolicy(retry.tiers_s, policy.attempts or retry.max_attempts, age_ms, policy.backoff),
    )
    return LoadedHandler(function.name, as_handler(function), function.mode, own, Address(project, function.kind))


def _rejecting(kinds: Collection[str]) -> Handler:
    """Return the handler of kinds that have none: a misspelt kind would seem to be worked otherwise."""

    def reject(request: Task, _context: Context) -> object:
        raise Reject(why_unhandled(request.kind, kinds) or "")

    return reject
