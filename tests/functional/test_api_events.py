"""GET /api/objects/{id}/events: the list of what happened, and the stream that ends with the object."""

from __future__ import annotations

import json

import msgspec
import pytest
from asgi_stream import AsgiStream, messages
from histories import made_fact
from plain_names import TASK_EVENTS

from api.objects.schemas import EventPage
from api.view import event_tail
from api.view.event_log import EventRecord, EventsUnavailable
from app.events import (
    CALLBACK_SEQUENCE,
    JOIN_SEQUENCE,
    SPLIT_SEQUENCE,
    TaskDead,
    TaskFinished,
    TaskStarted,
    encode,
    task_id_of,
)
from app.rules.ledger import apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.tally import Tally

AT_MS = 1_795_489_276_303


class Story:
    """An object of two tasks whose events the test writes one by one; the ledger row follows if it shall."""

    def __init__(self, api) -> None:
        self.api = api
        self.id = api.post(json={"name": "n", "content": "secret", "tasks": 2}).json()["id"]
        self.partition = api.view.partition_of(self.id)
        self.row = ObjectRow(kind="default", task_count=2, created_at_ms=AT_MS)
        self.path = f"/api/objects/{self.id}/events"

    def common(self, sequence: int) -> tuple:
        """Return the fields that all events of a task have."""
        return (self.id, task_id_of(self.id, sequence), self.partition, "default", sequence, 2, 1, AT_MS)

    def write(self, event, *, counted: bool = True, key: str | None = None) -> int:
        """Write an event, tell those who follow, and count it; returns its offset."""
        offset = self.api.topics.write(TASK_EVENTS, self.partition, (key or self.id).encode(), encode(event))
        self.api.events.hand_out(self.partition, offset)
        if counted:
            self.count(event)
        return offset

    def count(self, event) -> None:
        """Let the ledger hear of an event."""
        apply_task_event(self.row, event, Tally())
        self.api.topics.write_row(self.id, self.row, self.partition)

    def begin(self, **options) -> None:
        """Create and start both tasks."""
        for sequence in (0, 1):
            self.write(made_fact(f"c{sequence}", *self.common(sequence)), **options)
        for sequence in (0, 1):
            self.write(TaskStarted(f"s{sequence}", *self.common(sequence), "w", 3), **options)

    def finish(self, sequence: int, **options) -> int:
        """Finish a task."""
        result = msgspec.Raw(b'{"words": 3}')
        return self.write(TaskFinished(f"f{sequence}", *self.common(sequence), "w", 3, 5, result), **options)

    def list(self, query: str = "") -> EventPage:
        """GET the list."""
        answer = self.api.get(self.path + query)
        assert 200 == answer.status_code, answer.text
        return msgspec.convert(answer.json(), EventPage)

    def stream(self, **options) -> AsgiStream:
        """GET the stream."""
        return AsgiStream(self.api.app, self.path, **options)


@pytest.fixture
def story(api) -> Story:
    """Return an object that was just submitted."""
    return Story(api)


TYPES = ["OBJECT_CREATED", "TASKS_CREATED", "TASKS_CREATED", "TASK_STARTED", "TASK_STARTED"]


def test_list_has_all_events_so_far_in_order(story):
    """OBJECT_CREATED comes first, without its content; events of other objects are left out."""
    story.begin()
    story.write(TaskStarted("s9", *story.common(0), "w", 3), counted=False, key="another")
    story.finish(1)
    page = story.list()
    assert ([*TYPES, "TASK_FINISHED"], "PROCESSING", False, None) == (
        [event.type for event in page.events],
        page.state,
        page.ended,
        page.next_after,
    )
    first, *_, last = story.api.get(story.path).json()["events"]
    assert (f"objects:{story.partition}", "n") == (first["event_id"], first["name"])
    assert "content" not in first
    assert (f"task-events:{story.partition}:5", {"words": 3}, 5) == (last["event_id"], last["result"], last["spent_ms"])


def test_list_comes_page_by_page(story):
    """`next_after` goes on exactly behind the last event of a page."""
    story.begin()
    page = story.list("?limit=2")
    types = [event.type for event in page.events]
    while page.next_after is not None:
        page = story.list(page.links.next.removeprefix(story.path))
        types += [event.type for event in page.events]
    assert TYPES == types


def test_reading_ends_where_the_object_ended(story):
    """What comes on the topic behind an object's last event is not read for it."""
    story.begin()
    story.finish(0)
    story.finish(1)
    for _ in range(50):
        story.write(TaskStarted("s9", *story.common(0), "w", 3), counted=False, key="another")
    page = story.list()
    assert ("FINISHED", True, 7, 6) == (page.state, page.ended, len(page.events), story.api.events.read_count)


def test_list_has_the_events_of_split_join_and_callback_however_long_they_took(story):
    """They lie before and after those of the tasks, by more than any clock is wrong."""
    hour_ms = 3_600_000
    parts = [(SPLIT_SEQUENCE, 0), (0, 1), (1, 1), (JOIN_SEQUENCE, 2), (CALLBACK_SEQUENCE, 3)]
    for sequence, hours in parts:
        at_ms = AT_MS + hours * hour_ms
        common = (*story.common(sequence)[:-1], at_ms)
        for event in (
            made_fact(f"c{sequence}", *common, joins=sequence < 2 or msgspec.UNSET),
            TaskStarted(f"s{sequence}", *common, "w", 3),
            TaskFinished(f"f{sequence}", *common, "w", 3, 5),
        ):
            story.api.topics.write(TASK_EVENTS, story.partition, story.id.encode(), encode(event), timestamp_ms=at_ms)
            story.count(event)
    page = story.api.get(story.path).json()
    expected = [sequence for sequence, _ in parts for _ in range(3)]
    told = [one.get("sequence", one.get("first")) for one in page["events"][1:]]
    assert ("FINISHED", expected) == (page["state"], told)


def test_stream_tells_what_was_and_what_comes_and_ends_with_the_object(story):
    """Each event comes once with its id, type and JSON; `end` says how it ended, and the answer is complete."""
    story.begin()

    async def scenario() -> AsgiStream:
        async with story.stream() as stream:
            await stream.until(b"TASK_STARTED\n", 2)
            story.finish(0)
            await stream.until(b"TASK_FINISHED\n")
            story.finish(1)
            await stream.end()
            return stream

    stream = story.api.run(scenario())
    told = messages(stream.body)
    assert [*TYPES, "TASK_FINISHED", "TASK_FINISHED", "end"] == [one["event"] for one in told]
    ids = [f"objects:{story.partition}", *(f"task-events:{story.partition}:{number}" for number in range(6))]
    assert ids == [one["id"] for one in told[:-1]]
    assert {"object_id": story.id, "state": "FINISHED"} == json.loads(told[-1]["data"])
    assert {"words": 3} == json.loads(told[-2]["data"])["result"]
    assert (200, True) == (stream.status, stream.complete)
    assert ("text/event-stream; charset=utf-8", "no-store") == (
        stream.headers["content-type"],
        stream.headers["cache-control"],
    )
    assert "0" == stream.headers["ebs-view-lag-records"]
    assert [] == story.api.events.followers


def test_stream_ends_although_the_statistics_lag_behind(story):
    """The end is told by the events themselves, not by a ledger that comes later."""
    story.begin(counted=False)

    async def scenario() -> bytes:
        async with story.stream() as stream:
            await stream.until(b"TASK_STARTED\n", 2)
            story.finish(0, counted=False)
            story.finish(1, counted=False)
            return await stream.end()

    assert [*TYPES, "TASK_FINISHED", "TASK_FINISHED", "end"] == [
        one["event"] for one in messages(story.api.run(scenario()))
    ]


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("ended", [True, False])
def test_stream_continues_exactly_after_the_last_event_id(story, number, ended):
    """A client that was cut off after any event gets the others, each once, whether the object has ended or not."""
    story.begin()
    story.finish(0)
    if ended:
        story.finish(1)
    ids = [event.event_id for event in story.list().events]
    ids.append(f"task-events:{story.partition}:5")
    if number == 6 and not ended:
        return  # nobody has seen that event yet

    async def scenario() -> bytes:
        async with story.stream(headers={"Last-Event-ID": ids[number]}) as stream:
            if not ended:
                if ids[number] != ids[5]:
                    await stream.until(ids[5].encode())
                await story.api.events.until_followed()
                story.finish(1)
            return await stream.end()

    assert ids[number + 1 : 7] == [one["id"] for one in messages(story.api.run(scenario())) if "id" in one]


@pytest.mark.parametrize("unseen_count", [0, 1])
def test_resumed_stream_ends_although_the_ledger_was_behind_what_the_client_has(story, unseen_count):
    """Events that the client had before the ledger knew them are told to nobody again, and still the stream ends."""
    story.begin()
    story.finish(0, counted=False)
    last = story.finish(1, counted=False)
    story.api.limit_streams(look_s=0.01)
    behind = f"task-events:{story.partition}:{last - unseen_count}"

    async def scenario() -> bytes:
        async with story.stream(headers={"Last-Event-ID": behind}) as stream:
            await story.api.events.until_followed()
            story.count(TaskFinished("f0", *story.common(0), "w", 3, 5))
            story.count(TaskFinished("f1", *story.common(1), "w", 3, 5))
            return await stream.end()

    told = messages(story.api.run(scenario()))
    assert ["TASK_FINISHED"] * unseen_count + ["end"] == [one["event"] for one in told]


def test_failed_object_ends_its_stream(story):
    """FAILED is an end too."""
    story.begin()
    story.finish(0)
    story.write(TaskDead("d1", *story.common(1), "w", 3, 5, "ValueError: no"))

    async def scenario() -> bytes:
        async with story.stream() as stream:
            return await stream.end()

    told = messages(story.api.run(scenario()))
    assert {"object_id": story.id, "state": "FAILED"} == json.loads(told[-1]["data"])


def test_quiet_stream_has_heartbeats(story):
    """Proxies and clients see that the connection lives; the heartbeats are comments."""
    story.api.limit_streams(heartbeat_s=0.01, look_s=0.01)

    async def scenario() -> bytes:
        async with story.stream() as stream:
            return await stream.until(b": still here\n\n", 3)

    assert ["OBJECT_CREATED"] == [one["event"] for one in messages(story.api.run(scenario()))]


def test_client_that_goes_away_is_let_go(story):
    """Nobody follows for it any longer."""

    async def scenario() -> None:
        async with story.stream() as stream:
            await stream.until(b"OBJECT_CREATED")
            await story.api.events.until_followed()

    story.api.run(scenario())
    assert [] == story.api.events.followers


def test_slow_client_is_told_why_it_is_dropped(story):
    """What waits for a client is bounded; one that takes nothing loses the stream, with a reason."""

    async def scenario() -> bytes:
        async with story.stream() as stream:
            await stream.until(b"OBJECT_CREATED")
            await story.api.events.until_followed()
            (follower,) = story.api.events.followers
            for number in range(event_tail.MAX_WAITING_COUNT + 1):
                follower.put(EventRecord(number, b"{}"))
            return await stream.end()

    told = messages(story.api.run(scenario()))
    error = json.loads(told[-1]["data"])
    assert ("error", "too-slow") == (told[-1]["event"], error["reason"])
    assert "Last-Event-ID" in error["detail"]


def test_client_that_takes_nothing_for_too_long_is_broken_off(story):
    """Its answer stays incomplete, which is what tells it."""
    story.api.limit_streams(send_timeout_s=0.05)
    story.begin()

    async def scenario() -> AsgiStream:
        async with story.stream() as stream:
            await stream.until(b"TASK_STARTED\n", 2)
            stream.may_read.clear()
            story.finish(0)
            await stream.end()
            return stream

    stream = story.api.run(scenario())
    assert (False, 0) == (stream.complete, stream.body.count(b"TASK_FINISHED"))


def test_process_that_stops_ends_streams(story):
    """Open streams must not hold up the end of the process; the client may go on at another one."""

    async def scenario() -> bytes:
        async with story.stream() as stream:
            await stream.until(b"OBJECT_CREATED")
            await story.api.events.until_followed()
            story.api.app.state.collaborators.closing.ask()
            return await stream.end()

    assert "events-unavailable" in messages(story.api.run(scenario()))[-1]["data"]


def test_broker_that_hands_out_nothing_is_a_503_or_an_error_event(story):
    """A list is refused as a whole, a stream ends with the reason."""
    story.api.events.failure = "the Kafka broker does not hand out events"
    answer = story.api.get(story.path)
    assert (503, "urn:ebs:problem:events-unavailable") == (answer.status_code, answer.json()["type"])

    async def scenario() -> bytes:
        async with story.stream() as stream:
            return await stream.end()

    assert ["OBJECT_CREATED", "error"] == [one["event"] for one in messages(story.api.run(scenario()))]


def test_unknown_object_has_no_events(api):
    """It is a 404, as a list and as a stream."""
    assert 404 == api.get("/api/objects/unknown/events").status_code
    assert 404 == api.request("GET", "/objects/unknown/events", headers={"accept": "text/event-stream"}).status_code


@pytest.mark.parametrize("place", ["x", "task-events:9:1", "task-events:1", "objects:9", "task-events:0:x", "dead:0:1"])
def test_place_that_is_no_event_of_the_object_is_a_422(story, place):
    """Neither text nor the id of another object's event is taken for one."""
    answer = story.api.get(f"{story.path}?after={place}")
    assert (422, "after") == (answer.status_code, answer.json()["errors"][0]["parameter"])
    answer = story.api.request("GET", story.path, headers={"Last-Event-ID": place})
    assert (422, "Last-Event-ID") == (answer.status_code, answer.json()["errors"][0]["parameter"])


def test_follower_that_failed_says_so_for_good():
    """What is put into it afterwards does not make it work again."""
    follower = event_tail.Follower(b"a1", 0)
    follower.fail(EventsUnavailable("gone"))
    follower.put(EventRecord(1, b"{}"))
    with pytest.raises(EventsUnavailable, match="gone"):
        follower.check()
