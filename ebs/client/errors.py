"""What a client of the API raises.

EbsError
├── SettingsError          EBS_API_URL or EBS_API_KEY cannot be used
├── ApiError               the API refused or failed; `problem` is its problem document
│   ├── ApiUnreachable     no API answers: refused, reset, timed out, or no API behind the proxy
│   ├── ApiBusy            429 or 503, and all retries were used up
│   ├── AccessDenied       401 or 403: no key, an unknown key, or a key that may only read
│   ├── NotFound           404
│   ├── Conflict           409: the current state does not allow the request
│   ├── TooLarge           413
│   └── Invalid            422: `errors` names each wrong field
├── SubmitFailed           not all objects of `submit_many` were accepted
├── ObjectFailed           `results` of an object that failed
├── ObjectCancelled        `results` of an object that was cancelled
└── WaitTimedOut           the object has not ended within `timeout_s`; also a TimeoutError
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebs.errors import EbsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ebs.client.answers import ObjectStatus, RefusedObject, TaskStatus

_PASSES = frozenset({408, 429, 500, 502, 503, 504})
_ERRORS_SHOWN = 3


class ApiError(EbsError):
    """The API refused the request or failed. The message says why; `problem` is the problem document, or empty.

    `status` is the HTTP status of the answer, 0 if there was no answer. `retry_after_s` is the answer's `Retry-After`,
    or None. `object_id` is the object of a failed `submit`: with this id it is safe to submit it again.
    """

    def __init__(
        self,
        message: str,
        problem: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
        *,
        status: int = 0,
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.problem = dict(problem or {})
        self.retry_after_s = retry_after_s
        self.status = status
        self.request_id = request_id
        """The header `X-Request-Id` of the request, by which the logs of a proxy find it."""
        self.object_id: str | None = None

    @property
    def type(self) -> str:
        """The problem's type, such as `urn:ebs:problem:not-found`; empty if there was no problem document."""
        return str(self.problem.get("type", ""))

    @property
    def errors(self) -> list[dict[str, str]]:
        """What is wrong with the request, field by field: `detail`, and `pointer` or `parameter`."""
        errors = self.problem.get("errors")
        return errors if isinstance(errors, list) else []

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status in _PASSES


class ApiUnreachable(ApiError):
    """No API answers at this address. It is not known whether the request took effect."""

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed later."""
        return True


class ApiBusy(ApiError):
    """The API or its broker does not keep up (429, 503), and all retries were used up."""


class AccessDenied(ApiError):
    """The API does not know the key, or the key may only read (401, 403)."""


class NotFound(ApiError):
    """There is no such object (404): its id is wrong, or it has expired."""


class Conflict(ApiError):
    """The current state does not allow the request (409): for example, you cannot cancel an object that has ended."""


class TooLarge(ApiError):
    """The request is larger than the API or Kafka accepts (413)."""


class Invalid(ApiError):
    """The request is wrong (422); `errors` names each wrong field."""


_CLASSES: dict[int, type[ApiError]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    429: ApiBusy,
    503: ApiBusy,
}


def class_of(status: int) -> type[ApiError]:
    """Return the class of error that a status stands for."""
    return _CLASSES.get(status, ApiError)


class SubmitFailed(EbsError):
    """Some objects of `submit_many` were not accepted; the others were.

    `accepted` has the ids of the accepted objects. `refused` has an entry for each other object: its `index`, the
    reason, and the `id` with which it is safe to submit it again.
    """

    def __init__(self, message: str, accepted: Sequence[str] = (), refused: Sequence[RefusedObject] = ()) -> None:
        super().__init__(message)
        self.accepted = list(accepted)
        self.refused = list(refused)


class ObjectFailed(EbsError):
    """The object failed: at least one of its tasks is dead. `tasks` are the dead tasks, `errors` their errors."""

    def __init__(self, message: str, object_id: str = "", tasks: Sequence[TaskStatus] = ()) -> None:
        super().__init__(message)
        self.object_id = object_id
        self.tasks = list(tasks)

    @property
    def errors(self) -> list[str]:
        """The errors of the dead tasks, in the order of the tasks."""
        return [task.error or "" for task in self.tasks]


class ObjectCancelled(EbsError):
    """The object was cancelled, so not all of its tasks have a result."""

    def __init__(self, message: str, object_id: str = "") -> None:
        super().__init__(message)
        self.object_id = object_id


class WaitTimedOut(EbsError, TimeoutError):
    """The object has not ended in time; it is still processed. `status` is its last known status, or None."""

    def __init__(self, message: str, status: ObjectStatus | None = None) -> None:
        super().__init__(message)
        self.status = status


def failure_of(object_id: str, dead: Sequence[TaskStatus]) -> ObjectFailed:
    """Return the error of an object with these dead tasks."""
    shown = "; ".join(
        f"task {task.id.removeprefix(f'{object_id}-')}: {task.error or 'no reason given'}"
        for task in dead[:_ERRORS_SHOWN]
    )
    more = f"; and {len(dead) - _ERRORS_SHOWN} more" if len(dead) > _ERRORS_SHOWN else ""
    count = "1 task is dead" if len(dead) == 1 else f"{len(dead)} tasks are dead"
    return ObjectFailed(f"object {object_id} failed, {count} ({shown}{more})", object_id, dead)
