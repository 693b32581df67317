"""The operations of a client on one object, as steps (`steps.py`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from ebs.client.answers import Cancelled, ObjectStatus, Redrive, Submitted, TasksOnPage
from ebs.client.bodies import body_of, chosen_id, key_header
from ebs.client.errors import ApiBusy, ApiError, ObjectCancelled, WaitTimedOut, failure_of
from ebs.client.segments import api_path
from ebs.client.steps import JSON, ApiCall, CallPolicy, PauseFor, call, decoded

if TYPE_CHECKING:
    from ebs.client.answers import TaskStatus
    from ebs.client.bodies import NewObject
    from ebs.client.steps import Reply, Steps

POLL_S = 10.0
"""How long one request waits: proxies cut off an answer that takes 30 or 60 s."""
_GRACE_S = 5.0
"""How long an answer may take beyond the end of a wait."""
_TASKS_A_PAGE = 1_000
_FOLLOW_S = 0.3
_CLOCKS_DIFFER_MS = 3_600_000
_LETTERS = "dead-letters"


def path_of(object_id: str, *parts: str) -> str:
    """Return the path of an object. Raises `TypeError` for what is not an id, `ValueError` for an empty one."""
    if not isinstance(object_id, str):
        raise TypeError(f"an object is named by its id, a string, not {object_id!r}")
    if not object_id:
        raise ValueError("the object's id is empty")
    return api_path("objects", object_id, *parts)


def submit(policy: CallPolicy, wanted: NewObject) -> Steps[Submitted]:
    """Submit an object, once however often the request is repeated."""
    object_id = chosen_id(wanted)
    return (yield from submit_body(policy, body_of(wanted, object_id), object_id, wanted.idempotency_key))


def submit_body(policy: CallPolicy, body: bytes, object_id: str | None, key: str | None) -> Steps[Submitted]:
    """Submit an object as JSON that has its id, or with the idempotency key that makes it."""
    asked = ApiCall("POST", api_path("objects"), content=body, headers=JSON | key_header(key))
    try:
        return decoded((yield from call(policy, asked)), Submitted)
    except ApiError as error:
        error.object_id = object_id
        if error.is_temporary and object_id is not None:
            error.add_note(f"The object may be stored. To submit it again is safe with object_id={object_id!r}.")
        raise


def get(policy: CallPolicy, object_id: str) -> Steps[ObjectStatus]:
    """Look at an object."""
    return decoded((yield from call(policy, ApiCall("GET", path_of(object_id)))), ObjectStatus)


def wait(policy: CallPolicy, object_id: str, timeout_s: float | None) -> Steps[ObjectStatus]:
    """Return an object as soon as it has ended. Raises `WaitTimedOut`."""
    deadline_s = math.inf if timeout_s is None else policy.clock_s() + timeout_s
    status: ObjectStatus | None = None
    try:
        while status is None or not status.ended:
            # An API that stops answers before the time is over: another one goes on waiting.
            if status is not None and policy.clock_s() >= deadline_s:
                raise _late(object_id, timeout_s, status)
            status = decoded((yield from poll(policy, object_id, deadline_s)), ObjectStatus)
    except ApiError as error:
        if error.is_temporary and policy.clock_s() + (error.retry_after_s or 0) >= deadline_s:
            raise _late(object_id, timeout_s, status) from error
        raise
    return status


def poll(policy: CallPolicy, object_id: str, until_s: float, deadline_s: float | None = None) -> Steps[Reply]:
    """Ask for an object, once: the answer comes when it has ended, at `until_s` (`clock_s`), or after `POLL_S`.

    A view that is behind is waited for until `deadline_s` (None: `until_s`).
    """
    left_s = max(0.0, until_s - policy.clock_s())
    wait_s = round(min(POLL_S, left_s), 3)
    deadline_s = until_s if deadline_s is None else deadline_s
    limit_s = max(0.0, deadline_s - policy.clock_s()) + _GRACE_S
    asked = ApiCall("GET", path_of(object_id), {"wait": f"{wait_s:g}", "until": "end"}, wait_s=wait_s, limit_s=limit_s)
    return (yield from patiently(policy, asked, deadline_s))


def patiently(policy: CallPolicy, asked: ApiCall, deadline_s: float) -> Steps[Reply]:
    """Make a call until the deadline if need be: a view that is behind, as after the API's start, catches up."""
    while True:
        try:
            return (yield from call(policy, asked, deadline_s))
        except ApiBusy as error:
            if policy.clock_s() + (error.retry_after_s or 0) >= deadline_s:
                raise
            yield PauseFor(error.retry_after_s or 1.0)


def tasks(policy: CallPolicy, object_id: str) -> Steps[list[TaskStatus]]:
    """Return all tasks of an object in their order."""
    found: list[TaskStatus] = []
    cursor: str | None = None
    while True:
        asked = ApiCall("GET", path_of(object_id, "tasks"), {"limit": _TASKS_A_PAGE, "cursor": cursor})
        page = decoded((yield from call(policy, asked)), TasksOnPage)
        found += page.tasks
        cursor = page.next_cursor
        if cursor is None:
            return found


def results(policy: CallPolicy, object_id: str, timeout_s: float | None) -> Steps[list[Any]]:
    """Wait for an object and return what its tasks returned. Raises `ObjectFailed`, `ObjectCancelled`."""
    status = yield from wait(policy, object_id, timeout_s)
    if status.state == "CANCELLED":
        raise ObjectCancelled(f"object {object_id} was cancelled: `tasks` has the results so far", object_id)
    all_tasks = yield from tasks(policy, object_id)
    if status.state == "FAILED":
        raise failure_of(object_id, [task for task in all_tasks if task.state == "DEAD" and task.role != "callback"])
    return [task.result for task in all_tasks if task.role == "task"]


def cancel(policy: CallPolicy, object_id: str, reason: str) -> Steps[Cancelled]:
    """Cancel an object."""
    asked = ApiCall("DELETE", path_of(object_id), {"reason": reason or None})
    return decoded((yield from call(policy, asked)), Cancelled)


def redrive(policy: CallPolicy, object_id: str) -> Steps[Redrive]:
    """Redrive the dead tasks of an object; returns when it is done and the object is known to go on."""
    before = yield from get(policy, object_id)
    wanted: dict[str, Any] = {"object_id": object_id}
    if before.created_at_ms is not None:
        # So that the API need not look through all older letters; the clocks may differ.
        wanted["since_ms"] = max(0, before.created_at_ms - _CLOCKS_DIFFER_MS)
    asked = ApiCall("POST", api_path(_LETTERS, "redrive"), content=msgspec.json.encode(wanted), headers=JSON)
    run = decoded((yield from call(policy, asked)), Redrive)
    while run.state == "RUNNING":
        yield PauseFor(_FOLLOW_S)
        run = decoded((yield from call(policy, ApiCall("GET", api_path(_LETTERS, "redrives", run.id)))), Redrive)
    if run.state != "DONE":
        raise ApiError(run.error or f"redrive {run.id} is {run.state}")
    if run.redriven_count:
        yield from _until_changed(policy, before)
    return run


def _until_changed(policy: CallPolicy, before: ObjectStatus) -> Steps[None]:
    """Wait until the API's view has read the redrive: before that, `wait` would return the old end."""
    deadline_s = policy.clock_s() + POLL_S
    while policy.clock_s() < deadline_s:
        now = yield from get(policy, before.id)
        if _progress_of(now) != _progress_of(before):
            return
        yield PauseFor(_FOLLOW_S)


def _progress_of(status: ObjectStatus) -> tuple[Any, ...]:
    return status.state, status.tasks_dead, status.finished_at_ms, status.callback


def _late(object_id: str, timeout_s: float | None, status: ObjectStatus | None) -> WaitTimedOut:
    if status is None:
        how = "the API did not say how it stands"
    else:
        how = f"it is {status.state}, {status.tasks_done} of {status.tasks_total or '?'} tasks are finished"
    return WaitTimedOut(f"object {object_id} has not ended within {timeout_s:g} s: {how}. It goes on", status)
