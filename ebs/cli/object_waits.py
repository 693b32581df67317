"""Waits for the end of objects: for one by long polls, for many also by lists of ended objects."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from app.rules.ledger_states import ENDED_OBJECT_STATES
from ebs.cli.client import path_of
from ebs.cli.sending import POLICY
from ebs.client import operations
from ebs.client.steps import ApiCall, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebs.cli.client import ApiClient

Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="How long --wait waits. Default: for ever.")
]

_LIST_LIMIT = 500
_FEW = 20
"""Up to this many objects are requested one by one: a list costs as much as several of these requests."""
_PAUSE_S = 0.2
_PAUSES_PER_LISTING = 4


class Ends(NamedTuple):
    """How objects ended: a count, and ids of those that did not finish."""

    finished: int
    failed: list[str]
    cancelled: list[str]
    open: list[str]

    @property
    def all_finished(self) -> bool:
        """Whether all objects have finished."""
        return not (self.failed or self.cancelled or self.open)

    def words(self) -> str:
        """Return a sentence for people."""
        parts = [f"{self.finished} finished"]
        for name, ids in (("failed", self.failed), ("cancelled", self.cancelled), ("not ended yet", self.open)):
            if ids:
                more = ", ..." if len(ids) > 1 else ""
                parts.append(f"{len(ids)} {name} ({ids[0]}{more})")
        return ", ".join(parts)


def wait_for_end(
    client: ApiClient, object_id: str, deadline_s: float | None, patience_s: float | None = None
) -> dict[str, Any]:
    """Return an object when it has ended, at the latest at the deadline (`time.monotonic`) or after `patience_s`."""
    last_s = math.inf if deadline_s is None else deadline_s
    until_s = last_s if patience_s is None else min(last_s, time.monotonic() + patience_s)
    while True:
        reply = client.run(operations.poll(POLICY, object_id, until_s, last_s))
        answer = decoded(reply, dict[str, Any])
        # An API that stops answers early; the next request goes to another one.
        if answer["state"] in ENDED_OBJECT_STATES or _is_over(until_s):
            return answer


def wait_for_all(
    client: ApiClient,
    ids: Sequence[str],
    timeout_s: float | None,
    *,
    on_progress: Callable[[int, int], None],
) -> Ends:
    """Wait for objects. `ids` are in the order of submission, which is about the order in which they end."""
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    crowd = _Crowd(client, ids, deadline_s)
    total = len(crowd.open)
    on_progress(0, total)
    while crowd.open and not _is_over(deadline_s):
        crowd.wait()
        on_progress(len(crowd.ended), total)
    if crowd.open:
        crowd.settle()
        on_progress(len(crowd.ended), total)
    by_name: dict[str, list[str]] = {name: [] for name in ("finished", "failed", "cancelled", "open")}
    for object_id in ids:
        by_name[_NAME_OF.get(crowd.ended.get(object_id, ""), "open")].append(object_id)
    return Ends(len(by_name["finished"]), by_name["failed"], by_name["cancelled"], by_name["open"])


class _Crowd:
    """Waits for several objects: a single object by a long poll, more by lists of ended objects, 500 per answer.

    A list is correct but may be incomplete: another process with an older view may answer, and objects of an outside
    producer may have any time. So at the end each object that was in no list is requested by its id.
    """

    def __init__(self, client: ApiClient, ids: Sequence[str], deadline_s: float | None) -> None:
        self.open = dict.fromkeys(ids)
        self.ended: dict[str, str] = {}
        self._client = client
        self._deadline_s = deadline_s
        self._last_id = next(reversed(self.open), "")
        self._last_created_ms: int | None = None
        self._listed_s = 0.0
        self._took_s = 0.0
        self._one_by_one_count = 0

    def wait(self) -> None:
        """Wait for the first object, for a while, then find out which others have ended."""
        # The lists of a million objects take a minute: the longer they take, the less often they are requested.
        pause_s = max(_PAUSE_S, _PAUSES_PER_LISTING * self._took_s)
        are_many = len(self.open) > _FEW
        first = next(iter(self.open))
        found = wait_for_end(self._client, first, self._deadline_s, max(1.0, pause_s) if are_many else None)
        self._note(found)
        if self._one_by_one_count and first in self.ended:
            self._one_by_one_count -= 1
        elif are_many and found["created_at_ms"] is not None:
            rest_s = self._listed_s + pause_s - time.monotonic()
            time.sleep(max(0.0, min(rest_s, _left_s(self._deadline_s))))
            ended_count = len(self.ended)
            self._list(found["created_at_ms"], state=_ENDED)
            if len(self.ended) == ended_count:
                # The objects are slow, or not in the order of time: lists and pauses would only cost more.
                self._one_by_one_count = _FEW

    def settle(self) -> None:
        """Find out the states at the deadline."""
        known: set[str] = set()
        if len(self.open) > _FEW:
            first = self._look(next(iter(self.open)))
            if first["created_at_ms"] is not None:
                known = self._list(first["created_at_ms"])
        for object_id in [one for one in self.open if one not in known]:
            self._look(object_id)

    def _look(self, object_id: str) -> dict[str, Any]:
        answer: dict[str, Any] = _ask(self._client, path_of("objects", object_id), self._deadline_s)
        self._note(answer)
        return answer

    def _list(self, since_ms: int, **query: str) -> set[str]:
        """Read the list of objects created since an instant; returns their ids."""
        began_s = time.monotonic()
        if self._last_created_ms is None:
            self._last_created_ms = self._look(self._last_id)["created_at_ms"] or since_ms
        # Other clients may have submitted more objects since then.
        before_ms = max(since_ms, self._last_created_ms) + 1
        query |= {"created_after": str(since_ms), "created_before": str(before_ms), "limit": str(_LIST_LIMIT)}
        listed: set[str] = set()
        while True:
            page = _ask(self._client, path_of("objects"), self._deadline_s, **query)
            for one in page["objects"]:
                self._note(one)
                listed.add(one["id"])
            if page["next_cursor"] is None:
                break
            query["cursor"] = page["next_cursor"]
        self._listed_s = time.monotonic()
        self._took_s = self._listed_s - began_s
        return listed

    def _note(self, found: dict[str, Any]) -> None:
        if found["id"] in self.open and found["state"] in _NAME_OF:
            self.ended[found["id"]] = found["state"]
            del self.open[found["id"]]


def _ask(client: ApiClient, path: str, deadline_s: float | None, **query: Any) -> Any:
    last_s = math.inf if deadline_s is None else deadline_s
    return decoded(client.run(operations.patiently(POLICY, ApiCall("GET", path, query), last_s)), Any)


def _left_s(deadline_s: float | None) -> float:
    return math.inf if deadline_s is None else deadline_s - time.monotonic()


def _is_over(deadline_s: float | None) -> bool:
    return _left_s(deadline_s) <= 0


_NAME_OF: dict[str, str] = {state: state.lower() for state in ENDED_OBJECT_STATES}
_ENDED = ",".join(sorted(_NAME_OF))
