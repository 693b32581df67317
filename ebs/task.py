"""The task, as a function sees it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Generic

import msgspec

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Content = TypeVar("Content", default=Any)
else:
    from typing import TypeVar

    Content = TypeVar("Content")

__all__ = ["Task"]

KIND = re.compile(r"[A-Za-z0-9._-]{1,64}")
KIND_IN_WORDS = "1 to 64 characters out of A-Z a-z 0-9 . _ -"
MAX_KEY_CHARS = 200

CALLBACK_KIND = "ebs.callback"
"""Kind of all callbacks, whatever the kind of their object: they are paused, limited and counted by themselves."""


def why_no_key(key: Any) -> str | None:
    """Return why something is no key of an object or task, None if it is one."""
    if key is None or (isinstance(key, str) and 0 < len(key) <= MAX_KEY_CHARS and _is_text(key)):
        return None
    return f"key={key!r} is not a text of 1 to {MAX_KEY_CHARS} characters, such as a customer's number"


def _is_text(value: str) -> bool:
    """Return whether a text can be sent: half of a character cannot."""
    return value.isascii() or value == value.encode("utf-8", "ignore").decode()


class Task(msgspec.Struct, Generic[Content], frozen=True, gc=False):
    """What there is to do: `content`, which was decoded to the T of the function's `Task[T]`, and whose task it is.

    `name` and content are those of the task's item; of its object, if that has no items. `task_id` is the same in every
    run. `sequence` counts the `task_count` tasks of an object from 0, `attempt` counts from 1. `at_ms` is when the task
    was made (UTC epoch milliseconds). `redrive` says how often the task was redriven, if it was. `depth` says
    how many objects stand above this one, if a task of another object submitted it (`Context.submit`). `key` is whose
    work it is, if the object or the item has one.
    """

    id: str
    object_id: str
    task_id: str
    object_partition: int
    kind: str
    sequence: int
    task_count: int
    attempt: int
    at_ms: int
    name: str | msgspec.UnsetType = msgspec.UNSET
    content: Content = None  # type: ignore[assignment]  # of a request without content
    redrive: int | msgspec.UnsetType = msgspec.UNSET
    depth: int | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET
