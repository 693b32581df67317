"""The one checker: reads every topic, recomputes everything from the events, and names each difference.

It shares no rule with the product: it counts event by event with dictionaries, knows only the contract of the topics,
and reads ledger and windows from their changelogs. A difference is a sentence; an empty list is the proof.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from app.rules.counts import HOUR_MS, TOTAL_SIZE_MS, WINDOW_MS, Counts, add_counts, decode_counts, decode_window_key
from app.rules.ledger import decode_row
from app.rules.ledger_descriptions import describe_object, describe_task
from app.topics import DEAD_LETTERS, LEDGER_CHANGELOG, OBJECTS, TASK_EVENTS, TASK_REQUESTS, WINDOWS_CHANGELOG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

MOST_DIFFERENCES = 20
_STALL_S = 60.0
_COUNTED = {
    "OBJECT_CREATED": "objects_created",
    "TASK_CREATED": "tasks_created",
    "TASK_STARTED": "tasks_started",
    "TASK_FINISHED": "tasks_finished",
    "TASK_FAILED": "tasks_failed",
    "TASK_RETRIED": "tasks_retried",
    "TASK_DEAD": "tasks_died",
    "TASK_CANCELLED": "tasks_cancelled",
}


@dataclass
class Topics:
    """What stands on the topics, read once, read_committed."""

    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    object_record_count: int = 0
    object_partition: dict[str, int] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    events: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    event_ids: Counter[str] = field(default_factory=Counter)
    undecodable: int = 0
    dead_letters: list[Any] = field(default_factory=list)
    ledger: dict[str, bytes] = field(default_factory=dict)
    windows: dict[tuple[int, bytes], bytes] = field(default_factory=dict)


async def differences(
    bootstrap: str, *, accepted: Iterable[str] = (), task_count: int = 3, all_finished: bool = True
) -> list[str]:
    """Return what is wrong, as sentences, at most `MOST_DIFFERENCES`; `task_count` is for objects that name none."""
    topics = await read_topics(bootstrap)
    found: list[str] = [f"accepted object {one} is not on {OBJECTS}" for one in accepted if one not in topics.objects]
    found += [
        f"event {one} stands {count} times on {TASK_EVENTS}" for one, count in topics.event_ids.items() if count > 1
    ]
    found += [f"request {one} stands {count} times" for one, count in topics.requests.items() if count > 1]
    found += _check_objects(topics, task_count, all_finished=all_finished)
    found += _check_windows(topics)
    return found[:MOST_DIFFERENCES]


async def read_topics(bootstrap: str) -> Topics:
    """Read all topics from their beginnings to their present ends."""
    topics = Topics()
    async for record in read_all(bootstrap, [OBJECTS, TASK_REQUESTS, TASK_EVENTS, DEAD_LETTERS]):
        if record.topic == DEAD_LETTERS:
            topics.dead_letters.append(record)
            continue
        try:
            value = msgspec.json.decode(record.value)
            _note(topics, record, value)
        except (msgspec.DecodeError, TypeError, KeyError):
            topics.undecodable += 1
    async for record in read_all(bootstrap, [LEDGER_CHANGELOG, WINDOWS_CHANGELOG]):
        if record.topic == LEDGER_CHANGELOG:
            _keep_last(topics.ledger, record.key.decode(), record.value)
        else:
            _keep_last(topics.windows, (record.partition, record.key), record.value)
    return topics


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


def _note(topics: Topics, record: Any, value: dict[str, Any]) -> None:
    object_id = value["object_id"]
    if record.topic == OBJECTS:
        topics.object_record_count += 1
        topics.objects.setdefault(object_id, value)
        topics.object_partition.setdefault(object_id, record.partition)
    elif record.topic == TASK_REQUESTS:
        topics.requests[f"{value['task_id']}#{value['attempt']}#{value.get('redrive', 0)}"] += 1
    else:
        value["partition"] = record.partition
        topics.events[object_id].append(value)
        topics.event_ids[value["id"]] += 1


def _keep_last(rows: dict[Any, bytes], key: Any, value: bytes | None) -> None:
    if value is None:
        rows.pop(key, None)
    else:
        rows[key] = value


def _check_objects(topics: Topics, task_count: int, *, all_finished: bool) -> list[str]:
    found = [f"events of unknown object {one}" for one in topics.events if one not in topics.objects]
    for object_id, created in topics.objects.items():
        wanted = created.get("task_count") or task_count
        by_type: dict[str, set[str]] = defaultdict(set)
        for event in topics.events.get(object_id, ()):
            by_type[event["type"]].add(event["task_id"])
            if event["partition"] != topics.object_partition[object_id]:
                found.append(f"{event['id']} is in partition {event['partition']}, its object is not")
        tasks = {f"{object_id}-{sequence}" for sequence in range(wanted)}
        ended = by_type["TASK_FINISHED"] | by_type["TASK_DEAD"] | by_type["TASK_CANCELLED"]
        if by_type["TASK_CREATED"] != tasks:
            found.append(f"object {object_id} has tasks {sorted(by_type['TASK_CREATED'])}, wanted {wanted}")
        missing = {task for task in tasks if not topics.requests[f"{task}#1#0"]}
        if missing:
            found.append(f"object {object_id} has no request for {sorted(missing)}")
        if all_finished and ended != tasks:
            found.append(f"object {object_id} ended {sorted(ended)} of its {wanted} tasks")
        found += _check_row(topics, object_id, wanted, by_type, tasks)
        if len(found) > MOST_DIFFERENCES:
            break
    return found


def _check_row(topics: Topics, object_id: str, wanted: int, by_type: dict[str, set[str]], tasks: set[str]) -> list[str]:
    if object_id not in topics.ledger:
        return [f"object {object_id} has no ledger row"]
    row = decode_row(topics.ledger[object_id])
    told = describe_object(object_id, row)
    expected = {
        "tasks_total": wanted,
        "tasks_done": len(by_type["TASK_FINISHED"]),
        "time_spent_ms": sum(
            event["spent_ms"]
            for what in ("TASK_FINISHED", "TASK_FAILED")
            for event in _unique(topics.events[object_id], what)
        ),
        "created_at_ms": topics.objects[object_id]["at_ms"],
    }
    if by_type["TASK_FINISHED"] == tasks:
        expected["state"] = "FINISHED"
        ends = [event["at_ms"] for event in topics.events[object_id] if event["type"] == "TASK_FINISHED"]
        expected["finished_at_ms"] = max(ends)
    found = [
        f"ledger row of {object_id}: {name} is {told[name]}, the events say {value}"
        for name, value in expected.items()
        if told[name] != value
    ]
    for event in topics.events[object_id]:
        if event["type"] == "TASK_FINISHED":
            task = describe_task(object_id, row, event["sequence"])
            if task["ended_at_ms"] != event["at_ms"] or task["state"] != "FINISHED":
                found.append(f"ledger row of {object_id}: task {event['sequence']} says {task}")
    return found


def _unique(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return list({event["id"]: event for event in events if event["type"] == kind}.values())


def _check_windows(topics: Topics) -> list[str]:
    expected: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for created in topics.objects.values():
        key = (created["at_ms"] // WINDOW_MS * WINDOW_MS, created.get("kind", "default"))
        expected[key]["objects_created"] += 1
    for object_id, events in topics.events.items():
        for event in {one["id"]: one for one in events}.values():
            # A redrive may name another kind; its events count under the object's.
            key = (event["at_ms"] // WINDOW_MS * WINDOW_MS, topics.objects.get(object_id, {}).get("kind", "default"))
            # A redrive creates its task again, and it is no new one.
            expected[key][_COUNTED[event["type"]]] += event["type"] != "TASK_CREATED" or not event.get("redrive")
            if event["type"] in {"TASK_FINISHED", "TASK_FAILED"}:
                expected[key]["spent_ms"] += event["spent_ms"]
    told: dict[tuple[int, str], Counts] = {}
    merged: dict[tuple[int, str], Counts] = {}
    totals: dict[str, Counts] = {}
    for (_, raw_key), raw in topics.windows.items():
        window = decode_window_key(raw_key)
        hour_ms = window.start_ms // HOUR_MS * HOUR_MS
        if window.size_ms == TOTAL_SIZE_MS:
            add_counts(totals.setdefault(window.kind, Counts()), decode_counts(raw))
            continue
        add_counts(merged.setdefault((hour_ms, window.kind), Counts()), decode_counts(raw))
        if window.size_ms == WINDOW_MS:
            add_counts(told.setdefault((window.start_ms, window.kind), Counts()), decode_counts(raw))
    # Old windows are merged into longer ones: each that is still there must be right, and so must every hour's sum.
    found = _compare({key: expected[key] for key in told}, told, "window")
    expected_hours: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    for (start_ms, kind), counts in expected.items():
        expected_hours[start_ms // HOUR_MS * HOUR_MS, kind].update(counts)
    found += _compare(expected_hours, merged, "window hour")
    expected_totals: dict[str, Counter[str]] = defaultdict(Counter)
    for (_, kind), counts in expected.items():
        expected_totals[kind].update(counts)
    found += _compare(expected_totals, totals, "total")
    found += [f"total of {kind} is out of balance by {one.imbalance}" for kind, one in totals.items() if one.imbalance]
    return found


def _compare(expected: dict[Any, Counter[str]], told: dict[Any, Counts], what: str) -> list[str]:
    return [
        f"{what} {key}: {name} is {getattr(counts, name)}, the events say {expected[key][name]}"
        for key, counts in ((key, told.get(key, Counts())) for key in sorted(set(expected) | set(told)))
        for name in (*_COUNTED.values(), "spent_ms")
        if getattr(counts, name) != expected[key][name]
    ]
