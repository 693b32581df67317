"""Following objects on a real broker with workers and two API processes: waits, streams, lists, own writes."""

from __future__ import annotations

import asyncio
import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from api_process import PATIENCE_S, ApiProcess, until
from broker_site import PARTITIONS, Site, running_site
from fleet import PATIENT
from pages import DOCS, blocks
from plain_names import OBJECTS

from app.events import ObjectCreated, encode
from ebs import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared_broker import SharedBroker

SSE = {"accept": "text/event-stream"}


class System(NamedTuple):
    """Two API processes in front of one broker with workers; tasks take from 0.2 to 0.4 s."""

    first: ApiProcess
    second: ApiProcess
    site: Site

    def submit(self, tasks: int = 3) -> str:
        """Submit an object to the first process."""
        return self.first.client.post("/api/objects", json={"tasks": tasks}).json()["id"]


@pytest.fixture(scope="module")
def system(shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Return the system; its workers have begun."""
    with (
        running_site(shared_broker, tmp_path_factory.mktemp("system")) as site,
        site.api() as first,
        site.api() as second,
        site.workers(EBS_PROCESS_TIME="0.2-0.4", **PATIENT) as fleet,
    ):
        found = System(first, second, site)
        object_id = found.submit()
        until(lambda: state(first, object_id) == "FINISHED", fleet.last_words)
        yield found


def state(api: ApiProcess, object_id: str) -> str:
    """Return where an object stands."""
    return api.client.get(f"/api/objects/{object_id}").json()["state"]


def stream(
    api: ApiProcess, object_id: str, after: str | None = None, stop_after: int | None = None
) -> list[tuple[str | None, str]]:
    """Follow an object to the end of its stream, or for so many events; return ids and types."""
    headers = SSE | ({} if after is None else {"last-event-id": after})
    told: list[tuple[str | None, str]] = []
    with api.client.stream("GET", f"/api/objects/{object_id}/events", headers=headers) as answer:
        assert 200 == answer.status_code
        event_id = None
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                event_id = value
            elif name == "event":
                assert "error" != value, list(answer.iter_lines())
                told.append((event_id, value))
                event_id = None
                if len(told) == stop_after:
                    break
    return told


def test_wait_answers_when_the_object_has_ended(system):
    """The other process answers within the time that the tasks take, not at the time limit."""
    object_id = system.submit()
    answer = system.second.client.get(f"/api/objects/{object_id}?wait=60&until=FINISHED")
    told = answer.json()
    assert ("FINISHED", "reached", "reached", 3) == (
        told["state"],
        answer.headers["ebs-wait"],
        told["wait"]["outcome"],
        told["tasks_done"],
    )


def test_stream_tells_everything_once_and_ends(system):
    """Followed from the beginning and looked at afterwards, at either process, an object has the same events."""
    object_id = system.submit()
    told = stream(system.second, object_id)
    types = [kind for _, kind in told]
    assert ["OBJECT_CREATED", "TASKS_CREATED"] == types[:2]
    assert (3, 3, "end") == (types.count("TASK_STARTED"), types.count("TASK_FINISHED"), types[-1])
    assert 9 == len(types)
    assert told == stream(system.first, object_id)
    listed = system.first.client.get(f"/api/objects/{object_id}/events").json()
    assert told[:-1] == [(event["event_id"], event["type"]) for event in listed["events"]]
    assert (True, None) == (listed["ended"], listed["next_after"])


def test_stream_goes_on_behind_the_last_event_at_another_process(system):
    """Cut off after each event in turn, and resumed at the other process: nothing twice, nothing missing."""
    object_id = system.submit()
    told: list[tuple[str | None, str]] = []
    apis = (system.first, system.second)
    while not told or told[-1][1] != "end":
        told += stream(apis[len(told) % 2], object_id, told[-1][0] if told else None, stop_after=1)
    assert stream(system.first, object_id) == told


def test_many_streams_at_once_are_each_complete(system):
    """Thirty clients, some of one object, share one reader and lose nothing."""
    ids = [system.submit() for _ in range(10)]

    def follow(number: int) -> list[tuple[str | None, str]]:
        return stream((system.first, system.second)[number % 2], ids[number % 10])

    with ThreadPoolExecutor(30) as pool:
        told = list(pool.map(follow, range(30)))
    assert [9] * 30 == [len(one) for one in told]
    assert all(len(set(one)) == len(one) for one in told)


def test_list_pages_are_stable_while_objects_come_in_and_end(system):
    """Page by page through one process while the other takes more: each earlier object once, in order."""
    before = [system.submit(1) for _ in range(40)]
    seen: list[str] = []
    path = "/api/objects?limit=7"
    until(lambda: set(before) <= set(ids_of(system.second, "/api/objects?limit=500")), "the objects to be seen")
    while path is not None:
        system.submit(1)
        page = system.second.client.get(path).json()
        seen += [one["id"] for one in page["objects"]]
        path = page["links"]["next"]
    assert len(set(seen)) == len(seen)
    assert list(reversed(before)) == [one for one in seen if one in before]


def ids_of(api: ApiProcess, path: str) -> list[str]:
    """Return the ids on a page."""
    return [one["id"] for one in api.client.get(path).json()["objects"]]


def test_own_write_is_read_at_the_other_process(system):
    """Never a 404 for what was accepted, whichever process is asked, and however soon."""
    for _ in range(50):
        object_id = system.submit(1)
        assert 200 == system.second.client.get(f"/api/objects/{object_id}").status_code
    assert 404 == system.second.client.get("/api/objects/unknown").status_code


def test_own_write_behind_an_open_transaction_is_no_404(system):
    """Hidden by an outside producer's transaction it cannot be read yet: 503 and not 404, then 200."""
    with system.site.api("hurried", EBS_VIEW_WAIT_S="2") as hurried, asyncio.Runner() as runner:
        producer = runner.run(begin_writing(system.site.broker.bootstrap))
        ids = [system.submit(1) for _ in range(8 * PARTITIONS)]
        statuses = {hurried.client.get(f"/api/objects/{object_id}").status_code for object_id in ids[-8:]}
        runner.run(producer.commit_transaction())
        runner.run(producer.stop())
    assert 503 in statuses
    assert 404 not in statuses
    assert {200} == {system.second.client.get(f"/api/objects/{object_id}").status_code for object_id in ids}


async def begin_writing(bootstrap: str) -> AIOKafkaProducer:
    """Leave a transaction open that holds a record of each partition of `objects`."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="outside", transaction_timeout_ms=600_000)
    await producer.start()
    await producer.begin_transaction()
    for partition in range(PARTITIONS):
        event = ObjectCreated(object_id=f"outside-{partition}", name="n", content="c", at_ms=1)
        await producer.send_and_wait(OBJECTS, encode(event), key=b"x", partition=partition)
    return producer


def test_statistics_stream_moves_with_the_system(system):
    """An update a second; what was submitted meanwhile appears in it."""
    before, updates = None, 0
    with system.second.client.stream("GET", "/api/statistics/stream") as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: "):
                continue
            told = json.loads(line.removeprefix("data: "))
            before = told["objects_created"] if before is None else before
            if told["objects_created"] > before and told["rates_per_s"]["objects_created"] > 0:
                break
            updates += 1
            assert updates < PATIENCE_S, told
            system.submit(1)
    assert told["view"]["lag_ms"] < PATIENCE_S * 1_000


def test_process_with_open_streams_and_waits_stops_at_once(system):
    """SIGTERM ends a stream and answers a wait of a minute instead of being held up by them."""
    with system.site.api("stopped") as api:
        system.first.client.post("/api/control/pause", json={"reason": "test"})
        object_id = system.submit(1)
        assert 200 == api.status(f"/api/objects/{object_id}")
        waiting = http.client.HTTPConnection("127.0.0.1", api.port, timeout=PATIENCE_S)
        waiting.request("GET", f"/api/objects/{object_id}?wait=60")
        with api.client.stream("GET", "/api/statistics/stream") as streaming:
            lines = streaming.iter_lines()
            next(lines)  # it came later than the other request, so both are under way
            api.process.terminate()
            assert api.process.wait(30) in {0, -15}
            assert [] == [line for line in lines if line.startswith("event: error")]
        answer = waiting.getresponse()
        assert (200, object_id) == (answer.status, json.load(answer)["id"])
        waiting.close()
    system.first.client.post("/api/control/resume")


def test_page_about_the_python_client_does_what_it_says(system, monkeypatch):
    """Its snippets, one after the other, as they stand there."""
    monkeypatch.setenv("EBS_API_URL", system.first.url)
    page: dict[str, Any] = {"__name__": "snippet"}
    for block in blocks(DOCS / "how-to" / "call-from-python.md", "python"):
        exec(compile(block.text, "call-from-python.md", "exec", dont_inherit=True), page)
    assert [None] * 3 == page["run_report"]()
    assert ["OBJECT_CREATED", "TASKS_CREATED"] == asyncio.run(page["follow"]("mail"))[:2]
    with Client() as client:
        assert ["a", "b"] == [client.get(one).content for one in page["send_letters"](client, ["a", "b"])]
        assert "of the day" == client.get(page["submit_report"](client)).content


def test_python_client_goes_on_while_the_api_is_replaced(system):
    """Killed under a wait and a stream of events, and started again at its port: nothing is lost or told twice."""
    with system.site.api("replaced") as api:
        system.first.client.post("/api/control/pause", json={"reason": "test"})
        with Client(api.url, retries=100) as client, ThreadPoolExecutor(2) as pool:
            object_id = client.submit("mail", tasks=3).id
            events = client.events(object_id)
            told = [next(events), next(events)]
            rest = pool.submit(list, events)
            ended = pool.submit(client.wait, object_id, timeout_s=PATIENCE_S)
            api.kill()
            with system.site.api("replaced", port=api.port):
                system.first.client.post("/api/control/resume")
                assert "FINISHED" == ended.result(PATIENCE_S).state
                told += rest.result(PATIENCE_S)
                assert [None] * 3 == client.results(object_id)
    assert stream(system.first, object_id)[:-1] == [(event.event_id, event.type) for event in told]
