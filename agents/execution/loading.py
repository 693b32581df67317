"""Loads the functions of the project with their settings, or the default handler without a project.

Functions that cannot work are refused at the start, not when the first task comes.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agents.execution.callbacks import CallbackSender
from agents.execution.default_handler import default_handler
from agents.execution.user_functions import as_handler
from app.errors import SettingsError
from app.events import CALLBACK_KIND
from app.rules.kinds import why_unhandled
from app.rules.retry_policy import RetryPolicy
from app.rules.submitted import WorkerOutputRules
from app.settings.project import handled_kinds, load_project, project_of
from ebs.errors import Reject
from ebs.function import DEFAULT_BATCH_WAIT_S, NO_LIMITS, Role, StartLimits, mode_of
from ebs.pieces import MAX_SPLIT_BYTES
from ebs.project import ANY_KIND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

    from agents.execution.user_functions import Handler
    from app.events import TaskCreated
    from app.settings.settings import Settings
    from ebs.context import Context
    from ebs.function import Function, Mode
    from ebs.project import Project


CALLBACK_BACKOFF_S = (5, 30, 120, 600, 1_800, 3_600, 7_200)
"""Pauses between the attempts at a callback, almost four hours together: a receiver may be away for that long."""
_CALLBACK_GRACE_S = 10.0
"""How much longer than EBS_WEBHOOK_TIMEOUT_S the engine waits: a call waits for its place (`receivers.WAIT_S`), and the
sender says more of what was slow."""


async def _nothing_to_close() -> None:
    """Do nothing."""


class RunLimits(NamedTuple):
    """What one run may take, and what becomes of one that failed."""

    time_limit_s: float
    max_result_bytes: int
    retry: RetryPolicy
    outputs: WorkerOutputRules = WorkerOutputRules()


class CallSize(NamedTuple):
    """How the tasks of a function are put together: at most how many to a call, and how long the first one waits."""

    size: int
    wait_s: float


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
    starts: StartLimits = NO_LIMITS
    """How many tasks of its kind may start or run in the whole system."""
    beside: bool = False
    """Whether its attempts take no places of the pool: callbacks bound themselves, of a batch the calls take places."""
    batch: CallSize | None = None
    """Of a batch function: it runs in calls of several tasks, see `batch_calls`."""

    def without_own_backoff(self) -> LoadedHandler:
        """Return it without a function of the user's that would run in the worker itself."""
        if not callable(self.limits.retry.backoff):
            return self
        return replace(self, limits=self.limits._replace(retry=self.limits.retry._replace(backoff=None)))


@dataclass(frozen=True, slots=True)
class Handlers:
    """The handlers of a worker: those of some kinds, the one of all other kinds, those of splits, joins, callbacks."""

    default: LoadedHandler
    by_kind: Mapping[str, LoadedHandler]
    by_role: Mapping[tuple[str, str], LoadedHandler] = field(default_factory=dict)
    close: Callable[[], Awaitable[None]] = _nothing_to_close

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
    sender = _callback_sender(settings)
    callbacks = {("callback", CALLBACK_KIND): _callback_handler(sender, settings.webhook_timeout_s, limits)}
    if project is None:
        function = default_handler(settings.process_time)
        takes_time = LoadedHandler("the default handler", function, mode_of(function), limits)
        return Handlers(takes_time, {}, callbacks, sender.close)
    handlers = handlers_of(project, settings.project, limits)
    return replace(handlers, by_role={**handlers.by_role, **callbacks}, close=sender.close)


def handlers_of(project: Project, spec: str, limits: RunLimits) -> Handlers:
    """Return the functions of a project as handlers; `limits` hold for what has no policy of its own.

    `spec` is how other processes find the project (EBS_PROJECT).
    """
    loaded = [_loaded(one, spec, limits, project) for one in project]
    by_role: dict[tuple[str, str], LoadedHandler] = {
        (one.role, one.kind): handler for one, handler in zip(project, loaded, strict=True)
    }
    by_kind = {kind: by_role.pop((role, kind)) for role, kind in list(by_role) if role == "task"}
    default = by_kind.pop(ANY_KIND, None)
    if default is None:
        default = LoadedHandler("no handler", _rejecting(frozenset(by_kind)), "inline", limits)
    return Handlers(default, by_kind, by_role)


def _callback_sender(settings: Settings) -> CallbackSender:
    if settings.webhook_hosts and not settings.webhook_keys:
        raise SettingsError(
            "EBS_WEBHOOK_HOSTS is set, but EBS_WEBHOOK_SECRET is not: callbacks are signed, so that their receivers "
            'know the sender. Make a secret with: echo "whsec_$(openssl rand -base64 32)"'
        )
    return CallbackSender(settings.allowed_webhook_hosts, settings.webhook_keys, settings.webhook_timeout_s)


def _callback_handler(sender: CallbackSender, timeout_s: float, limits: RunLimits) -> LoadedHandler:
    retry = limits.retry._replace(max_attempts=len(CALLBACK_BACKOFF_S) + 1, backoff=CALLBACK_BACKOFF_S)
    own = RunLimits(timeout_s + _CALLBACK_GRACE_S, limits.max_result_bytes, retry)
    return LoadedHandler("the callback", sender, "coroutine", own, beside=True)


def limits_of(settings: Settings) -> RunLimits:
    """Return what holds for a function without a policy of its own."""
    max_age_ms = round(settings.max_task_age_h * 3_600_000)
    retry = RetryPolicy(settings.backoff_s, settings.max_attempts, max_age_ms)
    outputs = WorkerOutputRules(
        kinds=handled_kinds(settings),
        max_depth=settings.max_depth,
        tasks_per_object=settings.tasks_per_object,
        max_tasks_per_object=settings.max_tasks_per_object,
        output_topics=frozenset(settings.output_topics),
        webhook_hosts=settings.webhook_hosts,
    )
    return RunLimits(settings.task_time_limit_s, settings.max_result_bytes, retry, outputs)


@functools.cache
def find(address: Address) -> Handler:
    """Return the function at an address, in any process. Raises `SettingsError`, or `Reject` if it is gone."""
    function = load_project(address.project).function(address.role, address.kind)
    if function is None:
        raise Reject(f"the project {address.project} has no {address.role} for kind {address.kind} any more")
    return as_handler(function)


def _loaded(function: Function, spec: str, limits: RunLimits, project: Project) -> LoadedHandler:
    policy, retry = function.policy, limits.retry
    age_ms = retry.max_age_ms if policy.max_age_s is None else round(policy.max_age_s * 1_000)
    result_bytes = limits.max_result_bytes if policy.max_result_bytes is None else policy.max_result_bytes
    own = RunLimits(
        policy.time_limit_s or limits.time_limit_s,
        MAX_SPLIT_BYTES if function.role == "split" else result_bytes,
        RetryPolicy(retry.steps_s, policy.attempts or retry.max_attempts, age_ms, policy.backoff),
        limits.outputs,
    )
    address = Address(spec, function.role, function.kind)
    joins = project.has("join", function.kind)
    batch = None if policy.batch is None else CallSize(policy.batch, _or(policy.batch_wait_s, DEFAULT_BATCH_WAIT_S))
    handler = as_handler(function)
    beside = batch is not None
    return LoadedHandler(function.name, handler, function.mode, own, address, joins, policy.starts, beside, batch)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _gone(role: str, limits: RunLimits) -> LoadedHandler:
    """Return what rejects a split or a join whose function is gone from the project, or a callback of another kind."""

    def reject(request: TaskCreated, _context: Context) -> object:
        if role == "callback":
            raise Reject(f"callbacks have kind {CALLBACK_KIND}, not {request.kind}: redrive the task with that kind")
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
