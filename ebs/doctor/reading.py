"""Finds the facts out; writes nothing anywhere."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from collections import defaultdict
from typing import TYPE_CHECKING

from app.errors import ForeignTopics
from app.kafka.admin import read_broker_config, read_topic_configs
from app.kafka.errors import KafkaError, TopicAuthorizationFailedError
from app.kafka.features import forgets_transactions, read_features, transaction_version
from app.kafka.groups import NOTHING_COMMITTED, read_committed, read_member_count, unowned_numbers
from app.kafka.log_dirs import biggest_partitions
from app.kafka.topic_metadata import read_topics
from app.kafka.types import TopicPartition
from app.names import PROCESSING
from app.rules.worker_heartbeats import HEARTBEAT_EVERY_S, decode_heartbeat
from app.streaming.group_positions import read_commits, told_ends_of
from app.streaming.offset_notes import has_decision
from app.topics.catalogue import NOTES_TABLES, catalogue, changelogs, groups_of, input_topics
from app.topics.registry import TopicRegistry
from ebs.doctor.changelogs import foreign_in_changelogs, rows_waiting, worked_topic_ids
from ebs.doctor.facts import GroupFacts, SystemFacts, TopicFacts, WorkerFacts
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from app.kafka.cluster import Cluster
    from app.kafka.fencing import CommittedOffset
    from app.kafka.reading import RecordReader
    from app.kafka.types import AIOKafkaAdminClient
    from app.names import WorkerGroup
    from app.settings.settings import Settings
    from app.topics.ownership import TopicClaim

_TIMEOUT_MS = 15_000
_POLL_MS = 100


async def read_facts(settings: Settings, cluster: Cluster, queues: Sequence[str] = (DEFAULT_QUEUE,)) -> SystemFacts:
    """Return the facts of a broker that answers; `project_error` and `waiting_letters` are others' to find out.

    `queues` are those that kinds of the project have.
    Takes a heartbeat's time longer where workers live. Raises aiokafka's errors if the broker goes away meanwhile.
    """
    cluster = cluster.within(_TIMEOUT_MS)
    async with (
        cluster.admin("ebs-doctor") as admin,
        cluster.reader("ebs-doctor", isolation_level="read_uncommitted") as consumer,
    ):
        known = settings.names
        # Tasks may wait in queues of an earlier project, and on the retry topics of an earlier version.
        listed = await admin.list_topics()
        retired = sorted({*map(known.queue_of_topic, listed)} - {"", *queues})
        every_queue = [*queues, *retired]
        names = [spec.name for spec in catalogue(settings, queues=every_queue)]
        names += sorted(name for name in listed if known.is_former_retry_topic(name))
        described = await admin.describe_cluster()
        node_ids = [broker["node_id"] for broker in described["brokers"]]
        topics = await _read_topics(admin, names, node_ids)
        topics = await _with_owners(topics, TopicRegistry(known.topics, cluster))
        workers, lead_ms = await _read_workers(consumer, known.workers) if known.workers in topics else ([], None)
        features = await read_features(consumer._client)  # noqa: SLF001  # aiokafka's has no getter
        usage = shutil.disk_usage(_existing(settings.data_dir))
        return SystemFacts(
            bootstrap=settings.broker,
            now_ms=time.time_ns() // 1_000_000,
            broker_count=len(node_ids),
            broker_configs=await read_broker_config(admin, node_ids[0]),
            topics=topics,
            groups=[
                await _read_group(admin, consumer, group, settings, topics)
                for group in groups_of(every_queue)
                if group.queue not in retired or known.requests(group.queue) in topics
            ],
            queues=queues,
            retired_queues={
                queue: await rows_waiting(consumer, known, queue, topics)
                for queue in retired
                if known.requests(queue) in topics and topics[known.requests(queue)].is_ours
            },
            workers=workers,
            fresh_heartbeat_lead_ms=lead_ms,
            transaction_version=transaction_version(features),
            forgets_transactions=forgets_transactions(features),
            disk_free_bytes=usage.free,
            disk_total_bytes=usage.total,
            missing_output_topics=[name for name in settings.output_topics if name not in listed],
        )


def _inputs_of(group: WorkerGroup, settings: Settings, topics: Mapping[str, TopicFacts]) -> list[str]:
    takes_over = group == (PROCESSING, DEFAULT_QUEUE)
    former = [name for name in topics if settings.names.is_former_retry_topic(name)] if takes_over else []
    return [*input_topics(group.role, settings, group.queue), *former]


async def _read_topics(
    admin: AIOKafkaAdminClient, names: Sequence[str], node_ids: Sequence[int]
) -> dict[str, TopicFacts]:
    described = {topic["topic"]: topic["partitions"] for topic in await admin.describe_topics() if topic["partitions"]}
    numbers = {name: range(len(described[name])) for name in names if name in described}
    biggest = await biggest_partitions(admin, node_ids, numbers)
    configs = await read_topic_configs(admin, numbers)
    return {
        name: TopicFacts(
            name=name,
            partition_count=len(described[name]),
            replication_factor=min(len(partition["replicas"]) for partition in described[name]),
            fewest_in_sync=min(len(partition["isr"]) for partition in described[name]),
            configs=configs.get(name),
            biggest_partition_bytes=biggest.get(name),
        )
        for name in names
        if name in described
    }


async def _with_owners(topics: Mapping[str, TopicFacts], registry: TopicRegistry) -> dict[str, TopicFacts]:
    """Return the topics with whose they are; the registry's own is judged by what is in it."""
    claims: Mapping[str, TopicClaim] = {}
    topic_ids = await registry.topic_ids(topics)
    is_registry_ours = True
    if registry.topic in topics:
        try:
            claims = await registry.read()
        except ForeignTopics:
            is_registry_ours = False
        except TopicAuthorizationFailedError:
            # Whose they are cannot be known, so nothing is said of it, and nothing is told to be deleted.
            return {name: dataclasses.replace(topic, made_by_us=False) for name, topic in topics.items()}

    def judged(topic: TopicFacts) -> TopicFacts:
        if topic.name == registry.topic:
            return dataclasses.replace(topic, is_ours=is_registry_ours, made_by_us=False)
        claim = claims.get(topic.name)
        is_ours = claim is not None and claim.topic_id == topic_ids.get(topic.name)
        return dataclasses.replace(topic, is_ours=is_ours, made_by_us=is_ours and not (claim and claim.adopted))

    return {name: judged(topic) for name, topic in topics.items()}


async def _read_group(
    admin: AIOKafkaAdminClient,
    consumer: RecordReader,
    group: WorkerGroup,
    settings: Settings,
    topics: Mapping[str, TopicFacts],
) -> GroupFacts:
    names = settings.names
    group_id, inputs = names.group(*group), _inputs_of(group, settings, topics)
    partitions = [
        TopicPartition(name, n) for name in inputs if name in topics for n in range(topics[name].partition_count)
    ]
    member_count = await read_member_count(admin, group_id)
    committed = await read_committed(admin, group_id, partitions) if partitions else {}
    begins = await consumer.beginning_offsets(partitions) if partitions else {}
    ends = await consumer.end_offsets(partitions) if partitions else {}
    lag: defaultdict[str, int] = defaultdict(int)
    lost: defaultdict[str, int] = defaultdict(int)
    gone: defaultdict[str, list[int]] = defaultdict(list)
    beyond: defaultdict[str, list[int]] = defaultdict(list)
    refilled: defaultdict[str, list[int]] = defaultdict(list)
    recreated: defaultdict[str, list[int]] = defaultdict(list)
    # While a transaction is open there is no answer: then a worker lives, and has looked when it claimed them.
    commits = (await read_commits(consumer._client, group_id, partitions) if partitions else None) or {}  # noqa: SLF001  # aiokafka's has no getter
    worked_ids = await worked_topic_ids(consumer, names, group, topics)
    ids = {name: one.topic_id for name, one in (await read_topics(consumer._client, inputs)).topics.items()}  # noqa: SLF001  # as above
    notes = names.changelog(group.role, NOTES_TABLES[group.role], group.queue)
    worked = await _written_numbers(consumer, notes, topics)
    for tp in partitions:
        offset = committed.get(tp, NOTHING_COMMITTED)
        worked_id = worked_ids.get((tp.topic, tp.partition))
        if worked_id and ids.get(tp.topic, worked_id) != worked_id and not has_decision(_metadata_of(commits, tp)):
            recreated[tp.topic].append(tp.partition)
            lag[tp.topic] += ends[tp] - begins[tp]
            continue
        if offset == NOTHING_COMMITTED and ends[tp] > 0 and tp.partition in worked:
            gone[tp.topic].append(tp.partition)
        if offset > ends[tp]:
            beyond[tp.topic].append(tp.partition)
        elif tp in commits and offset > commits[tp][1]:
            refilled[tp.topic].append(tp.partition)
        lag[tp.topic] += ends[tp] - max(begins[tp], offset)
        if NOTHING_COMMITTED < offset < begins[tp]:
            lost[tp.topic] += begins[tp] - offset
    unowned = await _unowned(admin, group_id, inputs, topics) if member_count else ()
    return GroupFacts(
        group_id=group_id,
        member_count=member_count,
        lag=dict(lag),
        lost=dict(lost),
        without_offset=dict(gone),
        beyond=dict(beyond),
        refilled=dict(refilled),
        recreated=dict(recreated),
        without_rows=await _without_rows(consumer, changelogs(group.role, names, group.queue), commits, topics),
        unowned=unowned,
        foreign_rows=await foreign_in_changelogs(consumer, names, group, topics),
    )


def _metadata_of(commits: Mapping[TopicPartition, tuple[CommittedOffset, int]], tp: TopicPartition) -> str:
    return commits[tp][0].metadata if tp in commits else ""


async def _without_rows(
    consumer: RecordReader,
    changelog_names: Sequence[str],
    commits: Mapping[TopicPartition, tuple[CommittedOffset, int]],
    topics: Mapping[str, TopicFacts],
) -> dict[str, list[int]]:
    """Return by changelog the partitions that a group has worked and whose rows are gone.

    Without any record there (a note is the least), or with an end before the one that the commits tell.
    """
    kept = {tp.partition: one for tp, (one, _) in commits.items() if one.offset > NOTHING_COMMITTED}
    worked = {number for number, one in kept.items() if not has_decision(one.metadata)}
    told = told_ends_of({tp: one for tp, (one, _) in commits.items()})
    found: dict[str, list[int]] = {}
    for name in changelog_names:
        if name in topics:
            table = name.removesuffix("-changelog").rpartition("-")[2]
            ends = await consumer.end_offsets([TopicPartition(name, n) for n in range(topics[name].partition_count)])
            empty = worked - {tp.partition for tp, end in ends.items() if end > 0}
            short = {tp.partition for tp, end in ends.items() if told.get(tp.partition, {}).get(table, 0) > end}
            if empty or short:
                found[name] = sorted(empty | short)
    return found


async def _written_numbers(consumer: RecordReader, name: str, topics: Mapping[str, TopicFacts]) -> frozenset[int]:
    """Return the partitions of a changelog that were written to: a group's first step in each leaves a note there."""
    if name not in topics:
        return frozenset()
    ends = await consumer.end_offsets([TopicPartition(name, n) for n in range(topics[name].partition_count)])
    return frozenset(tp.partition for tp, end in ends.items() if end > 0)


async def _unowned(
    admin: AIOKafkaAdminClient, group_id: str, inputs: Sequence[str], topics: Mapping[str, TopicFacts]
) -> tuple[int, ...]:
    """Return the partition numbers that no member of a group has, while nothing is about to change that."""
    (response,) = await admin.describe_consumer_groups([group_id])
    ((error_code, _group, state, _protocol_type, _protocol, members, *_rest),) = response.groups
    if error_code or state != "Stable":
        return ()
    count = min((topics[name].partition_count for name in inputs if name in topics), default=0)
    return unowned_numbers(count, [member[4] for member in members])


async def _read_workers(consumer: RecordReader, topic: str) -> tuple[list[WorkerFacts], int | None]:
    """Return the last heartbeats, and how far the broker's clock is ahead of ours, by a heartbeat that just came in."""
    partition = TopicPartition(topic, 0)
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    end = (await consumer.end_offsets([partition]))[partition]
    latest: dict[bytes, WorkerFacts] = {}
    lead_ms: int | None = None
    deadline_s = time.monotonic() + HEARTBEAT_EVERY_S + 1
    while time.monotonic() < deadline_s:
        position = await consumer.position(partition)
        if position >= end and (lead_ms is not None or not latest):
            break
        fetched = await consumer.getmany(partition, timeout_ms=_POLL_MS)
        for record in fetched.get(partition, ()):
            beat = None if record.value is None else decode_heartbeat(record.value)
            if beat is None:
                latest.pop(record.key, None)
                continue
            latest[record.key] = WorkerFacts(
                beat.worker,
                beat.role,
                beat.at_ms,
                record.timestamp,
                beat.abandoned,
                beat.standing_still,
                beat.refused,
                beat.queue,
            )
            if record.offset >= end:
                lead_ms = record.timestamp - time.time_ns() // 1_000_000
    consumer.unsubscribe()
    return sorted(latest.values(), key=lambda worker: (worker.role, worker.name)), lead_ms


def _existing(path: Path) -> Path:
    """Return the path, or what of it exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


async def read_within(settings: Settings, cluster: Cluster, queues: Sequence[str], timeout_s: float) -> SystemFacts:
    """Return the facts, or raise `TimeoutError`, `KafkaError` or `OSError`."""
    async with asyncio.timeout(timeout_s):
        return await read_facts(settings, cluster, queues)


UNREADABLE = (KafkaError, OSError, TimeoutError)
