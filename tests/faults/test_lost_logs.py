"""Logs that are lost, or made anew, behind the workers' backs: of their tables, and of what they read."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from checker import differences
from feed import feed
from fleet import ROLES, Fleet, until
from follower import Follower
from plain_names import (
    EXPIRY_CHANGELOG,
    LEDGER_CHANGELOG,
    OBJECTS,
    REDRIVEN_CHANGELOG,
    RESULTS_CHANGELOG,
    SEEN_CHANGELOG,
    TASK_REQUESTS,
    WAITING_CHANGELOG,
    WINDOWS_CHANGELOG,
)
from topics_anew import all_ready, make_anew
from typer.testing import CliRunner

from app.kafka.cluster import Cluster
from app.names import DISTRIBUTION, PROCESSING, STATISTICS
from app.streaming.application import EXIT_INPUTS_CHANGED, EXIT_STEP_FAILED, EXIT_UNDECIDED
from ebs.cli import cli

if TYPE_CHECKING:
    from click.testing import Result

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
SESSION_S = "15"
SOON_MISSED = {"EBS_SESSION_TIMEOUT_S": SESSION_S, "EBS_TRANSACTION_TIMEOUT_S": "20", "EBS_STALL_TIMEOUT_S": "12"}
"""Offsets are set once the last worker's session is over. A look each second."""
PATIENT = {**SOON_MISSED, "EBS_STALL_TIMEOUT_S": "300"}
"""Of a worker that is frozen while its broker starts, which would be killed after four times that."""


@pytest.fixture
def settings(broker: EmbeddedKafka, monkeypatch) -> None:
    """Let the `ebs` command of this process mean the test's broker."""
    for name, value in {
        "BROKER": broker.bootstrap,
        "PARTITIONS": str(PARTITIONS),
        "SESSION_TIMEOUT_S": SESSION_S,
    }.items():
        monkeypatch.setenv(f"EBS_{name}", value)


async def ebs(*arguments: str) -> Result:
    """Run an `ebs` command in a thread of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli, list(arguments))


async def lose_logs(broker: EmbeddedKafka, topic: str) -> None:
    """Take the logs of a topic from the broker while it is down, as a new disk does; the topic stays the same."""
    broker.kill()
    lost = list((broker.directory / "log").glob(f"{topic}-[0-9]"))
    assert PARTITIONS == len(lost)
    for directory in lost:
        shutil.rmtree(directory)
    await broker.start()


async def lose_tails(broker: EmbeddedKafka, topic: str) -> None:
    """Take the newest records of a topic from the broker while it is down, as a power cut does."""
    broker.kill()
    logs = list((broker.directory / "log").glob(f"{topic}-[0-9]/*.log"))
    assert PARTITIONS == len(logs)
    for log in logs:
        ends = _transaction_ends(log.read_bytes())
        with log.open("r+b") as file:
            file.truncate(ends[len(ends) * 3 // 4 - 1])
    await broker.start()


def _transaction_ends(data: bytes) -> list[int]:
    """Return behind which bytes of a log a transaction's marker ends (KIP-98: length at 8, attributes at 21)."""
    ends, start = [], 0
    while start < len(data) - 23:
        end = start + 12 + int.from_bytes(data[start + 8 : start + 12])
        if data[start + 22] & 0x20:
            ends.append(end)
        start = end
    return ends


async def work(broker: EmbeddedKafka, fleet: Fleet, count: int) -> list[str]:
    """Feed objects and wait until they are finished; returns their ids."""
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        accepted = await feed(broker.bootstrap, count, partitions=PARTITIONS)
        await until(
            lambda: follower.look(lambda: follower.finished_objects >= set(accepted)), f"{count} objects", fleet=fleet
        )
    return accepted


async def ended(fleet: Fleet, code: int, *names: str) -> None:
    """Wait until workers have ended with an exit code."""
    workers = [fleet.workers[name] for name in names]
    await until(lambda: all(one.exit_code is not None for one in workers), f"{names} to end", fleet=fleet)
    assert {code} == {one.exit_code for one in workers}, fleet.last_words()


@pytest.mark.usefixtures("settings")
async def test_table_whose_changelog_was_made_anew_is_refused_until_a_person_decides(
    broker: EmbeddedKafka, fleet: Fleet
) -> None:
    """Without the mend the worker went on with an empty table, and said so once, in its log."""
    for role in ROLES:
        fleet.start(role, **SOON_MISSED)
    await all_ready(fleet)
    accepted = await work(broker, fleet, 40)
    await make_anew(broker.bootstrap, PARTITIONS, SEEN_CHANGELOG)
    await ended(fleet, EXIT_INPUTS_CHANGED, "distribution-1")
    fleet.revive()
    await ended(fleet, EXIT_UNDECIDED, "distribution-1")
    assert f"the rows of {SEEN_CHANGELOG} are gone" in fleet.workers["distribution-1"].log()
    told = await ebs("doctor", "--json", "--api", "http://127.0.0.1:1")
    assert "ebs offsets reset --role distribution --to committed" in told.stdout
    done = await ebs("offsets", "reset", "--role", "distribution", "--to", "committed")
    assert (0, True) == (done.exit_code, "4 offsets set" in done.stdout), done.output
    fleet.revive()
    await all_ready(fleet)
    accepted += await work(broker, fleet, 40)
    # The notes are written again: the next life does not need a decision.
    await fleet.terminate("distribution-1")
    fleet.start("distribution", **SOON_MISSED)
    accepted += await work(broker, fleet, 40)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found
    # The doctor tells an input that was made anew from lost offsets, with which processing refuses to start.
    await fleet.terminate("processing-1")
    await make_anew(broker.bootstrap, PARTITIONS, TASK_REQUESTS)
    told = await ebs("doctor", "--json", "--api", "http://127.0.0.1:1")
    assert f"{TASK_REQUESTS} (partitions 0, 1, 2, 3) was recreated since it was worked" in told.stdout
    assert "committed offsets are gone" not in told.stdout


@pytest.mark.usefixtures("settings")
async def test_changelog_that_has_lost_its_tail_is_refused(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Behind a running worker, also if that worker makes the log longer again, and behind a stopped one."""
    for role in ROLES:
        fleet.start(role, **SOON_MISSED)
    await all_ready(fleet)
    for _ in range(3):  # so that the note, in the first step's batch, is not in the tail
        await work(broker, fleet, 40)
    await lose_tails(broker, SEEN_CHANGELOG)
    await feed(broker.bootstrap, 800, partitions=PARTITIONS)
    await ended(fleet, EXIT_STEP_FAILED, "distribution-1")
    assert f"the broker has lost rows of {SEEN_CHANGELOG}" in fleet.workers["distribution-1"].log()
    await refused_until_decided(fleet)
    await work(broker, fleet, 40)
    await fleet.terminate("distribution-1")
    await lose_tails(broker, SEEN_CHANGELOG)
    fleet.start("distribution", **SOON_MISSED)
    await refused_until_decided(fleet)


async def refused_until_decided(fleet: Fleet) -> None:
    """See distribution refuse to start for its lost rows, and go on after a decision."""
    fleet.revive()
    await ended(fleet, EXIT_UNDECIDED, "distribution-1")
    assert f"the newest rows of {SEEN_CHANGELOG} are gone" in fleet.workers["distribution-1"].log()
    told = await ebs("doctor", "--json", "--api", "http://127.0.0.1:1")
    assert f"{SEEN_CHANGELOG} (partition" in told.stdout
    assert "ebs offsets reset --role distribution --to committed" in told.stdout
    done = await ebs("offsets", "reset", "--role", "distribution", "--to", "committed")
    assert (0, True) == (done.exit_code, "4 offsets set" in done.stdout), done.output
    fleet.revive()
    await all_ready(fleet)


JUNK = {
    DISTRIBUTION: {SEEN_CHANGELOG: b"junk"},
    PROCESSING: {REDRIVEN_CHANGELOG: b"", WAITING_CHANGELOG: b"junk"},
    STATISTICS: {LEDGER_CHANGELOG: b"{}", RESULTS_CHANGELOG: b"", WINDOWS_CHANGELOG: b"1", EXPIRY_CHANGELOG: b"\xff"},
}
"""By role and changelog a value that is no row."""


@pytest.mark.usefixtures("settings")
async def test_foreign_records_in_changelogs_are_refused_until_the_rows_are_put_back(
    broker: EmbeddedKafka, fleet: Fleet
) -> None:
    """Over the newest row of each partition, over its note, and under a key of their own."""
    for role in ROLES:
        fleet.start(role, **SOON_MISSED)
    await all_ready(fleet)
    accepted = await work(broker, fleet, 40)
    for role in ROLES:
        await fleet.terminate(f"{role}-1")
    for values in JUNK.values():
        for changelog, value in values.items():
            await write_over(broker, changelog, value)
    for role in ROLES:
        fleet.start(role, **SOON_MISSED)
    await ended(fleet, EXIT_UNDECIDED, *(f"{role}-1" for role in ROLES))
    told = await ebs("doctor", "--json", "--api", "http://127.0.0.1:1")
    assert len(ROLES) == told.stdout.count("records in its changelogs are no rows: ")
    for role, values in JUNK.items():
        log = fleet.workers[f"{role}-1"].log()
        assert f"the changelogs of {role} have records that are no rows of its tables: {min(values)}-" in log
        assert f"ebs offsets reset --role {role} --to committed" in log
        done = await ebs("offsets", "reset", "--role", role, "--to", "committed")
        assert (0, True) == (done.exit_code, "is no row: its key has the row that was there before" in done.output)
    fleet.revive()
    await all_ready(fleet)
    accepted += await work(broker, fleet, 40)
    found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, found


async def write_over(broker: EmbeddedKafka, changelog: str, value: bytes) -> None:
    """Write a foreign record over the newest row of each partition of a changelog, and under keys of its own."""
    newest: dict[int, set[bytes]] = {number: {b"", b"foreign"} for number in range(PARTITIONS)}
    async with Cluster(broker.bootstrap).reader("test") as reader:
        partitions = [TopicPartition(changelog, number) for number in range(PARTITIONS)]
        ends = await reader.end_offsets(partitions)
        reader.assign(partitions)
        await reader.seek_to_beginning(*partitions)
        last: dict[int, bytes] = {}
        while any([await reader.position(tp) < ends[tp] for tp in partitions]):
            for tp, records in (await reader.getmany(timeout_ms=200)).items():
                last.update((tp.partition, record.key) for record in records if record.key)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap) as producer:
        for number, keys in newest.items():
            for key in keys | {last.get(number, b"")}:
                await producer.send_and_wait(changelog, value, key, partition=number)


@pytest.mark.usefixtures("settings")
async def test_log_that_was_lost_and_grew_again_is_refused(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """The committed offsets lie inside the new log: without the mend its first records were skipped, silently."""
    for role in ROLES:
        fleet.start(role, **PATIENT)
    await all_ready(fleet)
    await work(broker, fleet, 200)
    await fleet.terminate("statistics-1")
    fleet.freeze("distribution-1")
    await lose_logs(broker, OBJECTS)
    waiting = await feed(broker.bootstrap, 800, partitions=PARTITIONS)
    fleet.thaw("distribution-1")
    await ended(fleet, EXIT_STEP_FAILED, "distribution-1")
    assert "the broker has lost its records from 0 on" in fleet.workers["distribution-1"].log()
    fleet.revive()
    fleet.start("statistics", **PATIENT)
    await ended(fleet, EXIT_UNDECIDED, "distribution-1", "statistics-1")
    assert "the broker has lost its records from 0 on" in fleet.workers["statistics-1"].log()
    told = await ebs("doctor", "--json", "--api", "http://127.0.0.1:1")
    assert 2 == told.stdout.count(f"the broker has lost records of {OBJECTS}")
    # Of distribution those of `schedules`, too: nothing was ever committed there.
    for role, count in (("distribution", 8), ("statistics", 4)):
        done = await ebs("offsets", "reset", "--role", role, "--to", "earliest")
        assert (0, True) == (done.exit_code, f"{count} offsets set" in done.stdout), done.output
    fleet.revive()
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await until(
            lambda: follower.look(lambda: follower.finished_objects >= set(waiting)), "what came since", fleet=fleet
        )
