"""A function of a project: which callables are allowed, where it runs, and its policy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from ebs.errors import ProjectRefused
from ebs.marks import is_cpu_bound, is_inline
from ebs.payloads import batch_decoder_of, decoder_of, results_decoder_of
from ebs.queues import why_no_queue

Role = Literal["split", "task", "join"]
Mode = Literal["inline", "coroutine", "thread", "process"]
Backoff = float | Sequence[float] | Callable[[int], float]

MAX_ATTEMPTS = 16
"""Events count attempts in so many bits."""
MAX_PER_S = 1_000_000
MAX_LIMIT = 1_000_000
MAX_BATCH = 1_000
DEFAULT_BATCH_WAIT_S = 0.05
MAX_BATCH_WAIT_S = 60
"""Tasks that wait for a call have begun: a worker that stops hands them back."""
_YEAR_S = 366 * 86_400


class StartLimits(NamedTuple):
    """How many tasks of a kind may start or run; None: any number. `Project.task` says what each is."""

    rate_per_s: float | None = None
    concurrency: int | None = None
    per_key: int | None = None


NO_LIMITS = StartLimits()


class Policy(NamedTuple):
    """How a function is run; None: the setting decides. `Project.task` says what each is."""

    attempts: int | None = None
    backoff: Backoff | None = None
    max_age_s: float | None = None
    time_limit_s: float | None = None
    max_result_bytes: int | None = None
    starts: StartLimits = NO_LIMITS
    queue: str | None = None
    batch: int | None = None
    batch_wait_s: float | None = None


class Function(NamedTuple):
    """A function, the kind of its tasks, and how it reads the JSON of a task's content.

    `decode` raises `Reject` with the field that does not fit.
    """

    name: str
    role: Role
    kind: str
    call: Callable[..., Any]
    policy: Policy
    decode: Callable[[bytes], Any]

    @property
    def mode(self) -> Mode:
        """Where it runs. Looked up when it is asked for: `@cpu_bound` may stand above `@project.task`."""
        try:
            return _mode_within(self.policy, self.call, self.role)
        except ProjectRefused as error:
            raise _refused(self.role, self.kind, self.call, error) from None


def function_of(role: Role, kind: str, call: Any, policy: Policy) -> Function:
    """Return a user's function, checked; raises `ProjectRefused` with its name and what to change."""
    try:
        _mode_within(policy, call, role)
        _check_policy(policy)
        _check_batch(role, policy)
        decode = _decoder_of(role, call, policy)
        return Function(name_of(call), role, kind, call, policy, decode)
    except ProjectRefused as error:
        raise _refused(role, kind, call, error) from None


def _decoder_of(role: Role, call: Any, policy: Policy) -> Callable[[bytes], Any]:
    if role == "join":
        return results_decoder_of(call)
    return decoder_of(call) if policy.batch is None else batch_decoder_of(call)


def name_of(call: Any) -> str:
    """Return what people call a function: module:function. A partial is called like what it wraps."""
    inner = getattr(call, "func", call)
    named = inner if hasattr(inner, "__qualname__") else type(inner)
    return f"{named.__module__}:{named.__qualname__}"


def mode_of(call: Any, role: Role = "task") -> Mode:
    """Return how a function runs; raises `ProjectRefused` if it cannot be used."""
    _check_callable(call, role)
    _check_arguments(call, "results" if role == "join" else "task")
    is_async = _is_any(call, inspect.iscoroutinefunction) or _is_any(call, inspect.isasyncgenfunction)
    if is_inline(call) and is_cpu_bound(call):
        raise ProjectRefused("is marked @inline and @cpu_bound: it can run in one place only")
    if is_inline(call) or is_cpu_bound(call):
        mark = "@inline" if is_inline(call) else "@cpu_bound"
        if is_async:
            raise ProjectRefused(f"is `async def` and marked {mark}: drop the mark, or make it a plain `def`")
        return "inline" if is_inline(call) else "process"
    return "coroutine" if is_async else "thread"


def _mode_within(policy: Policy, call: Any, role: Role) -> Mode:
    mode = mode_of(call, role)
    if mode == "inline" and policy.batch is not None:
        raise ProjectRefused(f"is marked @inline and has batch={policy.batch}: drop one of the two")
    return mode


def _refused(role: Role, kind: str, call: Any, why: ProjectRefused) -> ProjectRefused:
    what = "function" if role == "task" else role
    return ProjectRefused(f"the {what} of kind {kind}, {name_of(call)}, {why}")


def _check_callable(call: Any, role: Role) -> None:
    if inspect.isclass(call):
        raise ProjectRefused("is a class: use a function, or an instance with a `__call__` method")
    if not callable(call):
        raise ProjectRefused(f"cannot be called, it is of type {type(call).__name__}: use a function")
    if role != "split" and (_is_any(call, inspect.isgeneratorfunction) or _is_any(call, inspect.isasyncgenfunction)):
        raise ProjectRefused("is a generator (it has a `yield`): nothing would run it, use `return`")


def _check_arguments(call: Any, first: str) -> None:
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError) as error:
        raise ProjectRefused(f"does not say which arguments it takes, wrap it in a `def`: {error}") from error
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise ProjectRefused(f"is called with ({first}, context), but takes {signature}: {error}") from error


def _check_policy(policy: Policy) -> None:
    _check_number("attempts", policy.attempts, 1, MAX_ATTEMPTS, whole=True)
    _check_number("max_age_s", policy.max_age_s, 0, 10 * _YEAR_S)
    _check_number("time_limit_s", policy.time_limit_s, 0.001, 86_400)
    _check_number("max_result_bytes", policy.max_result_bytes, 0, 1_048_576, whole=True)
    rate_per_s, concurrency, per_key = policy.starts
    _check_number("rate_per_s", rate_per_s, 0.001, MAX_PER_S)
    _check_number("concurrency", concurrency, 1, MAX_LIMIT, whole=True)
    _check_number("per_key", per_key, 1, MAX_LIMIT, whole=True)
    wrong_queue = None if policy.queue is None else why_no_queue(policy.queue)
    if wrong_queue is not None:
        raise ProjectRefused(f"has queue={policy.queue!r}: it {wrong_queue}")
    backoff = policy.backoff
    if callable(backoff):
        return
    pauses: Any = backoff if isinstance(backoff, list | tuple) else (backoff,)
    if not pauses:
        raise ProjectRefused("has an empty list as backoff: name at least one pause, in seconds")
    for pause in pauses:
        _check_number("backoff", pause, 0, _YEAR_S)


def _check_batch(role: Role, policy: Policy) -> None:
    size, wait_s = policy.batch, policy.batch_wait_s
    if role != "task" and not (size is None and wait_s is None):
        raise ProjectRefused("has batch: only the functions of tasks get several in one call, so drop it")
    if size is None and wait_s is not None:
        raise ProjectRefused(f"has batch_wait_s={wait_s!r}, but no batch: say how many tasks one call gets at most")
    _check_number("batch", size, 2, MAX_BATCH, whole=True)
    _check_number("batch_wait_s", wait_s, 0, MAX_BATCH_WAIT_S)


def _check_number(name: str, value: Any, least: float, most: float, *, whole: bool = False) -> None:
    if value is None:
        return
    sort = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, sort) or not (least <= value <= most) or math.isnan(value):
        what = "a whole number" if whole else "a number"
        raise ProjectRefused(f"has {name}={value!r}: it must be {what} from {least:,} to {most:,}")


def _is_any(call: Any, check: Any) -> bool:
    """Return whether a function is of some sort, or the `__call__` of an object is."""
    return bool(check(call) or check(call.__call__))
