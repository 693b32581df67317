"""Submits on a real broker, by two API processes of which one is killed, and with a broker that stands still."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import httpx
from api_process import PATIENCE_S, ApiProcess
from broker_site import PARTITIONS, Site
from checker import read_all
from fleet import PATIENT, running_fleet, until
from plain_names import OBJECTS, TASK_REQUESTS

from app.events import decode_object, decode_task_request
from app.rules.idempotency import object_id_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPEATS = 1_000
KEY = {"idempotency-key": '"order-17"'}
UNKNOWN = "urn:ebs:problem:outcome-unknown"
HANGING = {"EBS_PUBLISH_TIMEOUT_S": "10"}
"""Of an API whose broker stands still: longer than all requests of a test need to be there, also on a slow machine."""


def start_api(site: Site, **environment: str) -> ApiProcess:
    """Start an API process; those of one test share their data directory, as replicas on one machine do."""
    return site.api("api", **environment)


async def read_topic(site: Site, topic: str) -> list[bytes]:
    """Return all committed values of a topic, by partition in the order of their offsets."""
    records = [record async for record in read_all(site.broker.bootstrap, [topic])]
    return [record.value for record in sorted(records, key=lambda one: (one.partition, one.offset))]


async def tasks_of(site: Site) -> Counter[str]:
    """Return how often each task was requested, by its id."""
    return Counter(decode_task_request(value).task_id for value in await read_topic(site, TASK_REQUESTS))


def test_a_thousand_repetitions_make_one_object_though_a_process_dies(site):
    """Two processes get one key a thousand times, one is killed among it: one object, three tasks, one answer."""
    answers: list[tuple[int, str, str]] = []

    async def scenario(first: ApiProcess, second: ApiProcess) -> None:
        limit = asyncio.Semaphore(64)
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:

            async def submit(number: int) -> None:
                urls = [first.url, second.url]
                async with limit:
                    for attempt in range(200):
                        url = urls[(number + attempt) % 2]
                        try:
                            answer = await client.post(f"{url}/api/objects", headers=KEY)
                        except (httpx.TransportError, AttributeError):  # anyio, if the socket has just been reset
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
    with running_fleet(site.broker.bootstrap, site.directory, PARTITIONS, **PATIENT) as fleet:
        fleet.start("distribution")
        with start_api(site) as first, start_api(site) as second:
            asyncio.run(scenario(first, second))
        with start_api(site) as third:
            assert 202 == third.client.post("/api/objects", headers=KEY).status_code
            other = third.client.post("/api/objects", headers=KEY, json={"name": "other"})
            assert (422, "urn:ebs:problem:key-reused") == (other.status_code, other.json()["type"])

        async def distributed() -> bool:
            return len(await tasks_of(site)) >= 3

        asyncio.run(until(distributed, "the tasks", fleet=fleet))
        records = [decode_object(value) for value in asyncio.run(read_topic(site, OBJECTS))]
        assert {f"{object_id}-{sequence}": 1 for sequence in range(3)} == asyncio.run(tasks_of(site))
    assert REPEATS == len(answers)
    assert {(202, object_id, f"/api/objects/{object_id}")} == set(answers)
    assert {object_id} == {record.object_id for record in records}
    assert 1 == len({(record.name, bytes(record.content), record.task_count) for record in records})


def test_of_two_payloads_of_one_key_one_succeeds_whichever_process_took_them(site):
    """Sixty keys at once, each with another payload to each of two processes: 202 is said for the object's alone."""
    keys = [f"k-{number}" for number in range(60)]

    async def scenario(urls: list[str]) -> dict[str, dict[str, int]]:
        statuses: dict[str, dict[str, int]] = defaultdict(dict)
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:

            async def submit(key: str, url: str) -> None:
                body = {"name": url, "tasks": 1}
                answer = await client.post(f"{url}/api/objects", headers={"idempotency-key": key}, json=body)
                statuses[key][url] = answer.status_code

            await asyncio.gather(*(submit(key, url) for key in keys for url in urls))
        return statuses

    with start_api(site) as first, start_api(site) as second:
        statuses = asyncio.run(scenario([first.url, second.url]))
        for key in keys:
            (winner,) = [url for url, status in statuses[key].items() if status == 202]
            assert {202, 422} == set(statuses[key].values())
            names = {api.client.get(f"/api/objects/{object_id_of(key)}").json()["name"] for api in (first, second)}
            assert {winner} == names
    firsts: dict[str, str] = {}
    for record in [decode_object(value) for value in asyncio.run(read_topic(site, OBJECTS))]:
        firsts.setdefault(record.object_id, record.name)
    assert {
        object_id_of(key): next(url for url, status in statuses[key].items() if status == 202) for key in keys
    } == firsts


class Stream:
    """Lines that are sent to one API process, some before and some after the broker stands still."""

    def __init__(self, site: Site, url: str, count: int) -> None:
        self.site = site
        self.url = url
        self.items = [{"name": f"n-{number}", "content": "x" * 200, "tasks": 1} for number in range(count)]

    async def run(self) -> list[dict[str, Any]]:
        """Send all; the broker stops after a third, and goes on when the rest has been sent. Returns the results."""
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
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
        self.site.broker.pause()
        for start in range(third, len(self.items), 500):
            yield self._encode(self.items[start : start + 500])

    async def _wait_until_stored(self, count: int) -> None:
        async def stored() -> bool:
            return len(await read_topic(self.site, OBJECTS)) >= count

        await until(stored, f"{count} objects on the topic")

    def _encode(self, items: list[dict[str, Any]]) -> bytes:
        return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def test_batch_while_the_broker_stands_still_loses_and_doubles_nothing(site):
    """What was accepted is stored; what was not is repeated as the answer says; then each object is there once."""
    with start_api(site, **HANGING) as api:
        stream = Stream(site, api.url, 9_000)
        results = asyncio.run(stream.run())
        site.broker.resume()
        by_type = Counter(one.get("type", "accepted") for one in results)
        assert 3_000 <= by_type["accepted"] < 9_000, by_type
        assert by_type[UNKNOWN] > 0, by_type
        assert {202, 503} == {one["status"] for one in results}
        repeat_until_all_are_stored(api, stream.items, results)
    records = [decode_object(value) for value in asyncio.run(read_topic(site, OBJECTS))]
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
            api.wait_until_ready()
            answer = api.client.post("/api/objects/batch", json=left)
        results = answer.json()["items"]
    raise AssertionError(f"{len(left)} objects are not stored after 100 tries")


def test_more_than_may_be_in_flight_is_a_429_while_the_broker_stands_still(site):
    """What is refused was not stored, nor is it later; what hangs is told as unknown; then all goes on."""

    async def scenario(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:

            async def submit(number: int) -> httpx.Response:
                items = [{"name": f"{number}", "content": "x" * 100_000, "tasks": 1} for _ in range(9)]
                return await client.post(f"{url}/api/objects/batch", json=items)

            return list(await asyncio.gather(*(submit(number) for number in range(8))))

    settings = {"EBS_MAX_IN_FLIGHT_BYTES": "2097152", "EBS_MAX_BATCH_BYTES": "2000000"}
    with start_api(site, **HANGING, **settings) as api:
        site.broker.pause()
        answers = asyncio.run(scenario(api.url))
        refused = [number for number, answer in enumerate(answers) if answer.status_code == 429]
        assert len(refused) >= 4
        assert all(int(answers[number].headers["retry-after"]) > 0 for number in refused)
        assert {207, 429, 503} >= {answer.status_code for answer in answers}
        site.broker.resume()
        api.wait_until_ready()
        assert 202 == api.client.post("/api/objects", json={"name": "after"}).status_code
    names = {decode_object(value).name for value in asyncio.run(read_topic(site, OBJECTS))}
    assert "after" in names
    assert set() == names & {str(number) for number in refused}
