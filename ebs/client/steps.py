"""An operation as steps: its calls and pauses, and how a call is repeated. Nothing here does any I/O.

An operation is a generator. It yields the next step, and is sent the result:

| it yields | and gets |
| --- | --- |
| `ApiCall` | the `Reply`, or an `ApiError` raised in it if none came |
| `PauseFor` | None, when the time is over |
| `Open`, of `following.py` only | the `Reply` without the content of a success |
| `Read`, likewise | the next lines of the opened answer, None at its end; or an `ApiError` |

Each request that a client sends is safe to repeat: a submit has an id, and all other requests set a state.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import time
from collections.abc import Callable, Generator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from ebs.client.errors import ApiError, class_of

T = TypeVar("T")
Steps = Generator[Any, Any, T]

JSON = {"Content-Type": "application/json"}
REQUEST_ID = "X-Request-Id"
MAX_RETRY_AFTER_S = 60.0
"""An API that says to come back later than this is not waited for: its error says when."""
_FIRST_PAUSE_S = 0.25
_MAX_PAUSE_S = 8.0
_JITTER = 0.5
_MAX_DOUBLINGS = 16


class ApiCall(NamedTuple):
    """A request; parameters that are None are left out.

    The API is asked to wait for `wait_s` before it answers; `limit_s` is how long the client waits at the most.
    """

    method: str
    path: str
    params: Mapping[str, Any] = {}
    content: bytes | None = None
    headers: Mapping[str, str] = {}
    wait_s: float = 0.0
    limit_s: float = math.inf


class PauseFor(NamedTuple):
    """Let time pass."""

    seconds: float


class Open(NamedTuple):
    """Send a request whose answer goes on for long."""

    call: ApiCall


class Read(NamedTuple):
    """Wait for the next lines of the opened answer."""


class Reply(NamedTuple):
    """An answer; names of headers in small letters."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    url: str
    reason: str = ""


class CallPolicy(NamedTuple):
    """How often a call is repeated, and by which clock and dice; tests bring their own.

    `fatal`: errors that are not tried again, although they may pass.
    """

    retries: int
    clock_s: Callable[[], float] = time.monotonic
    dice: Callable[[], float] = random.random
    fatal: tuple[type[ApiError], ...] = ()


def call(policy: CallPolicy, asked: ApiCall, deadline_s: float = math.inf) -> Steps[Reply]:
    """Make a call until it succeeds, fails for good, has used up its retries, or fails at the deadline.

    Raises `ApiError`.
    """
    asked = asked._replace(headers={REQUEST_ID: os.urandom(16).hex(), **asked.headers})
    for failures in itertools.count():
        try:
            reply: Reply = yield asked
            return checked(reply, asked.headers[REQUEST_ID])
        except ApiError as error:
            yield PauseFor(pause_before_next(policy, error, failures, deadline_s))
    raise AssertionError("the last try returns or raises")


def pause_before_next(policy: CallPolicy, error: ApiError, failures: int, deadline_s: float = math.inf) -> float:
    """Return how many seconds to wait after the failure; raises the error if there is no next try."""
    left_s = deadline_s - policy.clock_s()
    is_late = left_s <= 0 or (error.retry_after_s or 0) > min(left_s, MAX_RETRY_AFTER_S)
    is_final = isinstance(error, policy.fatal) or not error.is_temporary
    if is_final or failures >= policy.retries or is_late:
        raise error
    return min(left_s, pause_s(policy, failures, error.retry_after_s))


def pause_s(policy: CallPolicy, failures: int, retry_after_s: float | None = None) -> float:
    """Return a pause that doubles each time, or `Retry-After` and a little more.

    It has jitter, so that clients that failed together do not come back together.
    """
    if retry_after_s is not None:
        return retry_after_s * (1 + _JITTER * policy.dice())
    longest_s: float = min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(failures, _MAX_DOUBLINGS))
    return longest_s * (1 - _JITTER * policy.dice())


def checked(reply: Reply, request_id: str = "") -> Reply:
    """Return the answer if it is a success. Raises the `ApiError` of its status."""
    if reply.status // 100 == 2:
        return reply
    request_id = reply.headers.get(REQUEST_ID.lower(), request_id)
    problem = _problem_in(reply)
    if problem is None:
        raise class_of(reply.status)(
            _without_json(reply), None, retry_after_s(reply), status=reply.status, request_id=request_id
        )
    message = _explain(problem, reply)
    raise class_of(reply.status)(message, problem, retry_after_s(reply), status=reply.status, request_id=request_id)


def decoded(reply: Reply, wanted: type[T]) -> T:
    """Return what an answer says. Raises `ApiError` if it is not an answer of the API."""
    try:
        return msgspec.json.decode(reply.content, type=wanted)
    except msgspec.ValidationError as error:
        raise ApiError(
            f"{reply.url} answers what this client does not understand ({error}): is EBS_API_URL the ebs API, and is "
            "its version that of the client?",
            status=reply.status,
        ) from None
    except ValueError:
        raise ApiError(_without_json(reply), status=reply.status) from None


def retry_after_s(reply: Reply) -> float | None:
    """Return in how many seconds the answer says to come back, None if it does not: a number, or a date."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _problem_in(reply: Reply) -> dict[str, Any] | None:
    """Return the problem document of an answer: None if its body is not JSON, empty if it is other JSON."""
    try:
        found = msgspec.json.decode(reply.content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else {}


def _without_json(reply: Reply) -> str:
    return f"{reply.url} answers {reply.status} without JSON: is EBS_API_URL the ebs API, or is a proxy in between?"


def _explain(problem: Mapping[str, Any], reply: Reply) -> str:
    errors = problem.get("errors")
    if isinstance(errors, list) and errors:
        return "; ".join(
            f"{error.get('pointer') or error.get('parameter') or 'the request'}: {error.get('detail')}"
            for error in errors
        )
    return str(problem.get("detail") or f"{reply.url} answers {reply.status} {reply.reason}".rstrip())
