"""The disk of a worker is lost while rows wait there: its folder goes, is full, or cannot be made again.

The tables are caches: the worker ends with a clear message, and the next life restores them from the changelogs.
"""

from __future__ import annotations

import base64
import random
import resource
import shutil
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import AIOKafkaProducer
from checker import differences, read_all
from feed import feed
from fleet import PATIENT, Fleet, said, until
from follower import Follower
from plain_names import CONTROL, WAITING_CHANGELOG

from app.events import ItemRecord
from app.rules.commands import StartWaiting, encode_command, filter_name
from app.rules.waiting_rows import TIMED
from app.streaming.application import EXIT_STEP_FAILED

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Worker

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
TASKS = 3
CONTENT_BYTES = 75_000
LARGE_OBJECTS = 160
"""Their rows are more than the store of each partition keeps in memory (8 MB), so it has to write a file."""
SMALL_OBJECTS = 100
FILE_LIMIT_BYTES = 4 << 20


async def start(fleet: Fleet) -> tuple[Worker, Path]:
    """Start the system; returns the processing worker and its folder."""
    folder = fleet.directory / "disk"
    fleet.start("distribution", **PATIENT)
    fleet.start("statistics", **PATIENT)
    worker = fleet.start("processing", EBS_DATA_DIR=str(folder))
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
    assert list(folder.rglob("waiting-*")), "the worker keeps its tables elsewhere"
    return worker, folder


async def feed_delayed(broker: EmbeddedKafka, count: int, content_bytes: int = 10) -> list[str]:
    """Submit objects whose tasks wait for an hour, with contents that cannot be compressed."""
    rng = random.Random(count)

    def fields(_number: int) -> dict[str, Any]:
        contents = [msgspec.json.encode(base64.b64encode(rng.randbytes(content_bytes)).decode()) for _ in range(TASKS)]
        return {"delay_s": 3_600, "items": [ItemRecord(content=msgspec.Raw(content)) for content in contents]}

    return await feed(broker.bootstrap, count, partitions=PARTITIONS, fields=fields)


async def until_rows(broker: EmbeddedKafka, fleet: Fleet, count: int) -> None:
    """Wait until so many tasks wait in the table."""

    async def are_there() -> bool:
        records = [one async for one in read_all(broker.bootstrap, [WAITING_CHANGELOG])]
        return count == len({(one.partition, one.key) for one in records if one.key[:1] == TIMED})

    await until(are_there, f"{count} rows", fleet=fleet, reviving=True)


async def finish(broker: EmbeddedKafka, fleet: Fleet, accepted: list[str]) -> None:
    """Let all tasks start once they wait, until all objects have finished; nothing is lost or counts twice."""
    await until_rows(broker, fleet, TASKS * len(accepted))
    order = StartWaiting(time.time_ns() // 1_000_000)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        await producer.send_and_wait(CONTROL, encode_command(order), f"start:waiting:{filter_name(order)}".encode())
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await until(lambda: follower.has_finished_objects(len(accepted)), "all objects", fleet=fleet, reviving=True)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, "\n".join([*found, fleet.last_words()])


async def test_table_that_cannot_be_written_ends_the_worker(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Its last line names the folder and the setting; the next life has all rows."""
    worker, folder = await start(fleet)
    # As on a full disk: a file of this process may not grow beyond that. A mount would need root.
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (FILE_LIMIT_BYTES, FILE_LIMIT_BYTES))
    accepted = await feed_delayed(broker, LARGE_OBJECTS, CONTENT_BYTES)
    await until(lambda: worker.exit_code is not None, "the worker to end", fleet=fleet)
    assert EXIT_STEP_FAILED == worker.exit_code
    assert f"StoreFailed: a table cannot be kept at {folder}" in worker.log()
    fleet.revive()
    await finish(broker, fleet, accepted)


async def test_folder_that_is_gone_costs_no_row(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """It goes while the worker runs, which goes on from memory until it is killed; a file is in its way at first."""
    worker, folder = await start(fleet)
    accepted = await feed_delayed(broker, SMALL_OBJECTS)
    await until_rows(broker, fleet, TASKS * SMALL_OBJECTS)
    shutil.rmtree(folder)
    accepted += await feed_delayed(broker, SMALL_OBJECTS)
    await until_rows(broker, fleet, 2 * TASKS * SMALL_OBJECTS)
    assert worker.exit_code is None
    fleet.kill("processing-1")
    folder.touch()
    assert ["processing-1"] == fleet.revive()
    await until(lambda: worker.exit_code is not None, "the worker to end", fleet=fleet)
    assert EXIT_STEP_FAILED == worker.exit_code
    assert f"StoreFailed: tables cannot be kept in {folder}" in worker.log()
    folder.unlink()
    await finish(broker, fleet, accepted)
