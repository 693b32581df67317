"""Submits single objects, and many copies of one payload: the rules of `POST /api/objects`.

With an idempotency key, the object's id is a function of the key (`app.rules.idempotency`), and `api.submit.storing`
finds out which request was first. Guarantee: within EBS_SEEN_RETENTION_H there is at most one object for a key, from
the record that distribution saw first; only requests with the payload of this object get a 202.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET

from api.server import problems
from api.submit.in_flight import InFlight
from api.submit.payload import new_object_ids, prepare, too_large, what_is_wrong
from api.submit.storing import Fate, Outcome, Storing
from app.rules.idempotency import object_id_of, object_id_of_item

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.submit.payload import Prepared
    from api.submit.publisher import Publisher
    from api.submit.schemas import ObjectRequest
    from api.view.view import View
    from app.settings.settings import Settings

_MAX_BULK_BYTES = 256 * 1_048_576
# Building and publishing this many holds the event loop for about 10 ms.
_CHUNK_COUNT = 2_000
_CHUNK_BYTES = 8 * 1_048_576


class _Running(NamedTuple):
    """A submit of a known id that is under way in this process."""

    payload_hash: str
    task: asyncio.Task[Outcome]


class Submitter:
    """Submits objects with the collaborators of one application."""

    def __init__(self, settings: Settings, publisher: Publisher, view: View, clock_ms: Callable[[], int]) -> None:
        self.settings = settings
        self.clock_ms = clock_ms
        self.storing = Storing(publisher, view, InFlight(settings.max_in_flight_bytes))
        self._running: dict[str, _Running] = {}

    async def submit(self, payload: ObjectRequest, key: str | None = None) -> str:
        """Store one object; returns its id once the broker has it. Raises `Problem` (409, 413, 422, 429, 503)."""
        self._check(payload)
        object_id = chosen_id(payload, key)
        if object_id is None:
            (object_id,) = new_object_ids(1)
            outcome = await self._store(payload, object_id, None)
        else:
            outcome = await self._store_known(payload, object_id)
        if outcome.fate is not Fate.STORED:
            raise _problem_of(outcome, object_id, key)
        return object_id

    async def submit_many(self, payload: ObjectRequest, count: int, key: str | None = None) -> list[str]:
        """Store `count` objects, the same but for their ids; returns the ids. Raises as `submit`."""
        self._check(payload)
        if payload.id is not UNSET:
            detail = "an id names one object: leave it out, or leave out count"
            raise problems.invalid([{"detail": detail, "pointer": "#/id"}])
        at_ms = self.clock_ms()
        sample = prepare(payload, new_object_ids(1)[0], self.settings, at_ms)
        self._check_size(sample, count)
        event_bytes = len(sample.record[2])
        chunk_count = min(_CHUNK_COUNT, max(1, _CHUNK_BYTES // event_bytes))
        payload_hash = UNSET if key is None else payload.hash(count)
        ids: list[str] = []
        while len(ids) < count:
            wanted = min(chunk_count, count - len(ids))
            chunk = _ids_of(key, len(ids), wanted)
            objects = [prepare(payload, object_id, self.settings, at_ms, payload_hash) for object_id in chunk]
            await asyncio.sleep(0)  # others want to be served between the two halves of the work
            outcomes = await self.storing.store(objects)
            failed = next((outcome for outcome in outcomes if outcome.fate is not Fate.STORED), None)
            if failed is not None:
                raise _many_failed(failed, ids, chunk, count, key)
            ids += chunk
        return ids

    async def _store_known(self, payload: ObjectRequest, object_id: str) -> Outcome:
        """Store an object of this id, once for all who ask for it meanwhile. Raises `Problem` (409)."""
        payload_hash = payload.hash()
        running = self._running.get(object_id)
        if running is None:
            task = asyncio.create_task(self._store(payload, object_id, payload_hash))
            running = self._running[object_id] = _Running(payload_hash, task)
            task.add_done_callback(lambda done: self._forget(object_id, done))
        elif running.payload_hash != payload_hash:
            # Whether that one will be the object is not known yet: it may fail, and then this one may be it.
            detail = (
                f"object {object_id} is being submitted with another payload: repeat after that request has its answer"
            )
            raise problems.conflict("key-in-flight", detail, {"id": object_id, "safe_to_repeat": True})
        # One who gives up must not take the others' submit with him.
        return await asyncio.shield(running.task)

    def _forget(self, object_id: str, done: asyncio.Task[Outcome]) -> None:
        del self._running[object_id]
        if not done.cancelled():
            done.exception()  # where everybody who asked is gone, nobody else looks at it

    async def _store(self, payload: ObjectRequest, object_id: str, payload_hash: str | None) -> Outcome:
        one = prepare(payload, object_id, self.settings, self.clock_ms(), payload_hash or UNSET)
        self._check_size(one, 1)
        (outcome,) = await self.storing.store([one])
        return outcome

    def _check(self, payload: ObjectRequest) -> None:
        errors = [
            {"detail": detail, "pointer": f"#/{field}"} for field, detail in what_is_wrong(payload, self.settings)
        ]
        if errors:
            raise problems.invalid(errors)

    def _check_size(self, one: Prepared, count: int) -> None:
        refusal = too_large(one, self.settings)
        if refusal is None and len(one.record[2]) * count > _MAX_BULK_BYTES:
            refusal = (
                f"{count} copies of this object are over {_MAX_BULK_BYTES} bytes in one call: ask for fewer at a time"
            )
        if refusal is not None:
            raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", refusal)


def chosen_id(payload: ObjectRequest, key: str | None) -> str | None:
    """Return the id that the client chose, itself or by its key; None: he leaves it to us. Raises `Problem` (422)."""
    if key is None:
        return None if payload.id is UNSET else payload.id
    object_id = object_id_of(key)
    if payload.id not in {UNSET, object_id}:
        detail = f"the idempotency key makes the id {object_id}: leave out id, or the key"
        raise problems.invalid([{"detail": detail, "pointer": "#/id"}])
    return object_id


def _ids_of(key: str | None, start: int, count: int) -> list[str]:
    if key is None:
        return new_object_ids(count)
    return [object_id_of_item(key, index) for index in range(start, start + count)]


def _problem_of(outcome: Outcome, object_id: str, key: str | None) -> problems.Problem:
    if outcome.fate is Fate.UNKNOWN:
        how = f'send the same payload with "id": "{object_id}"' if key is None else "send the same again"
        detail = (
            f"{outcome.detail}, so it is not known whether object {object_id} is stored. Repeating is safe: {how}, "
            "it creates this object only once"
        )
        members = {"id": object_id, "ids": [object_id], "safe_to_repeat": True, "retry_with": {"id": object_id}}
        return problems.unavailable(outcome.name, detail, members)
    return _nothing_stored(outcome, [object_id] if outcome.fate is Fate.CONFLICT else [])


def _nothing_stored(outcome: Outcome, ids: list[str]) -> problems.Problem:
    if outcome.fate is Fate.CONFLICT:
        members = {"id": ids[0], "safe_to_repeat": False}
        return problems.Problem(HTTPStatus.UNPROCESSABLE_ENTITY, outcome.name, outcome.detail, members=members)
    problem = problems.too_many if outcome.fate is Fate.BEHIND else problems.unavailable
    return problem(outcome.name, outcome.detail, {"ids": [], "safe_to_repeat": True})


def _many_failed(failed: Outcome, stored: list[str], chunk: list[str], count: int, key: str | None) -> problems.Problem:
    if failed.fate is Fate.CONFLICT or (failed.fate is not Fate.UNKNOWN and not stored):
        return _nothing_stored(failed, chunk)
    unknown = chunk if failed.fate is Fate.UNKNOWN else []
    missing = count - len(stored) - len(unknown)
    repeat = (
        f"repeat with count={missing}"
        if key is None
        else "send the same request again: it creates only the missing objects"
    )
    reason = failed.detail.removesuffix("; nothing was stored, so repeating is safe")
    detail = (
        f"{reason}. Of {count} objects {len(stored)} are stored, of {len(unknown)} it is not known (GET tells), "
        f"{missing} are not: {repeat}"
    )
    members = {
        "ids": stored + unknown,
        "stored_count": len(stored),
        "unknown_count": len(unknown),
        "not_stored_count": missing,
        "safe_to_repeat": key is not None,
    }
    return problems.unavailable("outcome-unknown", detail, members)
