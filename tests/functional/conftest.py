"""The API and the engine without Kafka: topics in memory that publish like a broker and feed the real view."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
import running_handlers
from engine_bench import Bench, Gate
from fastapi.routing import _IncludedRouter
from guarded_api import OLD, READ, WRITE
from loaded_handlers import by_name
from memory_events import MemoryEvents
from plain_names import DEAD_LETTERS, LEDGER_CHANGELOG, OBJECTS, RESULTS_CHANGELOG, WINDOWS_CHANGELOG
from typer.testing import CliRunner, Result

from api.main import create_http_app
from api.server.event_stream import StreamLimits
from api.view.rows import read_topics
from api.view.store import Layout, Slot
from api.view.view import Progress, View
from app.events import encode
from app.rules.counts import encode_counts, encode_window_key
from app.rules.ledger_rows import encode_row
from app.rules.placement import partition_of
from app.settings.settings import Settings
from app.topics.queues import queues_of
from ebs.cli import cli

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
    from pathlib import Path

    from fastapi import FastAPI

    from api.submit.publisher import Record
    from app.events import ObjectCreated
    from app.rules.counts import Counts, WindowKey
    from app.rules.ledger_rows import ObjectRow
    from app.rules.outgoing import Outgoing
    from app.rules.results import Results

NOW_MS = 1_795_489_276_303
PARTITIONS = 4


class StoredRecord(NamedTuple):
    """What a consumer would hand out."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = NOW_MS
    headers: tuple[tuple[str, bytes], ...] = ()


class MemoryTopics:
    """Topics in memory: publisher and letter writer to the routes, and what the view reads.

    `failure` is raised instead of writing. What the letter writer commits is in `commits`. Each commit fails with the
    next of `commit_failures`, which is raised before it is written, or after it: `commit_then_fail`.
    """

    def __init__(self, view: View) -> None:
        self.view = view
        self.records: dict[tuple[str, int], list[StoredRecord]] = defaultdict(list)
        self.failure: Exception | None = None
        self.fail_after_calls = 0
        self.deliver_at_once = True
        self.commits: list[list[Outgoing]] = []
        self.commit_failures: list[Exception | None] = []
        self.commit_then_fail = False
        self.taken_count = 0
        self._delivered: dict[tuple[str, int], int] = defaultdict(int)

    async def publish(self, record: Record) -> int:
        """Write one record to `objects`."""
        partition, key, value = record
        await self._maybe_fail()
        return self.write(OBJECTS, partition, key, value)

    async def publish_many(self, records: Iterable[Record]) -> dict[int, int]:
        """Write records to `objects`."""
        await self._maybe_fail()
        return {partition: self.write(OBJECTS, partition, key, value) + 1 for partition, key, value in records}

    async def publish_to(self, records: Iterable[Outgoing]) -> dict[tuple[str, int], int]:
        """Write records to any topics."""
        await self._maybe_fail()
        wave = list(records)
        await asyncio.sleep(0)
        return {
            (record.topic, record.partition): self.write(*record[:4], headers=tuple(record.headers or ())) + 1
            for record in wave
        }

    async def take_over(self) -> None:
        """Be the only writer: let the view read all acts."""
        self.taken_count += 1
        await self._maybe_fail()
        await self.view.catch_up(DEAD_LETTERS)

    async def commit(self, records: Iterable[Outgoing]) -> dict[int, int]:
        """Write records together."""
        together = list(records)
        failure = self.commit_failures.pop(0) if self.commit_failures else None
        if failure is None or self.commit_then_fail:
            self.commits.append(together)
            ends = await self.publish_to(together)
        if failure is not None:
            raise failure
        return {partition: end for (topic, partition), end in ends.items() if topic == DEAD_LETTERS}

    def trouble(self) -> str | None:
        """Say what the failure is, if there is one."""
        return None if self.failure is None else str(self.failure)

    def write(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        *,
        headers: tuple[tuple[str, bytes], ...] = (),
        timestamp_ms: int = NOW_MS,
    ) -> int:
        """Append a record as any process might; returns its offset."""
        log = self.records[topic, partition]
        log.append(StoredRecord(len(log), key, value, timestamp_ms, headers))
        if self.deliver_at_once:
            self.deliver()
        return len(log) - 1

    def write_object(self, event: ObjectCreated) -> None:
        """Write an object where its id belongs, as the API does."""
        key = event.object_id.encode()
        self.write(OBJECTS, partition_of(key, PARTITIONS), key, encode(event))

    def write_row(
        self, object_id: str, row: ObjectRow | None, partition: int = 0, results: Results | None = None
    ) -> None:
        """Write a ledger row, or its tombstone, and the rows of its tasks' results, as the statistics agent does."""
        for key, packed in results.changed() if results is not None else ():
            self.write(RESULTS_CHANGELOG, partition, key, packed)
        self.write(LEDGER_CHANGELOG, partition, object_id.encode(), None if row is None else encode_row(row))

    def write_window(self, key: WindowKey, counts: Counts | None, partition: int = 0) -> None:
        """Write a window's counts in one partition, or their tombstone, as the statistics agent does."""
        value = None if counts is None else encode_counts(counts)
        self.write(WINDOWS_CHANGELOG, partition, encode_window_key(key), value)

    def deliver(self) -> None:
        """Let the view read what is new."""
        new = {place: log[self._delivered[place] :] for place, log in self.records.items()}
        read = read_topics(self.view.names, self.view.queues)
        new = {place: records for place, records in new.items() if records and place[0] in read}
        if new:
            self.view.apply(new)
        for place, records in new.items():
            self._delivered[place] += len(records)
        self.view.note_progress(Progress(0, NOW_MS, NOW_MS), self.view.offsets())

    async def ends(self, wanted: str = OBJECTS) -> dict[int, int]:
        """Say where a topic ends, as a broker does."""
        if self.failure is not None:
            await asyncio.sleep(3_600)
        return {partition: len(log) for (topic, partition), log in self.records.items() if topic == wanted}

    async def close(self) -> None:
        """Nothing is held."""

    async def _maybe_fail(self) -> None:
        if self.failure is not None:
            if self.fail_after_calls == 0:
                raise self.failure
            self.fail_after_calls -= 1


_routes: dict[tuple[int, str], _IncludedRouter] = {}


def _share_routes(app: FastAPI) -> None:
    """Let all applications have the routes of the first: FastAPI builds them anew for each, half of a test's CPU time.

    They know nothing of their application but the dependencies that a test overrides, and none does.
    """
    for index, route in enumerate(app.router.routes):
        if isinstance(route, _IncludedRouter):
            place = (id(route.original_router), route.include_context.prefix)
            app.router.routes[index] = _routes.setdefault(place, route)


class Api:
    """An application with its topics, and a client of it; requests run on one event loop."""

    def __init__(self, settings: Settings, *, attached: bool) -> None:
        self._runner = asyncio.Runner()
        queues = queues_of(settings)
        self.view = View(settings.view_wait_s, names=settings.names, queues=queues)
        self.topics = MemoryTopics(self.view)
        self.events = MemoryEvents(self.topics.records)
        self.verdict: str | None = None
        self.app = create_http_app(
            settings,
            publisher=self.topics,
            letter_writer=self.topics,
            view=self.view,
            events=self.events,
            why_not_live=lambda: self.verdict,
            clock_ms=lambda: NOW_MS,
        )
        _share_routes(self.app)
        self._slot = Slot(settings.data_dir)
        if attached:
            # How many `objects` has is left out: tests put objects where they like (see test_view.py for the rule).
            read = read_topics(settings.names, queues)
            topics = {name: (name, settings.partitions) for name in read if name != OBJECTS}
            self.view.attach(self._slot.open(Layout("memory", topics)), self.topics.ends)
        # An unexpected error must become an answer, as it does behind a server.
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://api")

    def limit_streams(self, **limits: float) -> None:
        """Let streams say sooner that they live, or break off sooner."""
        parts = self.app.state.collaborators
        self.app.state.collaborators = parts._replace(streams=StreamLimits(**limits))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run something on the application's event loop."""
        return self._runner.run(coroutine)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and wait for the answer."""
        return self.run(self.client.request(method, path, **options))

    def get(self, path: str) -> httpx.Response:
        """GET a path."""
        return self.request("GET", path)

    def post(self, path: str = "/api/objects", **options: Any) -> httpx.Response:
        """POST to a path."""
        return self.request("POST", path, **options)

    def close(self) -> None:
        """Close everything, so that a warning of something left open fails the test."""
        self.run(self.client.aclose())
        self.view.detach()
        self._slot.close()
        self._runner.close()


@pytest.fixture
def make_api(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Return a factory of APIs; keywords are settings, `attached=False` leaves the view without a store."""
    made: list[Api] = []

    def make(*, attached: bool = True, **changes: Any) -> Api:
        defaults = {"data_dir": tmp_path / "data", "view_wait_s": 0.2, "partitions": PARTITIONS}
        made.append(Api(Settings(**(defaults | changes)), attached=attached))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def api(make_api: Callable[..., Api]) -> Api:
    """Return an API with the default settings, whose view reads at once."""
    return make_api()


@pytest.fixture
def ebs(api: Api) -> Callable[..., Result]:
    """Return the command as a function of its arguments; it asks the application."""

    def answer(request: httpx.Request) -> httpx.Response:
        passed = {"content-type", "idempotency-key"}
        headers = {name: value for name, value in request.headers.items() if name in passed}
        told = api.request(request.method, str(request.url), content=request.content, headers=headers)
        passed = {"content-type", "retry-after"}
        headers = {name: value for name, value in told.headers.items() if name in passed}
        return httpx.Response(told.status_code, content=told.content, headers=headers)

    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(cli, arguments, obj=httpx.MockTransport(answer), input=stdin)

    return run


@pytest.fixture
async def bench() -> AsyncIterator[Callable[..., Any]]:
    """Return a function that starts an engine with a handler; all are stopped at the end."""
    benches: list[Bench] = []

    async def start(handler: Any, **options: int) -> Bench:
        one = Bench(handler, **options)
        benches.append(one)
        await one.start()
        return one

    yield start
    for one in benches:
        await one.stop()


@pytest.fixture
def gate() -> Gate:
    """Return a handler whose tasks end when the test says."""
    return Gate()


@pytest.fixture
async def make_bench() -> AsyncIterator[Callable[..., running_handlers.Bench]]:
    """Return a factory of benches for handlers; their executors are closed at the end."""
    made: list[running_handlers.Bench] = []

    def make(*handlers: Any, **options: Any) -> running_handlers.Bench:
        made.append(running_handlers.Bench(*(handlers or (by_name("plain"),)), **options))
        return made[-1]

    yield make
    for bench in made:
        await bench.executor.close()


@pytest.fixture
def guarded(make_api):
    """Return an API with a key that reads, and two that write."""
    return make_api(api_keys_read=READ, api_keys_write=f"{WRITE},{OLD}")
