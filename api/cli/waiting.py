"""Waits for objects by long polls, so the answer comes when the object is done and nobody asks in vain."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from api.client import ApiError, path_of
from app.rules.ledger_states import ObjectState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api.client import ApiClient

Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long --wait waits; left out: for ever.")
]

_POLL_S = 10.0
_BUSY = 503


class Ends(NamedTuple):
    """How objects ended: a count, and ids of those that did not finish."""

    finished: int
    failed: list[str]
    cancelled: list[str]
    open: list[str]

    @property
    def all_finished(self) -> bool:
        """Tell whether nothing went wrong."""
        return not (self.failed or self.cancelled or self.open)

    def words(self) -> str:
        """Return a sentence for people."""
        parts = [f"{self.finished} finished"]
        for name, ids in (("failed", self.failed), ("cancelled", self.cancelled), ("not at their end yet", self.open)):
            if ids:
                more = ", ..." if len(ids) > 1 else ""
                parts.append(f"{len(ids)} {name} ({ids[0]}{more})")
        return ", ".join(parts)


def wait_for_end(client: ApiClient, object_id: str, deadline_s: float | None) -> dict[str, Any]:
    """Return an object as soon as it has ended, or as it is at the deadline (by `time.monotonic`)."""
    while True:
        left_s = _POLL_S if deadline_s is None else max(0.0, min(_POLL_S, deadline_s - time.monotonic()))
        try:
            answer: dict[str, Any] = client.get(path_of("objects", object_id), wait=left_s, until="end")
        except ApiError as error:
            # A view that is behind, as after the API's start, catches up.
            if error.problem.get("status") != _BUSY or (deadline_s is not None and left_s <= 0):
                raise
            time.sleep(min(left_s, error.retry_after_s or 1))
            continue
        if answer["wait"]["outcome"] != "timed-out" or (deadline_s is not None and time.monotonic() >= deadline_s):
            return answer


def wait_for_all(
    client: ApiClient,
    ids: Sequence[str],
    timeout_s: float | None,
    *,
    on_progress: Callable[[int, int], None],
) -> Ends:
    """Wait for objects in the order in which they were submitted, which is about that in which they end."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    finished = 0
    others: dict[str, list[str]] = {state: [] for state in ("failed", "cancelled", "open")}
    on_progress(0, len(ids))
    for number, object_id in enumerate(ids, 1):
        state = wait_for_end(client, object_id, deadline_s)["state"]
        if state == ObjectState.FINISHED:
            finished += 1
        else:
            others[_NAME_OF.get(state, "open")].append(object_id)
        on_progress(number - len(others["open"]), len(ids))
    return Ends(finished, others["failed"], others["cancelled"], others["open"])


_NAME_OF = {ObjectState.FAILED: "failed", ObjectState.CANCELLED: "cancelled"}
