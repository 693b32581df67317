"""What a redrive writes, and what is written of it: pure, from a dead letter's bytes and headers.

A task's letter becomes a new first attempt: a request and its TASKS_CREATED fact of the next generation, whose ids are
functions of task and generation, so whoever redrives the same letter again writes the same ids, and one run counts.
A letter that is no task goes back to its topic as it was, with a header that counts. Both end at `MAX_REDRIVES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from app import json_text
from app.events import (
    DECODE_ERRORS,
    Kind,
    TaskCreated,
    TasksCreated,
    decode_object,
    decode_task_request,
    encode,
    redrive_of,
    role_of,
)
from app.rules.dead_letters import (
    INCOMPLETE_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REDRIVE_HEADER,
    TOPIC_HEADER,
    headers_of_others,
)
from app.rules.ledger_rows import MAX_REDRIVES
from app.rules.outgoing import Outgoing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.names import Names
    from app.rules.routing import Routes

_MAX_DIGITS = 19


class DeadLetterRecord(NamedTuple):
    """A dead letter as it lies on the topic."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class RedrivePlan(NamedTuple):
    """What a redrive writes: `request` first, then `fact` (None: it is no task), then the act."""

    request: Outgoing
    fact: Outgoing | None
    redrive: int
    task_id: str | None = None
    object_id: str | None = None


class Refusal(NamedTuple):
    """The letter cannot be redriven, and why; `of_payload`: not as it was edited."""

    reason: str
    of_payload: bool = False


class TaskEdit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of a task's request may be edited."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    content: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    kind: Kind | msgspec.UnsetType = msgspec.UNSET


_decode_edit = msgspec.json.Decoder(TaskEdit).decode


class RedrivePolicy(NamedTuple):
    """Where a redrive writes to."""

    names: Names
    routes: Routes

    def plan(self, letter: DeadLetterRecord, *, at_ms: int, payload: bytes | None = None) -> RedrivePlan | Refusal:
        """Plan the redrive of a letter at an instant (epoch ms); `payload` is the edited one, as JSON.

        Of a task it replaces the fields that it names (`name`, `content`, `kind`); of a dead letter that is not a task,
        all fields.
        """
        headers = dict(letter.headers)
        topic = headers.get(TOPIC_HEADER, b"").decode("utf-8", "replace")
        is_request = self.names.is_of_requests(topic)
        if not is_request and topic not in {self.names.objects, self.names.task_events}:
            where = f"from {topic!r}" if topic else "without saying from where"
            return Refusal(f"it came {where}, and only a record of one of this system's topics can be redriven")
        if payload is None and INCOMPLETE_HEADER in headers:
            return _incomplete(topic, headers)
        partition = number_of(headers.get(PARTITION_HEADER))
        task = task_of(letter.value) if is_request else None
        if task is None or task.object_partition >= self.routes.partition_count:
            return self._plan_bytes(letter, topic, partition, payload)
        return self._plan_task(letter, task, partition, at_ms, payload)

    def _plan_task(
        self, letter: DeadLetterRecord, task: TaskCreated, partition: int | None, at_ms: int, payload: bytes | None
    ) -> RedrivePlan | Refusal:
        redrive = redrive_of(task) + 1
        if redrive > MAX_REDRIVES:
            return _limit_reached(f"task {task.task_id}")
        contradiction = _contradiction_in(task)
        if contradiction:
            return Refusal(f"its request contradicts itself: {contradiction}. Discard it, or submit its object again")
        try:
            edit = TaskEdit() if payload is None else _decode_edit(payload)
            if edit.content is not msgspec.UNSET:
                json_text.check(edit.content)
        except DECODE_ERRORS as error:
            return Refusal(f"of a task name, content and kind can be edited: {error}", of_payload=True)
        request = TaskCreated(
            f"c-{task.task_id}-r{redrive}",
            task.object_id,
            task.task_id,
            task.object_partition,
            task.kind if edit.kind is msgspec.UNSET else edit.kind,
            task.sequence,
            task.task_count,
            1,
            at_ms,
            name=task.name if edit.name is msgspec.UNSET else edit.name,
            content=task.content if edit.content is msgspec.UNSET else edit.content,
            redrive=redrive,
            depth=task.depth,
            key=task.key,
            role=task.role,
            refusal=task.refusal if edit.content is msgspec.UNSET else msgspec.UNSET,
        )
        fact = TasksCreated(
            request.id,
            task.object_id,
            task.object_partition,
            request.kind,
            task.sequence,
            1,
            task.task_count,
            at_ms,
            redrive,
            task.role,
        )
        own = headers_of_others(letter.headers)
        if partition is None or partition >= self.routes.partition_count or request.key is not msgspec.UNSET:
            partition = self.routes.partition(request)
        return RedrivePlan(
            Outgoing(self.routes.topic(request.kind), partition, task.task_id.encode(), encode(request), own),
            Outgoing(self.names.task_events, task.object_partition, task.object_id.encode(), encode(fact)),
            redrive,
            task.task_id,
            task.object_id,
        )

    def _plan_bytes(
        self, letter: DeadLetterRecord, topic: str, partition: int | None, payload: bytes | None
    ) -> RedrivePlan | Refusal:
        redrive = redrives_of(letter.headers) + 1
        if redrive > MAX_REDRIVES:
            return _limit_reached("this record")
        if partition is None or partition >= self.routes.partition_count:
            return Refusal(f"its partition of {topic} is not one of {self.routes.partition_count} (EBS_PARTITIONS)")
        key, value = letter.key, letter.value
        if payload is not None:
            try:
                key, value = self._key_of(topic, payload), payload
            except DECODE_ERRORS as error:
                return Refusal(f"it would not be a valid record of {topic}: {error}", of_payload=True)
        if value is None:
            return Refusal(f"its value is empty, which is not a valid record of {topic}: send an edited payload")
        task = task_of(value) if self.names.is_of_requests(topic) else None
        if task is not None:
            topic = self.routes.topic(task.kind)
        elif self.names.is_of_requests(topic) and topic not in self.routes.topics:
            topic = self.names.task_requests
        headers = [*headers_of_others(letter.headers), (REDRIVE_HEADER, str(redrive).encode())]
        return RedrivePlan(Outgoing(topic, partition, key, value, headers), None, redrive)

    def _key_of(self, topic: str, payload: bytes) -> bytes:
        """Return the key of an edited record; raises what `DECODE_ERRORS` lists if it would only die again."""
        if topic == self.names.objects:
            return decode_object(payload).object_id.encode()
        if self.names.is_of_requests(topic):
            task, partition_count = decode_task_request(payload), self.routes.partition_count
            json_text.check(task.content)
            if task.object_partition < partition_count:
                return task.task_id.encode()
            raise msgspec.ValidationError(f"object_partition is not below {partition_count} (EBS_PARTITIONS)")
        raise msgspec.ValidationError("only name, content and kind can be edited")


def _contradiction_in(task: TaskCreated) -> str:
    """Return why no TASKS_CREATED could tell of a task; workers never write such a request, other producers may."""
    if role_of(task.sequence) != task.role:
        return f"sequence {task.sequence} has the role {task.role or 'task'!r}"
    if task.role is msgspec.UNSET and task.sequence >= task.task_count:
        return (
            f"sequence {task.sequence}, counted from 0, of {task.task_count} task{'' if task.task_count == 1 else 's'}"
        )
    return ""


def task_of(value: bytes | None) -> TaskCreated | None:
    """Return the task of a request's bytes, None if they are none."""
    try:
        return decode_task_request(value or b"")
    except DECODE_ERRORS:
        return None


def redrives_of(headers: Sequence[tuple[str, bytes]]) -> int:
    """Return how often a record was redriven, by its header; one that makes no sense counts as none."""
    return number_of(dict(headers).get(REDRIVE_HEADER)) or 0


def number_of(value: bytes | None) -> int | None:
    """Return the number that a header says, None if it says none."""
    return int(value) if value is not None and value.isdigit() and len(value) < _MAX_DIGITS else None


def _incomplete(topic: str, headers: Mapping[str, bytes]) -> Refusal:
    said, partition, offset = (
        headers.get(name, b"?").decode("utf-8", "replace")
        for name in (INCOMPLETE_HEADER, PARTITION_HEADER, OFFSET_HEADER)
    )
    return Refusal(
        f"this letter does not contain the whole record ({said}): redrive it with the whole record as edited payload, "
        f"or send {topic}-{partition}@{offset} again yourself while the topic keeps it"
    )


def _limit_reached(what: str) -> Refusal:
    return Refusal(
        f"{what} has been redriven {MAX_REDRIVES} times, which is the limit: discard it, or submit its object again"
    )
