"""When the tasks of an object start at the earliest: after a delay, or at an instant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec import UNSET, UnsetType

from ebs.delays import why_no_start

if TYPE_CHECKING:
    from datetime import datetime

    from app.events import ObjectCreated


class Delayable(Protocol):
    """An object or an item: it may ask for `delay_s` or for `due_at`."""

    @property
    def delay_s(self) -> float | UnsetType:
        """How long it waits after its object was submitted, or its split has finished."""

    @property
    def due_at(self) -> datetime | UnsetType:
        """When it starts at the earliest."""


def due_at_ms_of(one: Delayable, at_ms: int) -> int | UnsetType:
    """Return when one is due (epoch ms), UNSET: at once; `at_ms` is when a delay begins."""
    if one.due_at is not UNSET:
        return max(0, round(one.due_at.timestamp() * 1_000))
    return UNSET if one.delay_s is UNSET else at_ms + round(one.delay_s * 1_000)


def why_not_due(one: Delayable, at_ms: int) -> str | None:
    """Return why one cannot start when it asks to, None if it can."""
    if one.delay_s is UNSET and one.due_at is UNSET:
        return None  # nearly always: an object may have 10,000 items
    delay_s = None if one.delay_s is UNSET else one.delay_s
    return why_no_start(delay_s, one.due_at or None, at_ms / 1_000)


def why_object_not_due(event: ObjectCreated, at_ms: int) -> str | None:
    """Return why an object or one of its items cannot start when it asks to, None if all can."""
    wrong = why_not_due(event, at_ms)
    if wrong is not None:
        return f"cannot start: {wrong}"
    for number, item in enumerate(() if event.items is UNSET else event.items):
        wrong = why_not_due(item, at_ms)
        if wrong is not None:
            return f"has an item (number {number}) that cannot start: {wrong}"
    return None
