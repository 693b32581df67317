"""From the project to what runs: each function with its settings, and the default where there is no project.

What cannot work is refused at the start, not when the first task comes.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agents.execution.default_handler import default_handler
from app.rules.kinds import why_unhandled
from app.rules.retry_policy import RetryPolicy
from app.rules.submitted import WorkerOutputRules
from app.settings.project import handled_kinds, load_project, project_of
from ebs.errors import Reject
from ebs.function import Role, mode_of
from ebs.pieces import MAX_SPLIT_BYTES, pieces_from, pieces_of_split
from ebs.project import ANY_KIND
from ebs.task import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from app.events import TaskCreated
    from app.settings.settings import Settings
    from ebs.context import Context
    from ebs.function import Function, Mode
    from ebs.project import Project

    Handler = Callable[[Any, Context], Any]
    """It gets the request of a task, `TaskCreated`."""


class RunLimits(NamedTuple):
    """What one run may take, and what becomes of one that failed."""

    time_limit_s: float
    max_result_bytes: int
    retry: RetryPolicy
    outputs: WorkerOutputRules = WorkerOutputRules()


class Address(msgspec.Struct, frozen=True, array_like=True):
    """How another process finds a function: the project's spec, and what it is registered for."""

    project: str
    role: Role
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
    joins: bool = False
    """Of a split: whether the results of the tasks are joined."""

    def without_own_backoff(self) -> LoadedHandler:
        """Return it without a function of the user's that would run in the worker itself."""
        if not callable(self.limits.retry.backoff):
            return self
        return replace(self, limits=self.limits._replace(retry=self.limits.retry._replace(backoff=None)))


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of a worker: those of some kinds, the one of all other kinds, and those of splits and joins."""

    default: LoadedHandler
    by_kind: Mapping[str, LoadedHandler]
    by_role: Mapping[tuple[Role, str], LoadedHandler] = field(default_factory=dict)

    def for_task(self, task: TaskCreated) -> LoadedHandler:
        """Return what runs a task."""
        if task.role is msgspec.UNSET:
            return self.by_kind.get(task.kind, self.default)
        return self.by_role.get((task.role, task.kind)) or _gone(task.role, self.default.limits)

    def for_kind(self, kind: str) -> LoadedHandler:
        """Return what runs the tasks of a kind that have no role."""
        return self.by_kind.get(kind, self.default)

    def __iter__(self) -> Iterator[LoadedHandler]:
        return iter((self.default, *self.by_kind.values(), *self.by_role.values()))


def load_handlers(settings: Settings) -> Handlers:
    """Return the project's functions as handlers; raises `SettingsError` if there is a project that cannot be used.

    Tasks of a kind without a function are rejected. Without a project every task takes EBS_PROCESS_TIME.
    """
    project = project_of(settings)
    limits = limits_of(settings)
    if project is None:
        function = default_handler(settings.process_time)
        return Handlers(LoadedHandler("the default handler", function, mode_of(function), limits), {})
    return handlers_of(project, settings.project, limits)


def handlers_of(project: Project, spec: str, limits: RunLimits) -> Handlers:
    """Return the functions of a project as handlers; `limits` hold for what has no policy of its own.

    `spec` is how other processes find the project (EBS_PROJECT).
    """
    loaded = [_loaded(one, spec, limits, project) for one in project]
    by_role = {(one.role, one.kind): handler for one, handler in zip(project, loaded, strict=True)}
    by_kind = {kind: by_role.pop(("task", kind)) for role, kind in list(by_role) if role == "task"}
    default = by_kind.pop(ANY_KIND, None)
    if default is None:
        default = LoadedHandler("no handler", _rejecting(frozenset(by_kind)), "inline", limits)
    return Handlers(default, by_kind, by_role)


def limits_of(settings: Settings) -> RunLimits:
    """Return what holds for a function without a policy of its own."""
    max_age_ms = round(settings.max_task_age_h * 3_600_000)
    retry = RetryPolicy(settings.retry_tiers_s, settings.max_attempts, max_age_ms)
    outputs = WorkerOutputRules(
        kinds=handled_kinds(settings),
        max_depth=settings.max_depth,
        tasks_per_object=settings.tasks_per_object,
        max_tasks_per_object=settings.max_tasks_per_object,
        output_topics=frozenset(settings.output_topics),
    )
    return RunLimits(settings.task_time_limit_s, settings.max_result_bytes, retry, outputs)


@functools.cache
def find(address: Address) -> Handler:
    """Return the function at an address, in any process. Raises `SettingsError`, or `Reject` if it is gone."""
    function = load_project(address.project).function(address.role, address.kind)
    if function is None:
        raise Reject(f"the project {address.project} has no {address.role} for kind {address.kind} any more")
    return as_handler(function)


def as_handler(function: Function) -> Handler:
    """Return a user's function as what takes the request of a task: the content is decoded where the function runs."""
    call, name, is_split = function.call, function.name, function.role == "split"
    read = _read_results if function.role == "join" else _read_task

    async def coroutine(request: TaskCreated, context: Context) -> Any:
        returned = call(read(function, request, context), context)
        if not is_split:
            return await returned
        if inspect.isasyncgen(returned):
            return await pieces_from(returned, f"the split {name}")
        return pieces_of_split(await returned, name)

    def plain(request: TaskCreated, context: Context) -> Any:
        returned = call(read(function, request, context), context)
        return pieces_of_split(returned, name) if is_split else returned

    return functools.update_wrapper(coroutine if function.mode == "coroutine" else plain, call)


def _read_task(function: Function, request: TaskCreated, context: Context) -> Task:
    context.task = task = _task_of(request, function.decode(bytes(request.content)))
    return task


def _read_results(function: Function, request: TaskCreated, context: Context) -> Any:
    context.task = _task_of(request, None)
    if request.refusal is not msgspec.UNSET:
        raise Reject(request.refusal)
    return function.decode(bytes(request.content))


def _task_of(request: TaskCreated, content: Any) -> Task:
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
        content,
        request.redrive,
        request.depth,
    )


def _loaded(function: Function, spec: str, limits: RunLimits, project: Project) -> LoadedHandler:
    policy, retry = function.policy, limits.retry
    age_ms = retry.max_age_ms if policy.max_age_s is None else round(policy.max_age_s * 1_000)
    result_bytes = limits.max_result_bytes if policy.max_result_bytes is None else policy.max_result_bytes
    own = RunLimits(
        policy.time_limit_s or limits.time_limit_s,
        MAX_SPLIT_BYTES if function.role == "split" else result_bytes,
        RetryPolicy(retry.tiers_s, policy.attempts or retry.max_attempts, age_ms, policy.backoff),
        limits.outputs,
    )
    address = Address(spec, function.role, function.kind)
    joins = project.has("join", function.kind)
    return LoadedHandler(function.name, as_handler(function), function.mode, own, address, joins)


def _gone(role: Role, limits: RunLimits) -> LoadedHandler:
    """Return what rejects a split or a join whose function went with a change of the project."""

    def reject(request: TaskCreated, _context: Context) -> object:
        raise Reject(
            f"this worker's project has no {role} for kind {request.kind}, but it had one when the object was "
            f'submitted: put @project.{role}("{request.kind}") back, then redrive the task'
        )

    return LoadedHandler(f"no {role}", reject, "inline", limits)


def _rejecting(kinds: Collection[str]) -> Handler:
    """Return the handler of kinds that have none: a misspelt kind would seem to be worked otherwise."""

    def reject(request: TaskCreated, _context: Context) -> object:
        raise Reject(why_unhandled(request.kind, kinds) or "")

    return reject
