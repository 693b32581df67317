"""The events of one object: past events from its partition of `task-events`, new events from a shared tail.

The view does not keep events: all events of all objects would cost four times the work, and people look at few of them.
The events of an object are in one partition, between the creation of its first task and its end; the ledger row has
both instants.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from app.errors import EbsError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from contextlib import AbstractAsyncContextManager


class EventsUnavailable(EbsError):
    """The broker does not hand out events now."""


class TooSlow(EbsError):
    """A reader did not take its events in time, and more than its share of them waits."""


class EventRecord(NamedTuple):
    """A record of `task-events`."""

    offset: int
    value: bytes


class Begin(NamedTuple):
    """Where reading begins: at an offset, or at the first record of an instant (epoch ms) or later."""

    offset: int | None = None
    at_ms: int | None = None


class Tail(Protocol):
    """An object's events from `begin` (an offset) on, as they come."""

    begin: int

    async def get(self, timeout_s: float) -> list[EventRecord]:
        """Return what came; nothing at the time limit. Raises `TooSlow`, `EventsUnavailable`."""


class EventLog(Protocol):
    """The reads that the routes need from the topic; tests pass an implementation of their own."""

    def follow(self, object_id: str, partition: int) -> AbstractAsyncContextManager[Tail]:
        """Follow an object. Raises `EventsUnavailable`."""

    def read(
        self, object_id: str, partition: int, begin: Begin, end: int | None = None, until_ms: int | None = None
    ) -> AsyncGenerator[list[EventRecord], None]:
        """Yield an object's events up to an offset (exclusive; None: what is committed now) or an instant.

        Yields an empty list if a stretch of the topic had no event of the object. Raises `EventsUnavailable`.
        """

    def read_requests(
        self, task_id: str, topic: str, partition: int, begin: Begin, until_ms: int
    ) -> AsyncGenerator[list[EventRecord], None]:
        """Yield a task's requests of the topic of a queue up to an instant, in the same way."""

    def close(self) -> None:
        """End all streams, because the process stops."""
