"""The one checker: reads every topic, and names everything that is not as it should be.

What stands on the topics it judges itself, by the contract only; ledger and windows are recounted by `ebs.recount`,
which shares no rule with the statistics agent. A difference is a sentence; an empty list is the proof.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.kafka.cluster import Cluster
from app.names import BARE, LEDGER_TABLE
from app.rules.ledger_rows import decode_row
from app.rules.ledger_states import state_of_object
from app.rules.table_rows import why_no_row
from app.settings.settings import load
from app.streaming.offset_notes import NOTE_KEY
from ebs.recount.reading import open_topics
from ebs.recount.run import Recount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from app.names import Names
    from app.settings.settings import Settings

MOST_DIFFERENCES = 20
_STALL_S = 120.0
_QUIET_S = 3.0


@dataclass
class Topics:
    """What stands on the topics, read once, read_committed."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    object_record_count: int = 0
    submitted: Counter[str] = field(default_factory=Counter)
    moved_count: int = 0
    object_partition: dict[str, int] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    event_ids: Counter[str] = field(default_factory=Counter)
    ends: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    undecodable: int = 0
    dead_letters: list[Any] = field(default_factory=list)
    ledger: dict[str, bytes] = field(default_factory=dict)


async def differences(
    bootstrap: str,
    names: Names = BARE,
    *,
    accepted: Iterable[str] = (),
    task_count: int = 3,
    all_finished: bool = True,
) -> list[str]:
    """Return what is wrong, as sentences; `task_count` is for objects that name none.

    At most `MOST_DIFFERENCES` of what stands on the topics, and all of the recount: the one must not hide the other.
    """
    settings = load(broker=bootstrap, namespace=names.namespace, tasks_per_object=task_count)
    until_s = time.monotonic() + _STALL_S
    while True:
        before = await _ledger_ends(bootstrap, names)
        topics = await read_topics(bootstrap, names)
        found = judge(topics, names, accepted=accepted, task_count=task_count, all_finished=all_finished)
        found = [*found[:MOST_DIFFERENCES], *await recounted(bootstrap, settings)]
        if not found:
            return found
        # The statistics may have been at work between two topics. What is wrong stays wrong.
        await asyncio.sleep(_QUIET_S)
        if await _ledger_ends(bootstrap, names) == before or time.monotonic() > until_s:
            return found


async def _ledger_ends(bootstrap: str, names: Names) -> dict[TopicPartition, int]:
    topic = names.ledger_changelog
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False) as probe:
        return await probe.end_offsets([TopicPartition(topic, number) for number in await _partitions_of(probe, topic)])


def judge(
    topics: Topics,
    names: Names = BARE,
    *,
    accepted: Iterable[str] = (),
    task_count: int = 3,
    all_finished: bool = True,
) -> list[str]:
    """Return what is wrong with what stands on the topics, as sentences."""
    found = [f"accepted object {one} is not on {names.objects}" for one in accepted if one not in topics.objects]
    found += [
        f"event {one} stands {count} times on {names.task_events}"
        for one, count in topics.event_ids.items()
        if count > 1
    ]
    found += [f"request {one} stands {count} times" for one, count in topics.requests.items() if count > 1]
    return found + _check_submitted(topics, names) + _check_objects(topics, task_count, all_finished=all_finished)


async def recounted(bootstrap: str, settings: Settings) -> list[str]:
    """Return what `ebs recount` finds, as sentences; nothing may be left out of the comparison."""
    async with open_topics(Cluster(bootstrap), settings.names) as reader:
        findings = await Recount(reader, settings).run()
    skipped = [f"{count} {what} could not be compared" for what, count in findings.incomparable.items() if count]
    return [*map(str, findings.differences), *skipped]


async def read_topics(bootstrap: str, names: Names = BARE) -> Topics:
    """Read all topics from their beginnings to their present ends."""
    topics = Topics()
    requests = await request_topics(bootstrap, names)
    async for record in read_all(
        bootstrap,
        [names.objects, *requests, names.task_events, names.object_events, names.dead_letters],
    ):
        if record.topic == names.dead_letters:
            topics.dead_letters.append(record)
            continue
        try:
            value = msgspec.json.decode(record.value)
            note(topics, names, record, value)
        except (msgspec.DecodeError, TypeError, KeyError):
            topics.undecodable += 1
    async for record in read_all(bootstrap, [names.ledger_changelog]):
        if record.key != NOTE_KEY and not why_no_row(LEDGER_TABLE, record.key, record.value):
            _keep_last(topics.ledger, record.key.decode(), record.value)
    return topics


async def request_topics(bootstrap: str, names: Names = BARE) -> list[str]:
    """Return the topics of all queues."""
    async with AIOKafkaConsumer(bootstrap_servers=bootstrap) as consumer:
        found = await consumer.topics()
    return [one for one in sorted(found) if names.is_of_requests(one) and not names.is_former_retry_topic(one)]


async def read_all(bootstrap: str, names: list[str]) -> AsyncIterator[Any]:
    """Yield all committed records of topics up to their high watermarks; a stall is an error, never a hang."""
    probe = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_uncommitted", enable_auto_commit=False)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    async with probe, consumer:
        partitions = [TopicPartition(name, n) for name in names for n in await _partitions_of(probe, name)]
        ends = await probe.end_offsets(partitions)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        progressed_at_s = time.monotonic()
        while behind := [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
            fetched = await consumer.getmany(timeout_ms=200)
            for records in fetched.values():
                for record in records:
                    yield record
            if fetched:
                progressed_at_s = time.monotonic()
            elif time.monotonic() - progressed_at_s > _STALL_S:
                raise AssertionError(f"cannot read to the end of {behind} in {_STALL_S:g} s")


async def _partitions_of(consumer: AIOKafkaConsumer, topic: str) -> list[int]:
    await consumer._client.force_metadata_update()
    consumer._client.add_topic(topic)
    await consumer._client._maybe_wait_metadata()
    return sorted(consumer.partitions_for_topic(topic) or ())


def note(topics: Topics, names: Names, record: Any, value: dict[str, Any]) -> None:
    """Take in a record of objects, requests or events."""
    object_id = value["object_id"]
    if record.topic == names.objects:
        is_moved = any(name == "ebs-moved-from" for name, _ in record.headers)
        topics.moved_count += is_moved
        topics.object_record_count += 1
        topics.submitted[object_id] += "parent" in value and not is_moved
        topics.objects.setdefault(object_id, value)
        if is_moved or object_id not in topics.object_partition:
            topics.object_partition[object_id] = record.partition
    elif names.is_of_requests(record.topic):
        # A request whose kind got another queue stands in the old one, too.
        if all(name != "ebs-queue-moves" for name, _ in record.headers):
            topics.requests[f"{value['task_id']}#{value['attempt']}#{value.get('redrive', 0)}"] += 1
    elif record.topic == names.object_events:
        topics.ends[object_id].append(value)
    else:
        value["partition"] = record.partition
        topics.events[object_id].append(value)
        topics.event_ids[value["id"]] += 1


def _keep_last(rows: dict[Any, bytes], key: Any, value: bytes | None) -> None:
    if value is None:
        rows.pop(key, None)
    else:
        rows[key] = value


def _check_submitted(topics: Topics, names: Names) -> list[str]:
    """Check that what functions have submitted came with the end of their tasks."""
    found = []
    for object_id, count in topics.submitted.items():
        if count > 1:
            found.append(f"object {object_id} stands {count} times on {names.objects}")
        parent = topics.objects[object_id].get("parent")
        if parent is None:
            continue
        of_parent = topics.events.get(parent["object_id"], ())
        ended = [event for event in of_parent if event["type"] == "TASK_FINISHED"]
        if parent["task_id"] not in {event["task_id"] for event in ended}:
            found.append(f"object {object_id} was submitted by {parent['task_id']}, which has not finished")
    return found


def _check_objects(topics: Topics, task_count: int, *, all_finished: bool) -> list[str]:
    found = [f"events of unknown object {one}" for one in topics.events if one not in topics.objects]
    for object_id, created in topics.objects.items():
        tasks = _wanted_tasks(created, topics.events.get(object_id, ()), task_count)
        if created.get("callback_url"):
            tasks |= {f"{object_id}-callback{end['end']}" for end in topics.ends[object_id]}
        by_type: dict[str, set[str]] = defaultdict(set)
        for event in topics.events.get(object_id, ()):
            by_type[event["type"]].update(_tasks_of(event))
            if event["partition"] != topics.object_partition[object_id]:
                found.append(f"{event['id']} is in partition {event['partition']}, its object is not")
        ended = by_type["TASK_FINISHED"] | by_type["TASK_DEAD"] | by_type["TASK_CANCELLED"]
        if by_type["TASKS_CREATED"] != tasks:
            found.append(f"object {object_id} has tasks {sorted(by_type['TASKS_CREATED'])}, wanted {sorted(tasks)}")
        missing = {task for task in tasks if not topics.requests[f"{task}#1#0"]}
        if missing:
            found.append(f"object {object_id} has no request for {sorted(missing)}")
        if all_finished and ended != tasks:
            found.append(f"object {object_id} ended {sorted(ended)} of its {len(tasks)} tasks")
        found += _check_row(topics, object_id, is_finished=by_type["TASK_FINISHED"] == tasks)
        found += _check_ends(topics, object_id, has_ended=ended == tasks)
        if len(found) > MOST_DIFFERENCES:
            break
    return found


def _wanted_tasks(created: dict[str, Any], events: Iterable[dict[str, Any]], task_count: int) -> set[str]:
    """Return the tasks that an object must have: as many as it asks for, or as its split says; and those two.

    There is a join once all of them have finished.
    """
    object_id, count, roles = created["object_id"], created.get("task_count") or task_count, set()
    facts = [event for event in events if event["type"] == "TASKS_CREATED" and not event.get("redrive")]
    if any(fact.get("role") == "split" for fact in facts):
        roles.add("split")
        count = next((fact["task_count"] for fact in facts if not fact.get("role")), 0)
    finished = {event["task_id"] for event in events if event["type"] == "TASK_FINISHED"}
    if any(fact.get("joins") for fact in facts) and finished >= {f"{object_id}-{number}" for number in range(count)}:
        roles.add("join")
    return {f"{object_id}-{sequence}" for sequence in (*range(count), *roles)}


def _tasks_of(event: dict[str, Any]) -> list[str]:
    if event["type"] != "TASKS_CREATED":
        return [event["task_id"]]
    if event.get("role") == "callback":
        return [f"{event['object_id']}-callback{event['first'] - 10_001}"]
    if event.get("role"):
        return [f"{event['object_id']}-{event['role']}"]
    return [f"{event['object_id']}-{sequence}" for sequence in range(event["first"], event["first"] + event["count"])]


def _check_row(topics: Topics, object_id: str, *, is_finished: bool) -> list[str]:
    """Check that the statistics have come as far as the topics; the recount goes as far as they have come only."""
    if object_id not in topics.ledger:
        return [f"object {object_id} has no ledger row"]
    state = state_of_object(decode_row(topics.ledger[object_id]))
    return [f"ledger row of {object_id} is {state}, it is finished"] if is_finished and state != "FINISHED" else []


def _check_ends(topics: Topics, object_id: str, *, has_ended: bool) -> list[str]:
    """Check that each end is told once, the last one as the ledger tells it."""
    told = topics.ends[object_id]
    ids = [end["id"] for end in told]
    if len(set(ids)) < len(ids):
        return [f"ends of {object_id} are told twice: {ids}"]
    if not has_ended or object_id not in topics.ledger:
        return []
    state = state_of_object(decode_row(topics.ledger[object_id]))
    last = told[-1]["type"].removeprefix("OBJECT_") if told else None
    return [f"the last end of {object_id} is {last}, its ledger row is {state}"] if last != state else []
