"""GET /api/statistics/stream: the figures once a second, computed once for all."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest
from asgi_stream import AsgiStream, messages

from api.view.statistics_updates import StatisticsUpdates
from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey

TOTAL = WindowKey(TOTAL_SIZE_MS, 0, "mail")


@pytest.fixture(autouse=True)
def _every_moment(api):
    parts = api.app.state.collaborators
    updates = StatisticsUpdates(api.view, parts.submitter.clock_ms, every_s=0.01)
    parts.closing.call(updates.shared.close)
    api.app.state.collaborators = parts._replace(updates=updates)


def figures(body: bytes) -> list[dict]:
    """Return what a stream told."""
    return [json.loads(one["data"]) for one in messages(body)]


def test_stream_begins_at_once_and_continues(api):
    """Totals, objects by state, rates and how far behind the view is; the kinds only when asked for."""
    api.topics.write_window(TOTAL, Counts(objects_created=2, tasks_created=6, queued_now=6))
    api.post(json={"kind": "mail"})

    async def scenario() -> bytes:
        async with AsgiStream(api.app, "/api/statistics/stream") as stream:
            await stream.until(b"event: statistics")
            api.topics.write_window(TOTAL, Counts(objects_created=5, tasks_created=15, queued_now=15))
            return await stream.until(b'"objects_created":5')

    told = figures(api.run(scenario()))
    assert (2, 5, {"CREATED": 1}, 0) == (
        told[0]["objects_created"],
        told[-1]["objects_created"],
        told[0]["objects_by_state"],
        told[0]["view"]["lag_records"],
    )
    assert (None, False) == (told[0]["rates_per_s"], "kinds" in told[0])


def test_kinds_on_demand(api):
    """`kinds=true` adds the figures of each kind."""
    api.topics.write_window(TOTAL, Counts(objects_created=2))
    api.topics.write_window(TOTAL._replace(kind="image"), Counts(objects_created=3))

    async def scenario() -> bytes:
        async with AsgiStream(api.app, "/api/statistics/stream?kinds=true") as stream:
            return await stream.until(b"event: statistics")

    (told, *_) = figures(api.run(scenario()))
    assert (5, {"image": 3, "mail": 2}) == (
        told["objects_created"],
        {kind: one["objects_created"] for kind, one in told["kinds"].items()},
    )


def test_all_streams_share_one_computation_and_no_stream_costs_nothing(api):
    """A hundred clients ask the view as often as one; the last one that leaves ends it."""
    updates = api.app.state.collaborators.updates
    asked = []
    ask = api.view.statistics.totals
    api.view.statistics.totals = lambda: asked.append(1) or ask()

    async def scenario() -> None:
        streams = [AsgiStream(api.app, "/api/statistics/stream") for _ in range(100)]
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(watch(stream))

    async def watch(stream: AsgiStream) -> None:
        async with stream:
            await stream.until(b"event: statistics", 3)

    api.run(scenario())
    assert len(asked) < 100
    assert not updates.shared.is_followed


def test_rates_are_not_taken_over_a_time_without_watchers(api):
    """The first figures after it have no rates, as the very first ones."""
    now_ms = 0
    updates = StatisticsUpdates(api.view, lambda: now_ms, every_s=0)

    async def rates() -> list[dict | None]:
        nonlocal now_ms
        told = []
        async with aclosing(updates.shared.follow()) as beats:
            async for beat in beats:
                told.append(json.loads(beat.short)["rates_per_s"])
                if len(told) > 1 and told[-1] is not None:
                    return told
                now_ms += 1_000
        return told

    api.topics.deliver()
    first = api.run(rates())
    now_ms += 60_000
    again = api.run(rates())
    assert (None, None) == (first[0], again[0])
    assert again[-1]["over_s"] < 5


def test_slow_client_gets_the_latest_only(api):
    """Nothing piles up for a client that does not read."""

    async def scenario() -> bytes:
        slow = AsgiStream(api.app, "/api/statistics/stream", reading=False)
        async with slow, AsgiStream(api.app, "/api/statistics/stream") as quick:
            await quick.until(b"event: statistics", 20)
            slow.may_read.set()
            api.topics.write_window(TOTAL, Counts(objects_created=7))
            return await slow.until(b'"objects_created":7')

    assert len(figures(api.run(scenario()))) < 10


def test_view_that_is_away_is_reported_and_the_stream_continues(api):
    """Without a broker there are no figures; they come again by themselves."""
    store = api.view._store

    async def scenario() -> bytes:
        async with AsgiStream(api.app, "/api/statistics/stream") as stream:
            await stream.until(b"event: statistics")
            api.view._store = None
            await stream.until(b"event: unavailable")
            api.view._store = store
            return await stream.until(b"event: statistics", 3)

    assert "waits for the Kafka broker" in str(figures(api.run(scenario())))


def test_process_that_stops_ends_streams(api):
    """Open streams must not hold up the end of the process."""

    async def scenario() -> AsgiStream:
        async with AsgiStream(api.app, "/api/statistics/stream") as stream:
            await stream.until(b"event: statistics")
            api.app.state.collaborators.closing.ask()
            await stream.end()
            return stream

    assert api.run(scenario()).complete


def test_wrong_query_is_a_422(api):
    """The parameter is named."""
    answer = api.get("/api/statistics/stream?kinds=some")
    assert (422, "kinds") == (answer.status_code, answer.json()["errors"][0]["parameter"])
