"""A log that is damaged on the broker's disk: the partition waits, and everybody says which one and where."""

from __future__ import annotations

import asyncio
import struct
import zlib
from typing import TYPE_CHECKING

from feed import feed
from fleet import PATIENT, ROLES, Fleet, until
from follower import Follower
from plain_names import OBJECTS
from topics_anew import all_ready
from typer.testing import CliRunner
from worker_pages import read_page

from ebs.cli import cli

if TYPE_CHECKING:
    from pathlib import Path

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
DAMAGED = 2
QUICK = {**PATIENT, "EBS_STALL_TIMEOUT_S": "12"}
"""A standstill would end the worker after so long."""


def damage_last_batch(log: Path) -> int:
    """Overwrite the length of the last batch of a log; returns the batch's offset."""
    (segment,) = log.glob("*.log")
    data, at = segment.read_bytes(), 0
    while True:
        offset, length = struct.unpack_from(">qi", data, at)
        if at + 12 + length >= len(data):
            break
        at += 12 + length
    with segment.open("r+b") as file:
        file.seek(at + 8)
        file.write(bytes(4))
    return int(offset)


async def test_damaged_log_is_named_and_the_other_partitions_go_on(
    broker: EmbeddedKafka, fleet: Fleet, monkeypatch
) -> None:
    """Without the mend the worker ended as one that stands still, again and again, and its other partitions waited."""
    for role in ROLES:
        fleet.start(role, **QUICK)
    await all_ready(fleet)
    await fleet.terminate("distribution-1")
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        for _ in range(2):
            await feed(broker.bootstrap, 40, partitions=PARTITIONS)
        at = damage_last_batch(broker.directory / "log" / f"{OBJECTS}-{DAMAGED}")
        worker = fleet.start("distribution", **QUICK)
        words = f"the broker cannot read {OBJECTS}-{DAMAGED} from offset {at} on (CORRUPT_MESSAGE"
        await until(lambda: words in read_page(worker, "/readyz").text, "the worker to say so", fleet=fleet)
        accepted = await feed(broker.bootstrap, 200, partitions=PARTITIONS)
        going = {one for one in accepted if zlib.crc32(one.encode()) % PARTITIONS != DAMAGED}
        await until(lambda: follower.look(lambda: follower.finished_objects >= going), "the others", fleet=fleet)
    for name, value in {"BROKER": broker.bootstrap, "PARTITIONS": str(PARTITIONS)}.items():
        monkeypatch.setenv(f"EBS_{name}", value)
    told = await asyncio.to_thread(CliRunner().invoke, cli, ["doctor", "--json", "--api", "http://127.0.0.1:1"])
    assert f": {words}" in told.stdout
    assert worker.log().count(words) <= 3
    assert worker.exit_code is None
