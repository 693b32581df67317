"""`events` of the two clients: every event once and in order, whatever happens to the connections; and `redrive`."""

from __future__ import annotations

import asyncio
import itertools

import httpx
import pytest
from grave import Grave
from histories import made_fact
from plain_names import TASK_EVENTS, TASK_REQUESTS
from python_clients import Asked, end

from api.server.event_stream import message
from app.events import TaskFinished, TaskStarted, decode_task_request, encode, task_id_of
from app.rules.ledger import apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.tally import Tally
from ebs import ApiError, ApiUnreachable, Conflict, Invalid, NotFound
from ebs.client.drivers import _Lines
from ebs.client.following import MessageReader

NOW_MS = 1_795_489_276_303
TYPES = ["OBJECT_CREATED", "TASKS_CREATED", "TASK_STARTED", "TASK_FINISHED"]
REFUSED = httpx.ConnectError("connection refused")


@pytest.fixture(params=["blocking", "loop"])
def client(request, api):
    """Return each of the two clients in turn."""
    one = Asked(api, blocking=request.param == "blocking")
    yield one
    one.close_it()


@pytest.fixture
def object_id(api, client) -> str:
    """Return an object of one task that has ended."""
    found: str = client.submit("mail", "c", tasks=1, name="line\u2028separator\x85").id
    partition = api.view.partition_of(found)
    row = ObjectRow(kind="mail", task_count=1, created_at_ms=NOW_MS)
    common = (found, task_id_of(found, 0), partition, "mail", 0, 1, 1, NOW_MS)
    for event in (made_fact("c0", *common), TaskStarted("s0", *common, "w", 3), TaskFinished("f0", *common, "w", 3, 5)):
        api.topics.write(TASK_EVENTS, partition, found.encode(), encode(event))
        apply_task_event(row, event, Tally())
    api.topics.write_row(found, row, partition)
    client.asked.clear()
    return found


def test_events_come_in_order_until_the_end(client, object_id):
    """With type, place and all fields; what Unicode takes for line ends is none here."""
    told = client.events(object_id)
    assert TYPES == [event.type for event in told]
    assert ("line\u2028separator\x85", None, NOW_MS) == (told[0].data["name"], told[0].task_id, told[0].at_ms)
    assert (f"{object_id}-0", 5) == (told[-1].task_id, told[-1].data["spent_ms"])
    assert told[2:] == client.events(object_id, after=told[1].event_id)
    assert 2 == len(client.asked)


@pytest.mark.parametrize("ending", ["reset", "end of the answer"])
def test_lost_connections_lose_and_repeat_nothing(client, object_id, ending):
    """Cut off at each byte of the stream, again and again: what comes is the same as without any cut."""
    whole = client.events(object_id)
    size_bytes = sum(map(len, client.streams[-1]._pieces))
    if ending != "reset":
        client.cut_by = None  # a proxy that closes in good order, or an API that stops
    for size in range(0, size_bytes, 37):
        client.pauses.clear()
        # Each connection brings one more event at least, but the first one.
        sizes = itertools.chain([size], itertools.repeat(None))
        client.cut = lambda _content, sizes=sizes: next(sizes)
        assert whole == client.events(object_id), size
        assert 1 == len(client.pauses)


def test_connections_that_bring_something_are_no_failures(client, object_id):
    """Each one breaks off behind its first event. Only failures in a row count against the retries."""
    whole = client.events(object_id)
    client.client._policy = client.client._policy._replace(retries=1)
    client.cut = lambda content: content.index(b"\n\n", content.index(b"id: ")) + 2 if b"id: " in content else None
    assert whole == client.events(object_id)
    assert len(whole) == len(client.pauses)


def test_event_stream_that_ends_early_by_word_is_resumed(client, object_id):
    """The API says that it cannot go on, such as when it stops: the next connection goes on."""
    client.api.events.failure = "this API process stops"
    client.on_request = lambda _request: setattr(client.api.events, "failure", None) if len(client.asked) > 1 else None
    assert TYPES == [event.type for event in client.events(object_id)]
    assert [None, "objects"] == [
        request.headers.get("last-event-id", "").partition(":")[0] or None for request in client.asked
    ]


def test_events_give_up_after_a_series_of_failures(client, object_id):
    """With the pauses of any other request."""
    client.faults += [REFUSED] * 6
    with pytest.raises(ApiUnreachable):
        client.events(object_id)
    assert 5 == len(client.pauses)
    client.faults += [httpx.Response(503, json={"detail": "behind"}, headers={"retry-after": "3"}), REFUSED]
    assert TYPES == [event.type for event in client.events(object_id)]
    assert client.pauses[5] >= 3


def test_refusals_of_events_are_raised(client, object_id):
    """No such object; a place of another one; an answer that is no stream."""
    with pytest.raises(NotFound):
        client.events("nobody")
    with pytest.raises(Invalid, match="Last-Event-ID"):
        client.events(object_id, after="nonsense")
    client.faults.append(httpx.Response(200, text="<html>"))
    with pytest.raises(ApiError, match="without a stream of events"):
        client.events(object_id)
    junk = {"content-type": "text/event-stream"}
    client.faults.append(httpx.Response(200, text="id: t:1\nevent: A\ndata: [1]\n\n", headers=junk))
    with pytest.raises(ApiError, match="an event A that is not a JSON object"):
        client.events(object_id)


def test_iteration_that_is_left_closes_the_connection(client, object_id):
    """So a program that looks for one event holds nothing."""
    if hasattr(client.client, "close"):
        events = client.client.events(object_id)
        next(events)
        events.close()
    else:

        async def look() -> None:
            events = client.client.events(object_id)
            await anext(events)
            await events.aclose()

        client.api.run(look())
    assert client.streams[-1].closed


def test_cancelled_iteration_closes_the_connection(api):
    """An event loop may end a task while it waits."""
    asked = Asked(api, blocking=False)
    object_id = asked.submit("mail").id
    waiting = asyncio.Event()

    class Silent(httpx.AsyncByteStream):
        closed = False

        async def __aiter__(self):
            yield b"retry: 2000\n\n"
            waiting.set()
            await asyncio.Event().wait()

        async def aclose(self):
            self.closed = True

    stream = Silent()
    asked.client._driver.http._transport = httpx.MockTransport(
        lambda _request: httpx.Response(200, stream=stream, headers={"content-type": "text/event-stream"})
    )

    async def scenario() -> None:
        task = asyncio.ensure_future(anext(asked.client.events(object_id)))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    api.run(scenario())
    assert stream.closed
    asked.close_it()


def test_messages_of_the_server_are_read_as_it_writes_them():
    """Comments, JSON over several lines, CRLF, pieces of any size; what is not complete is not told."""
    written = b": still here\n\n" + message("A", b'{\n"a": 1}', "t:1") + message("B", {"b": 2}) + b"id: t:3\ndata: {}"
    for size in range(1, len(written)):
        for data in (written, written.replace(b"\n", b"\r\n")):
            lines, reader = _Lines(), MessageReader()
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            told = [reader.take(line) for piece in pieces for line in lines.take(piece)]
            assert [("A", '{\n"a": 1}', "t:1"), ("B", '{"b":2}', "")] == [one for one in told if one]


def test_redrive_gives_the_dead_tasks_of_one_object_another_attempt(api, client):
    """Those of others stay dead. When it returns, the API knows that the object goes on."""
    mine, other = (client.submit("mail", tasks=2).id for _ in range(2))
    grave = Grave(api.topics)
    for one in (mine, other):
        end(api, one, ValueError("no user"), ValueError("no user"))
        for sequence in (0, 1):
            grave.bury_task(object_id=one, task_id=task_id_of(one, sequence), sequence=sequence, task_count=2)

    looks: list[httpx.Request] = []

    def count_it(request: httpx.Request) -> None:
        if request.url.path.endswith(mine) and grave.written(TASK_REQUESTS):
            looks.append(request)
            if len(looks) == 3:
                end(api, mine, 1, 2)

    client.on_request = count_it
    run = client.redrive(mine)
    assert ("DONE", 2, 0) == (run.state, run.redriven_count, run.refused_count)
    redriven = [decode_task_request(record.value).object_id for record in grave.written(TASK_REQUESTS)]
    assert [mine, mine] == redriven
    assert 3 == len(looks)
    assert 0 == client.redrive(mine).redriven_count


def test_redrive_that_does_not_get_to_its_end_raises(client):
    """Somebody cancelled it, or its API process has ended."""
    object_id = client.submit("mail").id
    run = {"id": "r", "state": "INTERRUPTED", "error": "its API process was stopped"}
    client.faults += [None, httpx.Response(202, json={"id": "r", "state": "RUNNING"}), httpx.Response(200, json=run)]
    with pytest.raises(ApiError, match="its API process was stopped"):
        client.redrive(object_id)


def test_redrive_beside_another_one_is_a_conflict(client):
    """One runs at a time; the error says which."""
    object_id = client.submit("mail").id
    problem = {"type": "urn:ebs:problem:redrive-under-way", "detail": "redrive r is running", "id": "r"}
    client.faults += [None, httpx.Response(409, json=problem)]
    with pytest.raises(Conflict, match="redrive r is running"):
        client.redrive(object_id)
