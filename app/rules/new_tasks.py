"""The records that create tasks: a request for each task, and one event for all of them.

Distribution, finished splits, and the statistics (for joins and callbacks) create tasks with these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET

from app.events import AboutObject, ItemRecord, TaskCreated, TasksCreated, role_of, task_id_of, tasks_created_id
from app.rules.delays import due_at_ms_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.events import ObjectCreated

    Name = str | msgspec.UnsetType


MAX_NAME_CHARS = 500
"""Maximum length of an object's name in the records about its end: longer names are cut."""


class NewTask(NamedTuple):
    """What a task is to be about, when it is due (epoch ms; UNSET: at once), and whose work it is."""

    name: Name
    content: msgspec.Raw
    due_at_ms: int | msgspec.UnsetType = UNSET
    key: Name = UNSET


decode_items = msgspec.json.Decoder(list[ItemRecord]).decode
"""Read items as `ebs.pieces` writes them."""


class NewTasks(NamedTuple):
    """The records of an object's tasks: a request for each, one fact of all of them. `Routes` says where they go."""

    requests: list[TaskCreated]
    fact: TasksCreated


class Owner(NamedTuple):
    """The object that tasks are of, its partition, and how many objects above it submitted one another.

    `about` it is known where its first tasks are made.
    """

    object_id: str
    partition: int
    kind: str
    depth: int | msgspec.UnsetType = UNSET
    about: AboutObject | msgspec.UnsetType = UNSET


def owner_of(event: ObjectCreated, partition: int) -> Owner:
    """Return an object as the owner of its first tasks."""
    parent = None if event.parent is UNSET else event.parent
    depth, url = 0 if event.depth is UNSET else event.depth, event.callback_url or ""
    about = AboutObject(event.name[:MAX_NAME_CHARS], parent, depth, url)
    return Owner(event.object_id, partition, event.kind, event.depth, about)


def tasks_of(
    owner: Owner,
    wanted: list[NewTask],
    *,
    joins: bool,
    at_ms: int,
) -> NewTasks:
    """Return a task for each one that is wanted."""
    object_id, object_partition, kind, depth, about = owner
    task_count = len(wanted)
    requests = []
    for sequence, (name, content, due_at_ms, key) in enumerate(wanted):
        task_id = task_id_of(object_id, sequence)
        common = (f"c-{task_id}", object_id, task_id, object_partition, kind, sequence, task_count, 1, at_ms)
        request = TaskCreated(*common, name, content, depth=depth, key=key, due_at_ms=due_at_ms, starts_at_ms=due_at_ms)
        requests.append(request)
    common_fact = (tasks_created_id(object_id), object_id, object_partition, kind, 0, task_count, task_count, at_ms)
    return NewTasks(requests, TasksCreated(*common_fact, joins=joins or UNSET, about=about))


def task_with_role(
    owner: Owner,
    sequence: int,
    content: msgspec.Raw,
    *,
    at_ms: int,
    name: Name = UNSET,
    task_count: int = 1,
    refusal: Name = UNSET,
    due_at_ms: int | msgspec.UnsetType = UNSET,
    key: Name = UNSET,
) -> NewTasks:
    """Return the split, the join or a callback of an object."""
    object_id, partition, kind, depth, about = owner
    task_id, role = task_id_of(object_id, sequence), role_of(sequence)
    common = (f"c-{task_id}", object_id, task_id, partition, kind, sequence, task_count, 1, at_ms)
    request = TaskCreated(
        *common,
        name,
        content,
        depth=depth,
        key=key,
        role=role,
        refusal=refusal,
        due_at_ms=due_at_ms,
        starts_at_ms=due_at_ms,
    )
    fact = TasksCreated(request.id, object_id, partition, kind, sequence, 1, 1, at_ms, role=role, about=about)
    return NewTasks([request], fact)


def copied_bytes_of(wanted: Iterable[NewTask]) -> int:
    """Return how large names and contents are together, as the requests repeat them."""
    return sum(len(one.name or "") + len(one.content) for one in wanted)


def tasks_of_items(
    items: Iterable[ItemRecord],
    object_name: Name,
    at_ms: int = 0,
    due_at_ms: int | msgspec.UnsetType = UNSET,
    key: Name = UNSET,
) -> list[NewTask]:
    """Return the task of each item.

    What an item does not say is as with its object: name, due time and key. `at_ms` is when delays begin.
    """
    return [
        NewTask(
            object_name if item.name is UNSET else item.name,
            item.content,
            due_at_ms if item.delay_s is UNSET and item.due_at is UNSET else due_at_ms_of(item, at_ms),
            key if item.key is UNSET else item.key,
        )
        for item in items
    ]
