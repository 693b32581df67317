"""`Client` and `AsyncClient`: the same operations, once with blocking calls and once in an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from ebs.client import batches, operations
from ebs.client.bodies import NewObject
from ebs.client.drivers import BlockingDriver, LoopDriver
from ebs.client.following import Following
from ebs.client.http import TIMEOUT_S
from ebs.client.settings import client_settings
from ebs.client.steps import CallPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from datetime import datetime

    import httpx

    from ebs.client.answers import Cancelled, ObjectEvent, ObjectStatus, Redrive, Submitted, TaskStatus

__all__ = ["AsyncClient", "Client"]

RETRIES = 5


class Client:
    """A client of the API with blocking calls. Threads can share one.

        with Client() as client:
            order = client.submit("order", {"customer": "c-17"})
            print(client.results(order.id, timeout_s=60))

    `url` and `api_key` default to EBS_API_URL and EBS_API_KEY (or EBS_API_KEY_FILE), as for the `ebs` commands.
    `timeout_s` is the limit for one request. If a request gets no answer, or 408, 429, 500, 502, 503 or 504, it is
    repeated up to `retries` times: after 0.25 s, 0.5 s and so on up to 8 s, with jitter, and not before `Retry-After`.
    This is safe, because the client chooses the ids of the objects that it submits.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._driver = BlockingDriver(client_settings(url, api_key), timeout_s, transport)
        self._policy = CallPolicy(retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._driver.http.close()

    def submit(
        self,
        kind: str,
        content: Any = None,
        *,
        tasks: int | Sequence[Any] | None = None,
        name: str | None = None,
        object_id: str | None = None,
        idempotency_key: str | None = None,
        callback_url: str | None = None,
        delay_s: float | None = None,
        due_at: datetime | None = None,
        key: str | None = None,
    ) -> Submitted:
        """Submit an object; returns when Kafka has stored it.

        `tasks` is a number of tasks, or a list with the content of each task (`Item(content, name)` names one). The
        object's id is `object_id` (32 hexadecimal digits), follows from `idempotency_key`, or is random. If you submit
        again with the same id or key and the same fields, you get the same object. Each end of the object is sent to
        `callback_url`, whose host must be in EBS_WEBHOOK_HOSTS. Its tasks start after `delay_s` seconds, or at
        `due_at`, a datetime with a time zone. `key` is whose work it is, such as a customer: `per_key` counts by it.
        """
        wanted = NewObject(kind, content, tasks, name, object_id, idempotency_key, callback_url, delay_s, due_at, key)
        return self._driver.run(operations.submit(self._policy, wanted))

    def submit_many(self, objects: Iterable[NewObject]) -> list[Submitted]:
        """Submit objects, 1,000 in a request; returns their ids in the same order.

        Raises `SubmitFailed` if some objects were not accepted; it has the ids of the accepted ones.
        """
        return self._driver.run(batches.submit_many(self._policy, objects))

    def get(self, object_id: str) -> ObjectStatus:
        """Return an object and its progress."""
        return self._driver.run(operations.get(self._policy, object_id))

    def wait(self, object_id: str, *, timeout_s: float | None = None) -> ObjectStatus:
        """Return the object as soon as it has ended: FINISHED, FAILED or CANCELLED. Raises `WaitTimedOut`."""
        return self._driver.run(operations.wait(self._policy, object_id, timeout_s))

    def tasks(self, object_id: str) -> list[TaskStatus]:
        """Return the tasks of an object in their order, with state, result and error."""
        return self._driver.run(operations.tasks(self._policy, object_id))

    def results(self, object_id: str, *, timeout_s: float | None = None) -> list[Any]:
        """Wait for the object and return what its tasks returned, in the order of the tasks.

        Raises `ObjectFailed` with the errors of the dead tasks, `ObjectCancelled`, `WaitTimedOut`.
        """
        return self._driver.run(operations.results(self._policy, object_id, timeout_s))

    def events(self, object_id: str, *, after: str | None = None) -> Iterator[ObjectEvent]:
        """Iterate over the object's events as they come, until it has ended.

        After a lost connection it continues after the last event. With `after`, an `event_id`, it starts after it.
        """
        return self._driver.stream(Following(self._policy, object_id, after).steps())

    def cancel(self, object_id: str, *, reason: str = "") -> Cancelled:
        """Cancel an object. Raises `Conflict` if it has ended."""
        return self._driver.run(operations.cancel(self._policy, object_id, reason))

    def redrive(self, object_id: str) -> Redrive:
        """Give the dead tasks of an object a new first attempt; then `wait` waits for its new end.

        Raises `Conflict` while another redrive by filter runs.
        """
        return self._driver.run(operations.redrive(self._policy, object_id))


class AsyncClient:
    """A client of the API for an event loop, with the methods and arguments of `Client`.

        async with AsyncClient() as client:
            order = await client.submit("order", {"customer": "c-17"})
            async for event in client.events(order.id):
                print(event.type)

    Await all methods, except for `events`: it returns an asynchronous iterator.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._driver = LoopDriver(client_settings(url, api_key), timeout_s, transport)
        self._policy = CallPolicy(retries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._driver.http.aclose()

    async def submit(
        self,
        kind: str,
        content: Any = None,
        *,
        tasks: int | Sequence[Any] | None = None,
        name: str | None = None,
        object_id: str | None = None,
        idempotency_key: str | None = None,
        callback_url: str | None = None,
        delay_s: float | None = None,
        due_at: datetime | None = None,
        key: str | None = None,
    ) -> Submitted:
        """Submit an object, see `Client.submit`."""
        wanted = NewObject(kind, content, tasks, name, object_id, idempotency_key, callback_url, delay_s, due_at, key)
        return await self._driver.run(operations.submit(self._policy, wanted))

    async def submit_many(self, objects: Iterable[NewObject]) -> list[Submitted]:
        """Submit objects, see `Client.submit_many`."""
        return await self._driver.run(batches.submit_many(self._policy, objects))

    async def get(self, object_id: str) -> ObjectStatus:
        """Return an object, see `Client.get`."""
        return await self._driver.run(operations.get(self._policy, object_id))

    async def wait(self, object_id: str, *, timeout_s: float | None = None) -> ObjectStatus:
        """Wait for the end of an object, see `Client.wait`."""
        return await self._driver.run(operations.wait(self._policy, object_id, timeout_s))

    async def tasks(self, object_id: str) -> list[TaskStatus]:
        """Return the tasks of an object, see `Client.tasks`."""
        return await self._driver.run(operations.tasks(self._policy, object_id))

    async def results(self, object_id: str, *, timeout_s: float | None = None) -> list[Any]:
        """Wait for the object and return its results, see `Client.results`."""
        return await self._driver.run(operations.results(self._policy, object_id, timeout_s))

    def events(self, object_id: str, *, after: str | None = None) -> AsyncIterator[ObjectEvent]:
        """Iterate over the object's events, see `Client.events`."""
        return self._driver.stream(Following(self._policy, object_id, after).steps())

    async def cancel(self, object_id: str, *, reason: str = "") -> Cancelled:
        """Cancel an object, see `Client.cancel`."""
        return await self._driver.run(operations.cancel(self._policy, object_id, reason))

    async def redrive(self, object_id: str) -> Redrive:
        """Redrive the dead tasks of an object, see `Client.redrive`."""
        return await self._driver.run(operations.redrive(self._policy, object_id))
