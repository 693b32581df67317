"""Takes objects in: gives them ids, makes their OBJECT_CREATED events and publishes them (design, sections 3 and 5)."""

from __future__ import annotations

import asyncio
import uuid
import zlib
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from api import problems
from api.submit import generated
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.events import ObjectCreated, encode, object_created_id
from app.rules.distribution import why_copies_refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.schemas import ObjectRequest
    from api.submit.publisher import Publisher, Record
    from api.view.view import View
    from app.settings import Settings

MAX_EVENT_BYTES = 1_000_000
"""The broker takes 1,048,588 bytes a batch by default, and a task request wraps the same content in more fields."""
_MAX_BULK_BYTES = 256 * 1_048_576
# Building and publishing this many holds the event loop for about 10 ms.
_CHUNK_COUNT = 2_000
_CHUNK_BYTES = 8 * 1_048_576


class Submitter(NamedTuple):
    """Submits objects with the collaborators of one application."""

    settings: Settings
    publisher: Publisher
    view: View
    clock_ms: Callable[[], int]

    async def submit(self, wanted: ObjectRequest) -> str:
        """Store one object; returns its id once the broker has it. Raises `Problem` (413, 422, 503)."""
        self._check_tasks(wanted)
        object_id = wanted.id or new_object_id()
        record = self._record(object_id, wanted)
        _check_size(len(record[2]), 1)
        try:
            offset = await self.publisher.publish(record)
        except OutcomeUnknown as error:
            detail = (
                f"{error}, so it is not known whether object {object_id} is stored. Repeating is safe: send the same "
                f'payload with "id": "{object_id}", it makes this object once'
            )
            members = {"id": object_id, "ids": [object_id], "safe_to_repeat": True, "retry_with": {"id": object_id}}
            raise problems.unavailable("outcome-unknown", detail, members) from error
        except (BrokerUnavailable, RecordRefused) as error:
            raise _nothing_stored(error) from error
        if offset is not None:
            self.view.remember_writes({record[0]: offset + 1})
        return object_id

    async def submit_many(self, wanted: ObjectRequest, count: int) -> list[str]:
        """Store `count` objects, the same but for their ids; returns the ids. Raises as `submit`."""
        self._check_tasks(wanted)
        if wanted.id:
            detail = "an id names one object: leave it out, or leave out count"
            raise problems.invalid([{"detail": detail, "pointer": "#/id"}])
        event_bytes = len(self._record(new_object_id(), wanted)[2])
        _check_size(event_bytes, count)
        chunk_count = min(_CHUNK_COUNT, max(1, _CHUNK_BYTES // event_bytes))
        ids: list[str] = []
        while len(ids) < count:
            chunk = [new_object_id() for _ in range(min(chunk_count, count - len(ids)))]
            records = [self._record(object_id, wanted) for object_id in chunk]
            await asyncio.sleep(0)  # others want to be served between the two halves of the work
            try:
                self.view.remember_writes(await self.publisher.publish_many(records))
            except OutcomeUnknown as error:
                raise _partly_stored(error, ids, chunk, count) from error
            except BrokerUnavailable as error:
                raise (_partly_stored(error, ids, [], count) if ids else _nothing_stored(error)) from error
            ids += chunk
        return ids

    def _check_tasks(self, wanted: ObjectRequest) -> None:
        most = self.settings.max_tasks_per_object
        if wanted.tasks > most:
            detail = f"Input should be less than or equal to {most} (EBS_MAX_TASKS_PER_OBJECT)"
            raise problems.invalid([{"detail": detail, "pointer": "#/tasks"}])
        refusal = why_copies_refused(len(wanted.name) + len(wanted.content), wanted.tasks)
        if refusal is not None:
            raise problems.invalid([{"detail": f"The object {refusal}", "pointer": "#/tasks"}])

    def _record(self, object_id: str, wanted: ObjectRequest) -> Record:
        given = wanted.model_fields_set
        name, content = wanted.name, wanted.content
        if not given >= {"name", "content"}:
            made_up_name, made_up_content = generated.name_and_content(object_id)
            name = name if "name" in given else made_up_name
            content = content if "content" in given else made_up_content
        event = ObjectCreated(
            id=object_created_id(object_id),
            object_id=object_id,
            kind=wanted.kind,
            task_count=wanted.tasks if "tasks" in given else self.settings.tasks_per_object,
            name=name,
            content=content,
            at_ms=self.clock_ms(),
        )
        key = object_id.encode()
        return partition_of(key, self.settings.partitions), key, encode(event)


def new_object_id() -> str:
    """Return a random id of 32 hexadecimal digits."""
    return uuid.uuid4().hex


def partition_of(key: bytes, partition_count: int) -> int:
    """Return where an object of ours lies: CRC-32 modulo n, as librdkafka's `consistent` partitioner (design, 3)."""
    return zlib.crc32(key) % partition_count


def _check_size(event_bytes: int, count: int) -> None:
    if event_bytes > MAX_EVENT_BYTES:
        detail = f"name and content make an event of {event_bytes} bytes; a topic takes {MAX_EVENT_BYTES}"
        raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
    if event_bytes * count > _MAX_BULK_BYTES:
        detail = f"{count} copies of this object are over {_MAX_BULK_BYTES} bytes in one call: ask for fewer at a time"
        raise problems.Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)


def _nothing_stored(error: Exception) -> problems.Problem:
    name = "record-refused" if isinstance(error, RecordRefused) else "broker-unavailable"
    detail = f"{error}; nothing was stored, so repeating is safe"
    return problems.unavailable(name, detail, {"ids": [], "safe_to_repeat": True})


def _partly_stored(error: Exception, stored: list[str], unknown: list[str], count: int) -> problems.Problem:
    missing = count - len(stored) - len(unknown)
    detail = (
        f"{error}. Of {count} objects {len(stored)} are stored, of {len(unknown)} it is not known (GET tells), "
        f"{missing} are not: repeat with count={missing}"
    )
    members = {
        "ids": stored + unknown,
        "stored_count": len(stored),
        "unknown_count": len(unknown),
        "not_stored_count": missing,
        "safe_to_repeat": False,
    }
    return problems.unavailable("outcome-unknown", detail, members)
