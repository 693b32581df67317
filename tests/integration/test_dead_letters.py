"""Dead letters on a real broker: what API processes know of them, and what redrives make of them."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from api_process import ApiProcess, until
from checker import differences, read_all
from fleet import Fleet
from grave import request_of

from app.broker import ensure_topics
from app.events import decode_task_event, decode_task_request, encode
from app.local.embedded_kafka import EmbeddedKafka
from app.rules.dead_letters import Origin, dead_letter_headers
from app.settings import load
from app.topics import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS, catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTITIONS = 4
PATH = "/api/dead-letters"


class Site:
    """A broker of this test's own with all topics, and API processes on it."""

    def __init__(self, broker: EmbeddedKafka, directory: Path) -> None:
        self.broker = broker
        self.directory = directory
        asyncio.run(ensure_topics(broker.bootstrap, catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS))))

    def api(self, name: str = "api") -> ApiProcess:
        """Start an API process with a data directory of its own."""
        return ApiProcess(
            self.directory,
            EBS_BROKER=self.broker.bootstrap,
            EBS_PARTITIONS=str(PARTITIONS),
            EBS_DATA_DIR=str(self.directory / name),
            EBS_STATS_DB=str(self.directory / f"{name}.db"),
        )

    def bury(self, numbers: range, *, headers: list[tuple[str, bytes]] | None = None) -> None:
        """Write letters of tasks in one transaction, as a worker does."""

        async def scenario() -> None:
            producer = AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap, transactional_id="grave")
            async with producer, producer.transaction():
                sent = []
                for number in numbers:
                    task, partition = request_of(number), number % PARTITIONS
                    origin = Origin(TASK_REQUESTS, partition, number, 1)
                    told = dead_letter_headers(origin, ValueError(f"no user {number}"), attempts=5, task=task)
                    sent.append(
                        await producer.send(DEAD_LETTERS, encode(task), b"k", partition, headers=told + (headers or []))
                    )
                await asyncio.gather(*sent)

        asyncio.run(scenario())

    def read(self, topic: str) -> list[Any]:
        """Return all committed records of a topic."""

        async def scenario() -> list[Any]:
            return [record async for record in read_all(self.broker.bootstrap, [topic])]

        return asyncio.run(scenario())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a site whose broker runs."""
    broker = EmbeddedKafka(tmp_path, port=0)
    asyncio.run(broker.start())
    yield Site(broker, tmp_path)
    asyncio.run(broker.stop())


def letters_of(api: ApiProcess, query: str = "") -> list[dict[str, Any]]:
    """Return a page of letters."""
    return api.client.get(f"{PATH}?limit=1000{query}").json()["dead_letters"]


def test_every_process_knows_what_one_did(site):
    """A discard and a redrive by one process are known to the other, and to one that starts anew after a crash."""
    with site.api("a") as first, site.api("b") as second:
        site.bury(range(4))
        until(lambda: len(letters_of(first)) == len(letters_of(second)) == 4, "both have read all letters")
        redriven, discarded, left, _ = [letter["id"] for letter in letters_of(first)]
        assert 202 == first.client.post(f"{PATH}/{redriven}/redrive").status_code
        assert 200 == first.client.delete(f"{PATH}/{discarded}", params={"reason": "old"}).status_code
        # No waiting: the second one reads first what the first one wrote.
        assert [409, 409] == [second.client.post(f"{PATH}/{one}/redrive").status_code for one in (redriven, discarded)]
        assert [404, 404] == [second.client.get(f"{PATH}/{one}").status_code for one in ("0-99", "77-0")]
        expected = {letter["id"]: letter["state"] for letter in letters_of(second)}
        assert ("REDRIVEN", "DISCARDED", "DEAD") == (expected[redriven], expected[discarded], expected[left])
        first.kill()
    with site.api("a") as again, site.api("c") as new:
        for api in (again, new):
            until(lambda api=api: len(letters_of(api)) == 4, "all letters are read")
            assert expected == {letter["id"]: letter["state"] for letter in letters_of(api)}
            (group,) = api.client.get(f"{PATH}?group_by=fingerprint").json()["groups"]
            assert {"DEAD": 2, "REDRIVEN": 1, "DISCARDED": 1} == group["states"]
    assert 1 == len(site.read(TASK_REQUESTS))
    assert 6 == len(site.read(DEAD_LETTERS))


def test_redrives_at_once_at_two_processes_have_the_same_ids(site):
    """Whoever was too late to see the other one writes the same generation, which a worker runs once."""
    with site.api("a") as first, site.api("b") as second:
        site.bury(range(20))
        until(lambda: len(letters_of(first)) == len(letters_of(second)) == 20, "both have read all letters")
        ids = [letter["id"] for letter in letters_of(first)]
        asked = [(api, letter_id) for letter_id in ids for api in (first, second, first, second)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda one: (one[1], one[0].client.post(f"{PATH}/{one[1]}/redrive").status_code), asked)
            )
        for letter_id in ids:
            statuses = sorted(status for one, status in answers if one == letter_id)
            assert statuses in ([202, 409, 409, 409], [202, 202, 409, 409])
        assert {"REDRIVEN"} == {letter["state"] for letter in letters_of(first)}
    requests = [decode_task_request(record.value) for record in site.read(TASK_REQUESTS)]
    assert {f"c-o{number}-0-r1" for number in range(20)} == {request.id for request in requests}
    assert {(1, 1)} == {(request.redrive, request.attempt) for request in requests}


def test_ten_thousand_are_redriven_fast_and_once(site):
    """One filter redrives 10,000 letters: each request and each fact once, in their partitions, 2,000 a second."""
    count = 10_000
    site.bury(range(count))
    with site.api() as api:
        until(
            lambda: api.client.get(f"{PATH}?group_by=fingerprint").json()["groups"][0]["count"] == count, "all read", 60
        )
        asked_at_s = time.monotonic()
        counted = api.client.post(f"{PATH}/redrive", json={"error": "no user", "dry_run": True}).json()
        counting_s = time.monotonic() - asked_at_s
        started = api.client.post(f"{PATH}/redrive", json={"error": "no user"})
        assert (count, 202) == (counted["count"], started.status_code)
        run = until(lambda: _ended(api, started.headers["location"]), "the end of the run", 60)
        (group,) = api.client.get(f"{PATH}?group_by=fingerprint").json()["groups"]
    spent_s = (run["ended_at_ms"] - run["started_at_ms"]) / 1_000
    print(f"{count} redriven in {spent_s:.2f} s, {count / spent_s:,.0f} a second; counted in {counting_s:.2f} s")
    assert ("DONE", count, 0, 0) == (run["state"], run["redriven_count"], run["refused_count"], run["skipped_count"])
    assert {"REDRIVEN": count} == group["states"]
    assert spent_s < count / 2_000
    requests, facts = site.read(TASK_REQUESTS), site.read(TASK_EVENTS)
    assert count == len(requests) == len(facts) == len({decode_task_request(record.value).id for record in requests})
    assert {decode_task_request(record.value).id for record in requests} == {
        decode_task_event(record.value).id for record in facts
    }
    assert all(decode_task_event(record.value).object_partition == record.partition for record in facts)


def _ended(api: ApiProcess, path: str) -> dict[str, Any] | None:
    run = api.client.get(path).json()
    return run if run["state"] != "RUNNING" else None


def test_dead_tasks_finish_after_a_redrive_and_every_count_is_exact(site, tmp_path):
    """FAILED objects become FINISHED by one redrive by filter; topics, ledger and windows agree; none runs twice."""
    mended = tmp_path / "mended"
    environment = {
        "EBS_PARTITIONS": str(PARTITIONS),
        "EBS_HANDLER": "mended_handler:mended",
        "EBS_MAX_ATTEMPTS": "1",
        "MENDED_FILE": str(mended),
    }
    fleet = Fleet(site.broker.bootstrap, tmp_path, environment)
    try:
        fleet.start_all()
        with site.api() as api:
            ids = api.client.post("/api/objects", params={"count": 100}).json()["ids"]
            broken = b'{"type":"OBJECT_CREATED"}'
            _write(site, OBJECTS, broken)
            until(lambda: _figures(api)["tasks_dead"] == 300, fleet.last_words, 60)
            assert "FAILED" == api.client.get(f"/api/objects/{ids[0]}").json()["state"]
            groups = {group["topics"].popitem()[0]: group for group in _groups(api)}
            assert (300, 1) == (groups[TASK_REQUESTS]["count"], groups[OBJECTS]["count"])
            mended.touch()
            started = api.client.post(f"{PATH}/redrive", json={"fingerprint": groups[TASK_REQUESTS]["fingerprint"]})
            assert 300 == until(lambda: _ended(api, started.headers["location"]), "the run")["redriven_count"]
            until(lambda: _figures(api)["tasks_finished"] == 300, fleet.last_words, 60)
            figures = until(lambda: _settled(api), "the statistics to settle")
            assert (300, 0, 0, 100) == tuple(
                figures[name] for name in ("tasks_created", "tasks_dead", "imbalance", "objects_finished")
            )
            assert {"FINISHED"} == {api.client.get(f"/api/objects/{one}").json()["state"] for one in ids}
            (bad,) = letters_of(api, "&topic=objects")
            now_ms = time.time_ns() // 1_000_000
            event = {"type": "OBJECT_CREATED", "object_id": "mended", "name": "n", "content": "c", "at_ms": now_ms}
            assert 202 == api.client.post(f"{PATH}/{bad['id']}/redrive", json={"payload": event}).status_code
            until(lambda: _state(api, "mended") == "FINISHED", fleet.last_words, 60)
        finished = [one for one in map(_decoded, site.read(TASK_EVENTS)) if one["type"] == "TASK_FINISHED"]
        assert 303 == len(finished) == len({one["task_id"] for one in finished})
        assert [] == asyncio.run(differences(site.broker.bootstrap, accepted=ids))
    finally:
        fleet.stop()


def _decoded(record: Any) -> dict[str, Any]:
    return msgspec.json.decode(record.value)


def _write(site: Site, topic: str, value: bytes) -> None:
    async def scenario() -> None:
        async with AIOKafkaProducer(bootstrap_servers=site.broker.bootstrap) as producer:
            await producer.send_and_wait(topic, value, b"key", partition=1)

    asyncio.run(scenario())


def _groups(api: ApiProcess) -> list[dict[str, Any]]:
    return api.client.get(f"{PATH}?group_by=fingerprint").json()["groups"]


def _figures(api: ApiProcess) -> dict[str, Any]:
    return api.client.get("/api/statistics").json()


def _settled(api: ApiProcess) -> dict[str, Any] | None:
    figures = _figures(api)
    return figures if figures["objects_finished"] == 100 and figures["view"]["lag_records"] == 0 else None


def _state(api: ApiProcess, object_id: str) -> str:
    return api.client.get(f"/api/objects/{object_id}").json().get("state", "")
