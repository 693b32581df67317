"""Two systems on one broker, told apart by their namespaces: each works and counts its own, exactly."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from api_process import ApiProcess
from checker import differences, read_topics
from feed import feed
from fleet import PATIENT, running_fleet, until
from follower import Follower

from app.local.embedded_kafka import EmbeddedKafka
from app.names import BARE, ROLES, Names
from app.settings import load
from app.topics import catalogue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARTITIONS = 2
SYSTEMS = {BARE: 30, Names("acme.test"): 50}
"""How many objects each gets: one has no namespace at all, as all had before there were any."""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Return a running broker of this file's own: the bare names are taken once only."""
    kafka = EmbeddedKafka(tmp_path_factory.mktemp("broker"), port=0)
    asyncio.run(kafka.start())
    yield kafka
    asyncio.run(kafka.stop())


async def names_on(bootstrap: str) -> tuple[set[str], set[str]]:
    """Return the topics and the groups of a broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = {one for one in await admin.list_topics() if not one.startswith("__")}
        return topics, {group for group, *_ in await admin.list_consumer_groups()}
    finally:
        await admin.close()


async def test_two_systems_on_one_broker_count_their_own(broker: EmbeddedKafka, tmp_path: Path) -> None:
    """The same data directory too: neither takes the other one's objects, offsets, rows, stores or view."""
    bootstrap = broker.bootstrap
    common = {"EBS_BROKER": bootstrap, "EBS_PARTITIONS": str(PARTITIONS), "EBS_DATA_DIR": str(tmp_path / "data")}
    with ExitStack() as running:
        fleets, apis = {}, {}
        for names in SYSTEMS:
            directory = tmp_path / (names.namespace or "bare")
            directory.mkdir()
            start = running_fleet(bootstrap, directory, PARTITIONS, namespace=names.namespace, **PATIENT | common)
            fleets[names] = running.enter_context(start)
            fleets[names].start_all()
        for names in SYSTEMS:
            directory = tmp_path / (names.namespace or "bare")
            api = ApiProcess(directory, namespace=names.namespace, **common)
            apis[names] = running.enter_context(api)
        for names, count in SYSTEMS.items():
            posted = apis[names].client.post("/api/objects", params={"count": 10}).json()
            accepted = await feed(bootstrap, count - 10, partitions=PARTITIONS, names=names)
            async with Follower(bootstrap, PARTITIONS, names) as follower:
                await until(
                    lambda follower=follower, count=count: follower.has_finished_objects(count),
                    f"{count} objects of {names}",
                    fleet=fleets[names],
                )
            assert [] == await differences(bootstrap, names, accepted=[*accepted, *posted["ids"]])
        for names, count in SYSTEMS.items():
            topics = await read_topics(bootstrap, names)
            assert (count, count, []) == (topics.object_record_count, len(topics.ledger), topics.dead_letters)
            await until(lambda names=names, count=count: finished(apis[names]) >= 3 * count, f"the view of {names}")
            assert 3 * count == finished(apis[names])
            workers = apis[names].client.get("/api/workers").json()
            assert (names.namespace, sorted(ROLES)) == (
                workers["namespace"],
                sorted(one["role"] for one in workers["workers"]),
            )
            assert names.namespace == apis[names].client.get("/readyz").json().get("namespace", "")
    every = [load(namespace=names.namespace, partitions=PARTITIONS) for names in SYSTEMS]
    topics_there, groups_there = await names_on(bootstrap)
    assert {spec.name for settings in every for spec in catalogue(settings)} == topics_there
    assert {names.group(role) for names in SYSTEMS for role in ROLES} == groups_there


def finished(api: ApiProcess) -> int:
    """Return how many tasks the API counts as finished."""
    return int(api.client.get("/api/statistics").json()["tasks_finished"])
