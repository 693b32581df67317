"""Two systems on one broker, told apart by their namespaces: each works and counts its own, exactly."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from api_process import ApiProcess
from checker import differences, read_all, read_topics
from feed import feed
from fleet import PATIENT, running_fleet, until
from follower import Follower

from app.errors import BrokerError, ForeignTopics, TopicMismatch
from app.kafka.cluster import Cluster
from app.names import BARE, ROLES, Names
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared_broker import SharedBroker

    from app.topics.catalogue import TopicSpec
    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 2
SYSTEMS = {BARE: 30, Names("acme.test"): 50}
"""How many objects each gets: one has no namespace at all, as all had before there were any."""
PAYLOAD = {"name": "posted", "content": "by a program"}


@pytest.fixture(scope="module")
def broker(shared_broker: SharedBroker) -> Iterator[EmbeddedKafka]:
    """Return a running broker for all tests of this file: the bare names are taken once only."""
    with shared_broker.lent() as kafka:
        yield kafka


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
            posted = apis[names].client.post("/api/objects", params={"count": 10}, json=PAYLOAD).json()
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
        names = Names("acme.test")
        async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send_and_wait(names.objects, b"no json", b"key", partition=0)
        await until(lambda: len(letters(apis[names])) == 1, "the dead letter", fleet=fleets[names])
        assert [] == letters(apis[BARE])
        (letter,) = letters(apis[names])
        assert names.objects == letter["topic"]
        assert 202 == apis[names].client.post(f"/api/dead-letters/{letter['id']}/redrive").status_code
        await until(lambda: len(letters(apis[names])) == 2, "its second death", fleet=fleets[names])
    every = [load(namespace=names.namespace, partitions=PARTITIONS) for names in SYSTEMS]
    topics_there, groups_there = await names_on(bootstrap)
    topics_there = {one for one in topics_there if "." not in one or one.startswith("acme.test.")}
    assert {spec.name for settings in every for spec in catalogue(settings)} == topics_there
    assert {names.group(role) for names in SYSTEMS for role in ROLES} == groups_there


def letters(api: ApiProcess) -> list[dict[str, str]]:
    """Return the dead letters of a system, the newest first."""
    found: list[dict[str, str]] = api.client.get("/api/dead-letters").json()["dead_letters"]
    return found


def finished(api: ApiProcess) -> int:
    """Return how many tasks the API counts as finished."""
    return int(api.client.get("/api/statistics").json()["tasks_finished"])


async def make_topic(bootstrap: str, spec: TopicSpec, *, records: int = 0, partition_count: int = 0) -> None:
    """Make a topic as anybody may, with so many records of theirs."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    count = partition_count or spec.partition_count
    await admin.create_topics([NewTopic(spec.name, count, 1, topic_configs=dict(spec.config))])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as producer:
        for number in range(records):
            await producer.send_and_wait(spec.name, b"theirs %d" % number, b"key", partition=0)


def specs_of(namespace: str) -> dict[str, TopicSpec]:
    """Return the catalogue of a namespace by bare names."""
    settings = load(namespace=namespace, partitions=PARTITIONS)
    return {settings.names.bare(spec.name): spec for spec in catalogue(settings)}


async def refusal_of(bootstrap: str, specs: dict[str, TopicSpec]) -> str:
    """Return why the topics of a namespace are refused."""
    with pytest.raises(ForeignTopics) as refusal:
        await ensure_topics(Cluster(bootstrap), specs.values())
    return str(refusal.value)


@pytest.mark.parametrize("partition_count", [PARTITIONS, PARTITIONS + 1])
@pytest.mark.parametrize("records", [0, 3])
async def test_topic_of_somebody_else_is_refused_and_left_alone(
    broker: EmbeddedKafka, records: int, partition_count: int
) -> None:
    """Of our shape or another, empty or not: the setting that helps is named, nothing is made, written or deleted."""
    specs = specs_of(f"theirs-{records}-{partition_count}")
    await make_topic(broker.bootstrap, specs["objects"], records=records, partition_count=partition_count)
    said = await refusal_of(broker.bootstrap, specs)
    assert f"topic {specs['objects'].name} exists" in said
    assert "EBS_NAMESPACE" in said
    assert "--delete" not in said
    topics, _ = await names_on(broker.bootstrap)
    assert {specs["objects"].name} == topics & {spec.name for spec in specs.values()}
    assert records == len([one async for one in read_all(broker.bootstrap, [specs["objects"].name])])


async def test_topic_that_takes_the_place_of_ours_is_refused(broker: EmbeddedKafka) -> None:
    """A topic of the same name that was recreated and written to is another one; an empty one is taken."""
    specs = specs_of("replaced")
    await ensure_topics(Cluster(broker.bootstrap), specs.values())
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.delete_topics([specs["control"].name, specs["objects"].name])
    await admin.close()
    await make_topic(broker.bootstrap, specs["control"])
    assert [specs["objects"].name] == [
        one.shape.name for one in await ensure_topics(Cluster(broker.bootstrap), specs.values()) if one.made
    ]
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.delete_topics([specs["objects"].name])
    await admin.close()
    await make_topic(broker.bootstrap, specs["objects"], records=1)
    assert f"topic {specs['objects'].name} exists" in await refusal_of(broker.bootstrap, specs)


async def test_topics_that_exist_are_adopted_with_one_command(broker: EmbeddedKafka) -> None:
    """Made by an administrator, or by a version that noted nothing: `ebs topics --adopt`, then all is as ever."""
    specs = specs_of("adopted")
    for name in ("objects", "task-events"):
        await make_topic(broker.bootstrap, specs[name], records=1)
    await refusal_of(broker.bootstrap, specs)
    reports = await ensure_topics(Cluster(broker.bootstrap), specs.values(), adopt=True)
    assert {specs["objects"].name, specs["task-events"].name} == {one.shape.name for one in reports if one.adopted}
    again = await ensure_topics(Cluster(broker.bootstrap), specs.values())
    assert {False} == {one.made or one.adopted for one in again}
    # A topic that we did not make is never to be deleted, whatever is wrong with it.
    with pytest.raises(TopicMismatch) as refusal:
        await ensure_topics(Cluster(broker.bootstrap), [replace(one, partition_count=7) for one in specs.values()])
    assert "--delete" not in str(refusal.value)


async def test_adoption_does_not_take_what_cannot_be_ours(broker: EmbeddedKafka) -> None:
    """A topic of another shape stays what it is, and no message offers to delete it."""
    specs = specs_of("unfit")
    await make_topic(broker.bootstrap, specs["objects"], partition_count=PARTITIONS + 1)
    with pytest.raises(TopicMismatch) as refusal:
        await ensure_topics(Cluster(broker.bootstrap), specs.values(), adopt=True)
    assert "EBS_NAMESPACE" in str(refusal.value)
    assert "--delete" not in str(refusal.value)
    assert "exists" in await refusal_of(broker.bootstrap, specs)


async def test_note_of_somebody_else_is_refused(broker: EmbeddedKafka) -> None:
    """Where the topic of our notes is somebody else's, nothing is written to it."""
    specs = specs_of("noted")
    await make_topic(broker.bootstrap, specs["ebs-topics"], records=2)
    said = await refusal_of(broker.bootstrap, specs)
    assert f"topic {specs['ebs-topics'].name} holds records that are not ours" in said
    assert 2 == len([one async for one in read_all(broker.bootstrap, [specs["ebs-topics"].name])])


async def test_many_that_start_at_once_make_the_topics_once(broker: EmbeddedKafka) -> None:
    """None takes what another one is making for somebody else's."""
    specs = specs_of("at-once")
    reports = await asyncio.gather(*(ensure_topics(Cluster(broker.bootstrap), specs.values()) for _ in range(6)))
    assert [1] * len(specs) == [sum(report[number].made for report in reports) for number in range(len(specs))]
    assert {False} == {one.adopted for report in reports for one in report}


async def test_namespaces_that_kafka_confuses_are_refused_in_words(broker: EmbeddedKafka) -> None:
    """To Kafka's metrics `.` and `_` are the same, so it takes only one of two such names."""
    await ensure_topics(Cluster(broker.bootstrap), specs_of("con.fused").values())
    with pytest.raises(BrokerError, match=r"con_fused\.ebs-topics.*choose another EBS_NAMESPACE"):
        await ensure_topics(Cluster(broker.bootstrap), specs_of("con_fused").values())
