"""`ebs recount` on a real broker: exact while the system runs, and what it says when tables or topics are not whole."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from api_process import PATIENCE_S
from broker_site import PARTITIONS
from checker import read_all, read_topics
from feed import feed, feeding
from fleet import PATIENT, running_fleet, said, until
from follower import Follower
from plain_names import LEDGER_CHANGELOG, TASK_EVENTS

from app.addresses.ports import free_port
from app.rules.ledger_rows import decode_row, encode_row

if TYPE_CHECKING:
    from pathlib import Path

    from broker_site import Site

    from ebs.local.embedded_kafka import EmbeddedKafka

FIRST_OBJECTS = 400
RATE_PER_S = 20
"""Some objects end while a recount starts, and on a slow machine not thousands: each recount reads all of them."""
RECOUNTS = 3
MOST_RECOUNTS = 20
LOST_BEFORE = 300
"""The first offset of a partition of events that is left."""


@pytest.fixture
def broker(site: Site) -> EmbeddedKafka:
    """Return a running broker with all topics, of this test's own."""
    return site.broker


async def recount(bootstrap: str, *options: str) -> tuple[int, str, str]:
    """Run the command as a user does; returns exit code, stdout and stderr."""
    env = os.environ | {"EBS_BROKER": bootstrap}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from ebs.cli import main; main()", "recount", *options),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), timeout=PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def counted(bootstrap: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and JSON of a recount."""
    code, out, err = await recount(bootstrap, "--json", *options)
    assert out, err
    return code, json.loads(out)


async def test_recount_is_exact_while_the_system_runs(broker: EmbeddedKafka, tmp_path: Path) -> None:
    """Equal at any moment under load; then records are gone, which is said, and a row is changed, which is named."""
    with running_fleet(broker.bootstrap, tmp_path, PARTITIONS, **PATIENT) as fleet:
        fleet.start_all()
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        async with Follower(broker.bootstrap, PARTITIONS) as follower:
            first = await feed(broker.bootstrap, FIRST_OBJECTS, partitions=PARTITIONS)
            await until(lambda: follower.has_finished_objects(FIRST_OBJECTS), "some objects", fleet=fleet)
            async with feeding(broker.bootstrap, partitions=PARTITIONS, rate_per_s=RATE_PER_S) as accepted:
                seen: list[int] = []
                while len(set(seen)) < RECOUNTS:
                    assert len(seen) < MOST_RECOUNTS, f"the system must go on between two recounts: {seen}"
                    code, told = await counted(broker.bootstrap)
                    assert (0, True, []) == (code, told["equal"], told["differences"])
                    assert {"objects": 0, "windows": 0, "totals": 0, "reasons": {}} == told["cannot_be_compared"]
                    seen.append(told["compared"]["objects"])
                assert seen == sorted(seen)
            await until(lambda: follower.has_finished_objects(len(first + accepted)), "the end", fleet=fleet)
            await until(lambda: follower.has_ended_tasks(3 * len(first + accepted)), "all tasks", fleet=fleet)
        code, out, _ = await recount(broker.bootstrap)
        assert 0 == code
        assert "equal: the tables match the topics" in out
        await _what_is_gone_is_said(broker.bootstrap)
        await _what_was_changed_is_named(broker.bootstrap)


async def _what_is_gone_is_said(bootstrap: str) -> None:
    events = [one async for one in read_all(bootstrap, [TASK_EVENTS]) if one.partition == 1]
    short = {one.key for one in events if one.offset < LOST_BEFORE}
    assert len(short) < len({one.key for one in events}), "some are left whole"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(TASK_EVENTS, 1): RecordsToDelete(before_offset=LOST_BEFORE)})
    finally:
        await admin.close()
    code, told = await counted(bootstrap)
    assert (0, True) == (code, told["equal"])
    skipped = told["cannot_be_compared"]
    assert len(short) == skipped["objects"]
    assert (1, {"its records were already deleted from the topics"}) == (skipped["totals"], set(skipped["reasons"]))
    code, _, err = await recount(bootstrap, "--partition", "9")
    assert (2, True) == (code, "there is no partition 9: the partitions are 0 to 3" in err)
    code, told = await counted(bootstrap, "--partition", "0", "--partition", "2")
    assert (0, 0, 2) == (code, told["cannot_be_compared"]["objects"], told["compared"]["totals"])


async def _what_was_changed_is_named(bootstrap: str) -> None:
    topics = await read_topics(bootstrap)
    changed = next(one for one in topics.ledger if topics.object_partition[one] == 0)
    row = decode_row(topics.ledger[changed])
    row.tasks[2].spent_ms += 7
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        await producer.send_and_wait(LEDGER_CHANGELOG, encode_row(row), changed.encode(), partition=0)
    code, out, _ = await recount(bootstrap)
    assert 1 == code
    lines = [line for line in out.splitlines() if changed in line]
    named = [f"partition 0: object {changed}: {name}" for name in ("time_spent_ms", "task 2 spent_ms")]
    assert named == [line.partition(" is")[0] for line in lines]
    code, told = await counted(bootstrap)
    assert (1, False, 2) == (code, told["equal"], len(told["differences"]))
    assert {"partition": 0, "what": "object", "name": changed}.items() <= told["differences"][0].items()


async def test_what_cannot_be_counted_is_exit_code_2() -> None:
    """No broker, or wrong usage: neither equal nor different, and one line says why."""
    nobody = f"127.0.0.1:{free_port()}"
    code, out, err = await recount(nobody)
    assert (2, "") == (code, out)
    assert f"no Kafka broker at {nobody}" in err
    assert 1 == len(err.strip().splitlines())
    code, _, err = await recount(nobody, "--partition", "x")
    assert 2 == code


async def test_broker_without_the_topics_is_exit_code_2(kafka: EmbeddedKafka) -> None:
    """Nothing is made there, and the message asks whether it is the right one."""
    code, _, err = await recount(kafka.bootstrap)
    assert (2, True) == (code, "has no topic" in err)
