"""The embedded Apache Kafka: it comes up, keeps its records, says what is wrong, and never outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError
from api_process import PATIENCE_S, until
from running_handlers import is_alive

from app.errors import BrokerUnavailable, EmbeddedBrokerError
from app.kafka.cluster import Cluster
from app.kafka.probe import why_unavailable
from app.kafka.waiting import wait_for_broker
from app.topics.catalogue import TopicSpec
from app.topics.making import ensure_topics
from ebs.local.embedded_kafka import EmbeddedKafka
from ebs.local.kafka_runtime import KAFKA_VERSION

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ROOT = Path(__file__).parents[2]
MOODS = TopicSpec("moods", 1, 1)
ENDED_BY_ITSELF = 128 + signal.SIGTERM
"""Java's own way of saying that it heard."""


async def write(bootstrap: str, value: bytes) -> None:
    """Write one acknowledged record to the topic."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        await producer.send_and_wait(MOODS.name, value)


async def read(bootstrap: str) -> bytes:
    """Read the topic's first record."""
    async with AIOKafkaConsumer(MOODS.name, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        return (await consumer.getone()).value


class SeenKafka(EmbeddedKafka):
    """Notes each launch of the broker's process: None, or the port on which it lives unseen."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.launched: list[int | None] = []

    async def _launch(self, *arguments: Any, recovery_port: int | None = None) -> None:
        self.launched.append(recovery_port)
        await super()._launch(*arguments, recovery_port=recovery_port)


@pytest.mark.parametrize(("end", "version"), [("stop", None), ("kill", None), ("stop", "3.9.2")])
def test_records_survive_the_broker(tmp_path, end, version):
    """After a stop and a kill, and with a newer Kafka, the next start on the directory finds what was acknowledged.

    One that is asked to stop does so by itself, and may be asked when it is not there. One that crashed lives once
    unseen: it would load the committed offsets twice at once, and end with old ones. One that was stopped starts once.
    """

    async def scenario() -> tuple[bytes, list[int | None]]:
        directory = tmp_path / "dätä dir"
        broker = SeenKafka(directory, port=0, version=version)
        await broker.stop()
        await broker.start()
        await ensure_topics(Cluster(broker.bootstrap), [MOODS])
        await write(broker.bootstrap, b"fine")
        if end == "stop":
            await broker.stop(grace_s=PATIENCE_S)
            await broker.stop()
            assert ENDED_BY_ITSELF == broker.exit_code
        else:
            broker.kill()
        assert broker.pid is None
        broker = SeenKafka(directory, port=0, version=KAFKA_VERSION if version else None)
        await broker.start()
        try:
            return await read(broker.bootstrap), broker.launched
        finally:
            await broker.stop()

    value, launched = asyncio.run(scenario())
    assert (b"fine", None) == (value, launched[-1])
    assert (2 if end == "kill" else 1) == len(launched)


async def transact(bootstrap: str, name: str, partition_count: int, done: asyncio.Event) -> None:
    """Commit one transaction after the other, over all partitions, until it is enough or one failed."""
    options = {"bootstrap_servers": bootstrap, "transactional_id": name, "transaction_timeout_ms": 1_000}
    with suppress(KafkaError):
        async with AIOKafkaProducer(**options) as producer:
            while not done.is_set():
                async with producer.transaction():
                    for number in range(partition_count):
                        await producer.send(MOODS.name, b"fine", partition=number)


async def ends(bootstrap: str, partitions: list[TopicPartition], isolation_level: str) -> dict[TopicPartition, int]:
    """Return where the partitions end for a reader."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=isolation_level) as consumer:
        return await consumer.end_offsets(partitions)


async def come_true(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition of the broker."""
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  # the broker has no event
            await asyncio.sleep(0.05)


def test_every_transaction_ends_though_the_broker_crashed(tmp_path):
    """Readers of committed records get to the end: Kafka 4.2 to 4.4 forget some where they begin anew (KAFKA-20734)."""
    topic = replace(MOODS, partition_count=8)
    partitions = [TopicPartition(topic.name, number) for number in range(topic.partition_count)]

    async def scenario() -> None:
        broker = EmbeddedKafka(tmp_path, port=0)
        await broker.start()
        await ensure_topics(Cluster(broker.bootstrap), [topic])

        async def all_ended() -> bool:
            levels = ("read_committed", "read_uncommitted")
            committed, written = [await ends(broker.bootstrap, partitions, level) for level in levels]
            return committed == written

        for life in (1, 2):
            done = asyncio.Event()
            working = asyncio.gather(
                *(transact(broker.bootstrap, f"{life}-{number}", len(partitions), done) for number in range(8))
            )

            async def is_busy(so_many: int = 800 * life) -> bool:
                return sum((await ends(broker.bootstrap, partitions, "read_committed")).values()) >= so_many

            await come_true(is_busy)
            broker.kill()
            await broker.start()
            done.set()
            await working
            await come_true(all_ended)
        await broker.stop()

    asyncio.run(scenario())


def test_data_of_a_newer_kafka_is_refused_in_one_line(tmp_path):
    """It names the setting that chose the older one; Kafka's own words are a stack trace of Java."""

    async def scenario() -> None:
        broker = EmbeddedKafka(tmp_path, port=0, version=KAFKA_VERSION)
        await broker.start()
        await broker.stop()
        await EmbeddedKafka(tmp_path, port=0, version="3.9.2").start()

    with pytest.raises(
        EmbeddedBrokerError, match=r"^a newer Kafka than 3.9.2 wrote the data in .*EBS_KAFKA_VERSION.*$"
    ):
        asyncio.run(scenario())


def test_only_the_loopback_address_is_served(kafka):
    """Other machines cannot reach it: every listening socket of the broker's process is bound to 127.0.0.1."""
    sockets = set()
    for descriptor in Path(f"/proc/{kafka.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a broker opens and closes files all the time
            sockets.add(str(descriptor.readlink()))
    addresses = set()
    for table in ("tcp", "tcp6"):
        for row in Path(f"/proc/{kafka.pid}/net/{table}").read_text().splitlines()[1:]:
            _number, local, _remote, state, *_counters, inode = row.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in sockets:  # listening, and the broker's
                addresses.add(local.split(":")[0][-8:])  # IPv4, or mapped into IPv6
    assert {"0100007F"} == addresses


def test_second_broker_on_the_same_data_is_refused(kafka):
    """A broker that is still there, perhaps of an earlier `ebs up`, is named instead of damaged."""
    second = EmbeddedKafka(kafka.directory.parent, port=0)
    with pytest.raises(EmbeddedBrokerError, match=rf"another broker \(process {kafka.pid} at {kafka.bootstrap}\)"):
        asyncio.run(second.start())
    asyncio.run(wait_for_broker(Cluster(kafka.bootstrap), timeout_s=PATIENCE_S))


def test_port_in_use_names_the_port_and_the_way_out(tmp_path):
    """A taken port is one sentence, and no broker is started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        broker = EmbeddedKafka(tmp_path, port=port)
        said = rf"port {port} of 127.0.0.1 is taken \(process {os.getpid()}: .*--broker 127.0.0.1:{port}"
        with pytest.raises(EmbeddedBrokerError, match=said):
            asyncio.run(broker.start())
    assert broker.pid is None


def test_failed_start_shows_the_last_lines_of_the_log(tmp_path):
    """When Kafka refuses its own data, its reason is in the error."""
    log_dir = tmp_path / "kafka" / "log"
    log_dir.mkdir(parents=True)
    (log_dir / "meta.properties").write_text("version=1\nnode.id=7\ncluster.id=MWj_e4_-RFamYMlhg4jIXA\n")
    broker = EmbeddedKafka(tmp_path, port=0)
    with pytest.raises(EmbeddedBrokerError, match=r"(?s)ended with exit code 1 while it started.*node id 7"):
        asyncio.run(broker.start())
    assert broker.pid is None


def test_storage_that_takes_too_long_is_no_hang(tmp_path):
    """The process that lays it out is ended; the next start begins anew."""

    async def scenario() -> None:
        broker = EmbeddedKafka(tmp_path, port=0)
        with pytest.raises(EmbeddedBrokerError, match=r"did not lay out its storage within 0\.05 s"):
            await broker.start(timeout_s=0.05)
        await broker.start()
        await broker.stop()

    asyncio.run(scenario())


def test_directory_that_kafka_would_split_is_refused(tmp_path):
    """A comma separates directories in Kafka's settings."""
    with pytest.raises(EmbeddedBrokerError, match="without a comma"):
        asyncio.run(EmbeddedKafka(tmp_path / "a,b", port=0).start())


def test_paused_broker_is_seen_and_goes_on(tmp_path):
    """A frozen broker accepts connections and answers nothing; waiting for it ends when it goes on."""

    async def scenario() -> None:
        broker = EmbeddedKafka(tmp_path, port=0)
        await broker.start()
        try:
            broker.pause()
            assert (await why_unavailable(Cluster(broker.bootstrap)) or "").startswith("no answer")
            with pytest.raises(BrokerUnavailable, match="no answer"):
                await wait_for_broker(Cluster(broker.bootstrap), timeout_s=0.1)
            broker.resume()
            await wait_for_broker(Cluster(broker.bootstrap), timeout_s=PATIENCE_S)
            broker.pause()
        finally:
            await broker.stop(grace_s=PATIENCE_S)
        assert ENDED_BY_ITSELF == broker.exit_code  # even a paused one is asked before it is killed

    asyncio.run(scenario())


def test_broker_dies_with_its_killed_parent(tmp_path):
    """After `kill -9` of the process that started it, the broker is gone, so the next start is not in its way."""
    code = f"""
import asyncio
from pathlib import Path
from ebs.local.embedded_kafka import EmbeddedKafka
from ebs.local.kafka_runtime import KAFKA_VERSION
async def main():
    broker = EmbeddedKafka(Path({str(tmp_path)!r}), port=0)
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        broker_pid = int(parent.stdout.readline())
        assert broker_pid == os.getsid(broker_pid)  # so the terminal's Ctrl-C does not reach it
        parent.kill()
    until(lambda: not is_alive(broker_pid), "the broker to follow its parent")
