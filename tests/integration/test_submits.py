"""Submits on a real broker, by two API processes of which one is killed, and with a broker that stands still."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from api_process import ApiProcess
from fleet import Fleet, until

from app.broker import ensure_topics
from app.events import decode_object, decode_task_event
from app.local.embedded_kafka import EmbeddedKafka
from app.rules.idempotency import object_id_of
from app.settings import load
from app.topics import OBJECTS, TASK_EVENTS, catalogue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PARTITIONS = 3
REPEATS = 1_000
KEY = {"idempotency-key": '"order-17"'}
UNKNOWN = "urn:ebs:problem:outcome-unknown"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    """Return a broker of its own with all topics: it is frozen here."""
    kafka = EmbeddedKafka(tmp_path, port=0)

    async def start() -> None:
        await kafka.start()
        await ensure_topics(kafka.bootstrap, catalogue(load(broker=kafka.bootstrap, partitions=PARTITIONS)))

    asyncio.run(start())
    yield kafka
    kafka.resume()
    asyncio.run(kafka.stop())


def start_api(broker: EmbeddedKafka, directory: Path, **environment: str) -> ApiProcess:
    """Start an API process; those of one directory share its data directory, as replicas on one machine do."""
    common = {
        "EBS_BROKER": broker.bootstrap,
        "EBS_PARTITIONS": str(PARTITIONS),
        "EBS_DATA_DIR": str(directory / "api"),
        "EBS_STATS_DB": str(directory / "stats.db"),
        "EBS_PUBLISH_TIMEOUT_S": "1.5",
    }
    return ApiProcess(directory, **common, **environment)


async def read_topic(broker: EmbeddedKafka, topic: str) -> list[bytes]:
    """Return all committed values of a topic, by partition in the order of their offsets."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    values: list[bytes] = []
    async with AIOKafkaConsumer(bootstrap_servers=broker.bootstrap, isolation_level="read_committed") as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        async with asyncio.timeout(60):
            for tp in partitions:
                while await consumer.position(tp) < ends[tp]:
                    for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                        values += [record.value for record in records]
    return values


async def tasks_of(broker: EmbeddedKafka) -> Counter[str]:
    """Return how often each task was created, by its id."""
    events = [decode_task_event(value) for value in await read_topic(broker, TASK_EVENTS)]
    return Counter(event.task_id for event in events)


def test_a_thousand_repetitions_make_one_object_though_a_process_dies(broker, tmp_path):
    """Two processes get one key a thousand times, one is killed among it: one object, three tasks, one answer."""
    fleet = Fleet(broker.bootstrap, tmp_path, {"EBS_PARTITIONS": str(PARTITIONS)})
    fleet.start("distribution")
    answers: list[tuple[int, str, str]] = []

    async def scenario(first: ApiProcess, second: ApiProcess) -> None:
        limit = asyncio.Semaphore(64)
        async with httpx.AsyncClient(timeout=30) as client:

            async def submit(number: int) -> None:
                urls = [first.url, second.url]
                async with limit:
                    for attempt in range(200):
                        url = urls[(number + attempt) % 2]
                        try:
                            answer = await client.post(f"{url}/api/objects", headers=KEY)
                        except httpx.TransportError:
                            continue  # it is dead: the other one is asked
                        if answer.status_code == httpx.codes.ACCEPTED:
                            answers.append((answer.status_code, answer.json()["id"], answer.headers["location"]))
                            return
                        assert httpx.codes.SERVICE_UNAVAILABLE == answer.status_code, answer.text
                raise AssertionError("not accepted after 200 tries")

            async def kill() -> None:
                await until(lambda: len(answers) > 0, "the first answer")
                first.kill()

            await asyncio.gather(kill(), *(submit(number) for number in range(REPEATS)))

    object_id = object_id_of("order-17")
    try:
        with start_api(broker, tmp_path) as first, start_api(broker, tmp_path) as second:
            asyncio.run(scenario(first, second))
        with start_api(broker, tmp_path) as third:
            assert 202 == third.client.post("/api/objects", headers=KEY).status_code
            other = third.client.post("/api/objects", headers=KEY, json={"name": "other"})
            assert (422, "urn:ebs:problem:key-reused") == (other.status_code, other.json()["type"])

        async def distributed() -> bool:
            return len(await tasks_of(broker)) >= 3

        asyncio.run(until(distributed, "the tasks", fleet=fleet))
        records = [decode_object(value) for value in asyncio.run(read_topic(broker, OBJECTS))]
        assert {f"{object_id}-{sequence}": 1 for sequence in range(3)} == asyncio.run(tasks_of(broker))
    finally:
        fleet.stop()
    assert REPEATS == len(answers)
    assert {(202, object_id, f"/api/objects/{object_id}")} == set(answers)
    assert {object_id} == {record.object_id for record in records}
    assert 1 == len({(record.name, record.content, record.task_count) for record in records})


def test_of_two_payloads_of_one_key_one_succeeds_whichever_process_took_them(broker, tmp_path):
    """Sixty keys at once, each with another payload to each of two processes: 202 is said for the object's alone."""
    keys = [f"k-{number}" for number in range(60)]

    async def scenario(urls: list[str]) -> dict[str, dict[str, int]]:
        statuses: dict[str, dict[str, int]] = defaultdict(dict)
        async with httpx.AsyncClient(timeout=30) as client:

            async def submit(key: str, url: str) -> None:
                body = {"name": url, "tasks": 1}
                answer = await client.post(f"{url}/api/objects", headers={"idempotency-key": key}, json=body)
                statuses[key][url] = answer.status_code

            await asyncio.gather(*(submit(key, url) for key in keys for url in urls))
        return statuses

    with start_api(broker, tmp_path) as first, start_api(broker, tmp_path) as second:
        statuses = asyncio.run(scenario([first.url, second.url]))
        for key in keys:
            (winner,) = [url for url, status in statuses[key].items() if status == 202]
            assert {202, 422} == set(statuses[key].values())
            names = {api.client.get(f"/api/objects/{object_id_of(key)}").json()["name"] for api in (first, second)}
            assert {winner} == names
    firsts: dict[str, str] = {}
    for record in [decode_object(value) for value in asyncio.run(read_topic(broker, OBJECTS))]:
        firsts.setdefault(record.object_id, record.name)
    assert {
        object_id_of(key): next(url for url, status in statuses[key].items() if status == 202) for key in keys
    } == firsts


class Stream:
    """Lines that are sent to one API process, some before and some after the broker stands still."""

    def __init__(self, broker: EmbeddedKafka, url: str, count: int) -> None:
        self.broker = broker
        self.url = url
        self.items = [{"name": f"n-{number}", "content": "x" * 200, "tasks": 1} for number in range(count)]

    async def run(self) -> list[dict[str, Any]]:
        """Send all; the broker stops after a third, and goes on when the rest has been sent. Returns the results."""
        async with httpx.AsyncClient(timeout=60) as client:
            headers = {"content-type": "application/x-ndjson"}
            answer = await client.post(f"{self.url}/api/objects/batch", content=self._lines(), headers=headers)
        assert httpx.codes.MULTI_STATUS == answer.status_code, answer.text
        *results, last = [json.loads(line) for line in answer.text.splitlines()]
        assert len(self.items) == last["summary"]["count"] == len(results)
        return results

    async def _lines(self) -> AsyncIterator[bytes]:
        third = len(self.items) // 3
        yield self._encode(self.items[:third])
        await self._wait_until_stored(third)
        self.broker.pause()
        for start in range(third, len(self.items), 500):
            yield self._encode(self.items[start : start + 500])

    async def _wait_until_stored(self, count: int) -> None:
        async def stored() -> bool:
            return len(await read_topic(self.broker, OBJECTS)) >= count

        await until(stored, f"{count} objects on the topic")

    def _encode(self, items: list[dict[str, Any]]) -> bytes:
        return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def test_batch_while_the_broker_stands_still_loses_and_doubles_nothing(broker, tmp_path):
    """What was accepted is stored; what was not is repeated as the answer says; then each object is there once."""
    with start_api(broker, tmp_path) as api:
        stream = Stream(broker, api.url, 9_000)
        results = asyncio.run(stream.run())
        broker.resume()
        by_type = Counter(one.get("type", "accepted") for one in results)
        assert 3_000 <= by_type["accepted"] < 9_000, by_type
        assert by_type[UNKNOWN] > 0, by_type
        assert {202, 503} == {one["status"] for one in results}
        repeat_until_all_are_stored(api, stream.items, results)
    records = [decode_object(value) for value in asyncio.run(read_topic(broker, OBJECTS))]
    ids = defaultdict(set)
    for record in records:
        ids[record.name].add(record.object_id)
    assert {item["name"]: 1 for item in stream.items} == {name: len(found) for name, found in ids.items()}


def repeat_until_all_are_stored(api: ApiProcess, items: list[dict[str, Any]], results: list[dict[str, Any]]) -> None:
    """Send what was not accepted again, as a client does: with its id for ever once its outcome was unknown."""
    left = items
    for _ in range(100):
        for item, result in zip(left, results, strict=True):
            if result.get("type") == UNKNOWN:
                item["id"] = result["id"]
        left = [item for item, result in zip(left, results, strict=True) if result["status"] != httpx.codes.ACCEPTED]
        if not left:
            return
        answer = api.client.post("/api/objects/batch", json=left)
        while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            until_ready(api)
            answer = api.client.post("/api/objects/batch", json=left)
        results = answer.json()["items"]
    raise AssertionError(f"{len(left)} objects are not stored after 100 tries")


def until_ready(api: ApiProcess) -> None:
    """Wait until an API process can publish again."""

    async def ready() -> None:
        await until(lambda: api.client.get("/readyz").status_code == httpx.codes.OK, "the API to be ready")

    asyncio.run(ready())


def test_more_than_may_be_in_flight_is_a_429_while_the_broker_stands_still(broker, tmp_path):
    """What is refused was not stored, nor is it later; what hangs is told as unknown; then all goes on."""

    async def scenario(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=30) as client:

            async def submit(number: int) -> httpx.Response:
                items = [{"name": f"{number}", "content": "x" * 100_000, "tasks": 1} for _ in range(9)]
                return await client.post(f"{url}/api/objects/batch", json=items)

            return list(await asyncio.gather(*(submit(number) for number in range(8))))

    settings = {"EBS_MAX_IN_FLIGHT_BYTES": "2097152", "EBS_MAX_BATCH_BYTES": "2000000"}
    with start_api(broker, tmp_path, **settings) as api:
        broker.pause()
        answers = asyncio.run(scenario(api.url))
        refused = [number for number, answer in enumerate(answers) if answer.status_code == 429]
        assert len(refused) >= 4
        assert all(int(answers[number].headers["retry-after"]) > 0 for number in refused)
        assert {207, 429, 503} >= {answer.status_code for answer in answers}
        broker.resume()
        until_ready(api)
        assert 202 == api.client.post("/api/objects", json={"name": "after"}).status_code
    names = {decode_object(value).name for value in asyncio.run(read_topic(broker, OBJECTS))}
    assert "after" in names
    assert set() == names & {str(number) for number in refused}
