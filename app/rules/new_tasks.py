"""The records that create tasks: a request for each task, and one event for all of them.

Distribution, finished splits, and the statistics (for joins and callbacks) create tasks with these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET

from app.events import AboutObject, ItemRecord, TaskCreated, TasksCreated, role_of, task_id_of, tasks_created_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.events import ObjectCreated

    Name = str | msgspec.UnsetType


MAX_NAME_CHARS = 500
"""Maximum length of an object's name in the records about its end: longer names are cut."""

decode_items = msgspec.json.Decoder(list[ItemRecord]).decode
"""Read items as `ebs.pieces` writes them."""


class NewTasks(NamedTuple):
    """The records of an object's tasks: each request with its partition of `task-requests`, one fact of all of them."""

    requests: list[tuple[int, TaskCreated]]
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
    contents: list[tuple[Name, msgspec.Raw]],
    *,
    partition_count: int,
    spread: bool,
    joins: bool,
    at_ms: int,
) -> NewTasks:
    """Return a task for each name and content.

    The requests are spread over the partitions from the object's own one on. Without `spread` they all go to the
    object's own: one worker can then work them one after another.
    """
    object_id, object_partition, kind, depth, about = owner
    task_count = len(contents)
    requests = []
    for sequence, (name, content) in enumerate(contents):
        task_id = task_id_of(object_id, sequence)
        common = (f"c-{task_id}", object_id, task_id, object_partition, kind, sequence, task_count, 1, at_ms)
        request = TaskCreated(*common, name, content, depth=depth)
        requests.append(((object_partition + sequence * spread) % partition_count, request))
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
) -> NewTasks:
    """Return the split, the join or a callback of an object, in the object's own partition."""
    object_id, partition, kind, depth, about = owner
    task_id, role = task_id_of(object_id, sequence), role_of(sequence)
    common = (f"c-{task_id}", object_id, task_id, partition, kind, sequence, task_count, 1, at_ms)
    request = TaskCreated(*common, name, content, depth=depth, role=role, refusal=refusal)
    fact = TasksCreated(request.id, object_id, partition, kind, sequence, 1, 1, at_ms, role=role, about=about)
    return NewTasks([(partition, request)], fact)


def copied_bytes_of(contents: Iterable[tuple[Name, msgspec.Raw]]) -> int:
    """Return how large names and contents are together, as the requests repeat them."""
    return sum(len(name or "") + len(content) for name, content in contents)


def named_contents(items: Iterable[ItemRecord], object_name: Name) -> list[tuple[Name, msgspec.Raw]]:
    """Return name and content of each item: an item without a name has the name of its object."""
    return [(object_name if item.name is UNSET else item.name, item.content) for item in items]
