"""What a function may produce, by the settings of a worker, and the record that a submitted object becomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from app import json_text
from app.events import MAX_TASKS, ObjectCreated, Parent, encode, object_created_id
from app.rules.distribution import MAX_EVENT_BYTES, why_refused
from app.rules.kinds import why_unhandled
from app.rules.new_tasks import decode_items
from app.telemetry.near_names import did_you_mean, shown
from app.webhooks.hosts import hosts_of
from ebs.outputs import OutputRules

if TYPE_CHECKING:
    from ebs.outputs import SubmittedObject
    from ebs.task import Task


class WorkerOutputRules(OutputRules, frozen=True):
    """What the functions of a worker may produce; `kinds` None: every kind is worked.

    `webhook_hosts` are the entries of EBS_WEBHOOK_HOSTS.
    """

    kinds: frozenset[str] | None = None
    max_depth: int = 100
    tasks_per_object: int = 1
    max_tasks_per_object: int = MAX_TASKS
    output_topics: frozenset[str] = frozenset()
    webhook_hosts: tuple[str, ...] = ()

    def why_not_submitted(self, new: SubmittedObject, /) -> str | None:
        """Return why an object cannot be submitted and what to change, None if it can."""
        if new.depth > self.max_depth:
            return (
                f"{new.depth} objects would stand above the new one, at most {self.max_depth} may (EBS_MAX_DEPTH): "
                "raise that, or let the chain end"
            )
        unhandled = why_unhandled(new.kind, self.kinds)
        if unhandled is not None:
            return unhandled
        if new.callback_url is not None:
            refusal = hosts_of(self.webhook_hosts).why_refused(new.callback_url)
            if refusal is not None:
                return f"callback_url: {refusal}"
        event = object_of(new, None, 0)
        try:
            _check_contents(event)
        except msgspec.DecodeError as error:
            return f"the content cannot be taken: {error}"
        size_bytes = len(encode(event))
        if size_bytes > MAX_EVENT_BYTES:
            return (
                f"the object makes a record of {size_bytes:,} bytes, at most {MAX_EVENT_BYTES:,} are allowed: submit "
                "references instead of the data, or several objects"
            )
        refusal = why_refused(event, size_bytes, self.tasks_per_object, self.max_tasks_per_object)
        return None if refusal is None else f"the object {refusal}"

    def why_not_sent(self, topic: str, /) -> str | None:
        """Return why no record can be sent to a topic and what to change, None if it can."""
        if topic in self.output_topics:
            return None
        allowed = ", ".join(sorted(self.output_topics)) or "none"
        return (
            f"EBS_OUTPUT_TOPICS does not name the topic {shown(topic)}{did_you_mean(topic, self.output_topics)}: add "
            f"it there for the processing workers (now: {allowed})"
        )


def object_of(new: SubmittedObject, task: Task | None, at_ms: int) -> ObjectCreated:
    """Return an object as it stands on the topic; `task` has submitted it."""
    return ObjectCreated(
        id=object_created_id(new.id),
        object_id=new.id,
        kind=new.kind,
        task_count=new.tasks,
        name=new.name,
        content=msgspec.Raw(new.content),
        at_ms=at_ms,
        items=UNSET if new.items is None else decode_items(new.items),
        parent=UNSET if task is None else Parent(task.object_id, task.task_id),
        depth=new.depth,
        delay_s=UNSET if new.delay_s is None else new.delay_s,
        due_at=UNSET if new.due_at is None else new.due_at,
        key=UNSET if new.key is None else new.key,
        callback_url=UNSET if new.callback_url is None else new.callback_url,
    )


def _check_contents(event: ObjectCreated) -> None:
    json_text.check(event.content)
    for item in () if event.items is UNSET else event.items:
        json_text.check(item.content)
