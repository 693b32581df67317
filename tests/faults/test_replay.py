"""The tables are made again from the topics, as docs/how-to/backup-and-replay.md says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient
from callback_receiver import SECRET, Receiver
from checker import differences
from feed import feed
from fleet import PATIENT, Fleet, said, until
from follower import lag_of
from plain_names import OBJECTS as OBJECTS_TOPIC
from plain_names import STATISTICS_APP, TASK_EVENTS

from app.kafka.cluster import Cluster
from app.names import STATISTICS, WorkerGroup
from app.rules.worked_tasks import EARLIEST
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics
from ebs.doctor.offset_reset import reset_offsets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ebs.local.embedded_kafka import EmbeddedKafka

PARTITIONS = 4
OBJECTS = 300


async def forget_statistics(bootstrap: str) -> None:
    """Delete the changelogs of the statistics, make them again, and set the group back to the beginning."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        topics = [one for one in await admin.list_topics() if one.startswith(f"{STATISTICS_APP}-")]
        assert len(topics) >= 2
        await admin.delete_topics(topics)
    finally:
        await admin.close()
    settings = load(broker=bootstrap, partitions=PARTITIONS)
    cluster = Cluster(bootstrap)
    await ensure_topics(cluster, catalogue(settings))
    done = await reset_offsets(
        cluster,
        settings.names,
        WorkerGroup(STATISTICS),
        [OBJECTS_TOPIC, TASK_EVENTS],
        EARLIEST,
        all_partitions=True,
        patience_s=60,
        say=print,
    )
    assert 2 * PARTITIONS == len(done)


async def test_tables_are_made_again_from_the_topics(broker: EmbeddedKafka, fleet: Fleet) -> None:
    """Without changelogs, and from the first record on, ledger and windows come out the same; no callback goes again.

    Nor is any told of once more on the topics, which the checker looks at.
    """

    async def has_caught_up() -> bool:
        return await lag_of(broker.bootstrap, STATISTICS_APP, [OBJECTS_TOPIC, TASK_EVENTS], PARTITIONS) == 0

    async with Receiver() as receiver:
        fleet.start_all(**PATIENT, EBS_WEBHOOK_HOSTS="127.0.0.1", EBS_WEBHOOK_SECRET=SECRET)
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers to be ready", fleet=fleet)
        accepted = await feed(broker.bootstrap, OBJECTS, partitions=PARTITIONS, callback_url=receiver.url())
        await until(lambda: len(receiver.received) == OBJECTS, "all callbacks received", fleet=fleet)
        await _count_again(broker, fleet, has_caught_up)
        found = await differences(broker.bootstrap, accepted=accepted)
    assert [] == found, "\n".join([*found, fleet.last_words()])
    assert Counter(f"e-{one}-1" for one in accepted) == Counter(one.headers["webhook-id"] for one in receiver.received)


async def _count_again(broker: EmbeddedKafka, fleet: Fleet, has_caught_up: Callable[[], Awaitable[bool]]) -> None:
    await until(has_caught_up, "the first counting", fleet=fleet)
    await fleet.terminate("statistics-1", expected_code=0)
    await forget_statistics(broker.bootstrap)
    again = fleet.start("statistics", "statistics-2", **PATIENT)
    await until(lambda: said([again], "are ready: "), "the second statistics worker", fleet=fleet)
    await until(has_caught_up, "the second counting", fleet=fleet)
