"""The API as a process of its own, with a real broker that comes late, freezes, dies and is recreated."""

from __future__ import annotations

import asyncio
import shutil
import time
import zlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from api_process import PATIENCE_S, ApiProcess, until
from plain_names import LEDGER_CHANGELOG, OBJECTS, STATISTICS_APP, WINDOWS_CHANGELOG

from app.events import ObjectCreated, decode_object, encode
from app.kafka.cluster import Cluster
from app.rules.counts import HOUR_MS, TOTAL_SIZE_MS, Counts, WindowKey, encode_counts, encode_window_key
from app.rules.ledger_rows import ObjectRow, encode_row
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.local.embedded_kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from app.topics.catalogue import TopicSpec

PARTITIONS = 3
PUBLISH_TIMEOUT_S = 5
HURRIED = {"EBS_PUBLISH_TIMEOUT_S": str(PUBLISH_TIMEOUT_S), "EBS_VIEW_WAIT_S": "5"}
"""Settings for a broker that is away: nobody waits for it for long."""
REQUEST_TIMEOUT_S = 40
"""After which the Kafka client itself would give up."""


class Bench:
    """A directory, an address for a broker, and processes that use both."""

    def __init__(self, directory: Path, broker: EmbeddedKafka) -> None:
        self.directory = directory
        self.broker = broker
        self.environment = {
            "EBS_BROKER": self.broker.bootstrap,
            "EBS_PARTITIONS": str(PARTITIONS),
            "EBS_DATA_DIR": str(directory / "api"),
            "EBS_STATS_DB": str(directory / "stats.db"),
        }

    @contextmanager
    def api(self, **environment: str) -> Iterator[ApiProcess]:
        """Run an API process."""
        api = ApiProcess(self.directory, **(self.environment | environment))
        try:
            yield api
        finally:
            api.stop()

    @contextmanager
    def ready_api(self, **environment: str) -> Iterator[ApiProcess]:
        """Run an API process that is ready."""
        with self.api(**environment) as api:
            api.wait_until_ready()
            yield api

    def start_broker(self) -> None:
        """Start the broker."""
        asyncio.run(self.broker.start())

    def produce(self, *records: tuple[str, int, bytes, bytes | None], commit: bool = True) -> None:
        """Write records (topic, partition, key, value) in one transaction, as a worker does."""

        async def scenario() -> None:
            async with AIOKafkaProducer(bootstrap_servers=self.broker.bootstrap, transactional_id="test") as producer:
                await producer.begin_transaction()
                for topic, partition, key, value in records:
                    await producer.send_and_wait(topic, value, key, partition)
                await (producer.commit_transaction() if commit else producer.abort_transaction())

        asyncio.run(scenario())

    def count_objects(self) -> None:
        """Commit the end of `objects` for the statistics, as if all of it were counted."""

        async def scenario() -> None:
            partitions = [TopicPartition(OBJECTS, number) for number in range(PARTITIONS)]
            async with AIOKafkaConsumer(
                bootstrap_servers=self.broker.bootstrap, group_id=STATISTICS_APP, enable_auto_commit=False
            ) as consumer:
                consumer.assign(partitions)
                await consumer.commit(await consumer.end_offsets(partitions))

        asyncio.run(scenario())

    def make_topics(self, specs: Iterable[TopicSpec], changed: str, **config: str) -> None:
        """Make topics, one of them with something else in its configuration."""
        made = [replace(one, config={**one.config, **config}) if one.name == changed else one for one in specs]
        asyncio.run(ensure_topics(Cluster(self.broker.bootstrap), made))

    def objects(self) -> list[tuple[int, bytes, str]]:
        """Return partition, key and object id of everything on `objects`."""

        async def scenario() -> list[tuple[int, bytes, str]]:
            partitions = [TopicPartition(OBJECTS, number) for number in range(PARTITIONS)]
            found = []
            async with AIOKafkaConsumer(bootstrap_servers=self.broker.bootstrap) as consumer:
                consumer.assign(partitions)
                await consumer.seek_to_beginning(*partitions)
                ends = await consumer.end_offsets(partitions)
                while len(found) < sum(ends.values()):
                    for tp, records in (await consumer.getmany(timeout_ms=100)).items():
                        found += [(tp.partition, one.key, decode_object(one.value).object_id) for one in records]
            return found

        return asyncio.run(scenario())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench whose broker is its own and not running."""
    bench = Bench(tmp_path, EmbeddedKafka(tmp_path, port=0))
    yield bench
    asyncio.run(bench.broker.stop())


@pytest.fixture
def running(kafka: EmbeddedKafka, tmp_path: Path) -> Bench:
    """Return a bench whose broker runs, without topics."""
    return Bench(tmp_path, kafka)


def test_starts_before_its_broker_and_works_when_it_comes(bench):
    """Without a broker the process lives and answers 503; with one it accepts, stores by the contract, and reads."""
    with bench.api() as api:
        until(lambda: api.status("/livez") == 200, lambda: f"live\n{api.log}")
        until(lambda: "waiting for the Kafka broker" in api.log, "the log says what it waits for")
        assert [503, 503, 503] == [api.status(path) for path in ("/readyz", "/api/statistics", "/api/objects/a")]
        assert 503 == api.client.post("/api/objects").status_code
        bench.start_broker()
        api.wait_until_ready()
        ids = [api.client.post("/api/objects").json()["id"] for _ in range(20)]
        ids += api.client.post("/api/objects?count=3000").json()["ids"]
        assert 200 == api.status(f"/api/objects/{ids[-1]}")
        assert {200} == {api.status(api.client.post("/objects").headers["location"]) for _ in range(20)}
        assert 404 == api.status("/api/objects/unknown")
    stored = bench.objects()
    assert 3_040 == len(stored)
    assert set(ids) <= {object_id for _, _, object_id in stored}
    assert stored == [(zlib.crc32(key) % PARTITIONS, object_id.encode(), object_id) for _, key, object_id in stored]


def test_reads_what_is_committed_and_nothing_else(running):
    """Rows of a committed transaction are answered, those of an aborted one are not; SIGKILL costs nothing."""
    total = encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "default"))
    row, counts = encode_row(ObjectRow("default", 3, 5)), encode_counts(Counts(objects_created=1))
    lost = encode_counts(Counts(objects_created=100))
    with running.ready_api() as api:
        running.produce((LEDGER_CHANGELOG, 1, b"a", row), (WINDOWS_CHANGELOG, 0, total, counts))
        running.produce((LEDGER_CHANGELOG, 1, b"b", row), (WINDOWS_CHANGELOG, 0, total, lost), commit=False)
        running.produce((WINDOWS_CHANGELOG, 2, total, counts))
        until(lambda: api.client.get("/api/statistics").json()["objects_created"] == 2, "both partitions are read")
        assert [200, 404] == [api.status(f"/api/objects/{name}") for name in "ab"]
        api.process.kill()
        api.process.wait()
    with running.ready_api() as api:
        assert 2 == api.client.get("/api/statistics").json()["objects_created"]
        assert [200, 404] == [api.status(f"/api/objects/{name}") for name in "ab"]
        assert "rebuilt" not in api.log
        # The lock died with the process that was killed: the same directory serves again.
        assert ["view-0", "view-0.lock"] == sorted(path.name for path in (running.directory / "api").iterdir())


def test_view_built_anew_leaves_out_what_the_ledger_has_forgotten(running):
    """Counted, old and without a row is forgotten, tombstone or not; what has a row or is not counted is there."""
    long_ago_ms = int(time.time() * 1_000) - 8 * 24 * HOUR_MS

    def an_object(object_id: str) -> tuple[str, int, bytes, bytes]:
        event = ObjectCreated(object_id=object_id, name="n", content="c", at_ms=long_ago_ms)
        return OBJECTS, 1, object_id.encode(), encode(event)

    with running.ready_api():
        pass  # makes the topics
    shutil.rmtree(running.directory / "api")
    row = encode_row(ObjectRow("default", 3, long_ago_ms))
    running.produce(*(an_object(name) for name in ("gone", "buried", "kept")))
    running.produce((LEDGER_CHANGELOG, 1, b"kept", row), (LEDGER_CHANGELOG, 1, b"buried", row))
    running.produce((LEDGER_CHANGELOG, 1, b"buried", None))
    running.count_objects()
    running.produce(an_object("waiting"))
    for _ in range(2):  # built anew, then gone on with
        with running.ready_api() as api:
            statuses = [api.status(f"/api/objects/{name}") for name in ("gone", "buried", "kept", "waiting")]
            assert [404, 404, 200, 200] == statuses
            listed = {one["id"] for one in api.client.get("/api/objects?limit=100").json()["objects"]}
            assert {"kept", "waiting"} == listed & {"gone", "buried", "kept", "waiting"}


def test_view_that_may_have_missed_tombstones_is_built_anew(running):
    """Where the broker keeps the ledger's tombstones for no time at all, a restart builds anew and says why."""
    running.make_topics(catalogue(load(partitions=PARTITIONS)), LEDGER_CHANGELOG, **{"delete.retention.ms": "0"})
    with running.ready_api() as api:
        kept = api.client.post("/api/objects").headers["location"]
        assert 200 == api.status(kept)
        assert "rebuilt" not in api.log
    with running.ready_api() as api:
        assert "has not been read on for 0.0 h" in api.log
        assert "delete.retention.ms): it is rebuilt" in api.log
        assert 200 == api.status(kept)


def test_frozen_broker_makes_a_503_in_time_and_nothing_breaks(running):
    """A submit that a frozen broker leaves hanging is a 503 in time; repeated with its id it is one object."""
    with running.ready_api(**HURRIED) as api:
        until(lambda: api.client.post("/api/objects").status_code == 202, "accepted at first")
        running.broker.pause()
        asked_at = time.monotonic()
        answer = api.client.post("/api/objects")
        assert 503 == answer.status_code
        assert PUBLISH_TIMEOUT_S <= time.monotonic() - asked_at < REQUEST_TIMEOUT_S / 2
        assert answer.json()["safe_to_repeat"] is True
        assert 503 == api.client.post("/api/objects").status_code  # at once: there is no connection now
        assert 503 == api.status("/api/objects/unknown")
        running.broker.resume()
        wanted = answer.json()["retry_with"]
        until(lambda: api.client.post("/api/objects", json=wanted).status_code == 202, "accepted again")
        api.wait_until_ready()
        until(lambda: api.status(f"/api/objects/{answer.json()['id']}") == 200, "the object to be seen")


def test_broker_that_dies_and_returns(running):
    """After `kill -9` and a restart of the broker the same process accepts and reads again."""
    with running.ready_api(EBS_PUBLISH_TIMEOUT_S=str(PUBLISH_TIMEOUT_S)) as api:
        first = until(lambda: api.client.post("/api/objects").headers.get("location"), "accepted at first")
        assert 200 == api.status(first)
        running.broker.kill()
        assert 503 == api.client.post("/api/objects").status_code
        assert 200 == api.status(first)
        running.start_broker()
        until(lambda: api.client.post("/api/objects").status_code == 202, "accepted again")
        api.wait_until_ready()
        assert [200, 404] == [api.status(first), api.status("/api/objects/unknown")]


def test_cluster_made_anew_makes_the_view_anew(running):
    """Another cluster at the same address: the running process forgets the old objects and serves the new ones."""
    with running.ready_api() as api:
        old = api.client.post("/api/objects").headers["location"]
        assert 200 == api.status(old)
        running.broker.kill()
        shutil.rmtree(running.broker.directory)
        running.start_broker()
        until(lambda: api.status(old) == 404, lambda: f"the old object to be gone\n{api.log}")
        api.wait_until_ready()
        assert 200 == api.status(api.client.post("/api/objects").headers["location"])


def test_wrong_topics_end_the_process_with_one_line(running):
    """Another partition count is exit code 1 and a line that names the fix, no traceback."""
    with running.ready_api():
        pass
    with running.api(EBS_PARTITIONS="5") as api:
        assert 1 == api.process.wait(PATIENCE_S)
        assert f"EBS_PARTITIONS={PARTITIONS}" in api.log
        assert "Traceback" not in api.log


def test_wrong_setting_ends_the_process_with_one_line(bench):
    """A setting that cannot be used is exit code 1 and one line that names it."""
    with bench.api(EBS_PARTITIONS="many") as api:
        assert 1 == api.process.wait(PATIENCE_S)
        assert ["error: EBS_PARTITIONS=many"] == [line.split(": input")[0] for line in api.log.splitlines()]
