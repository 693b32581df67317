"""The catalogue of topics: the only place where a topic's shape is spelt; `app.names` has the names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.names import (
    DISTRIBUTION,
    EXPIRY_TABLE,
    LEDGER_TABLE,
    PROCESSING,
    REDRIVEN_TABLE,
    RESULTS_TABLE,
    SCHEDULES_TABLE,
    SEEN_TABLE,
    STATISTICS,
    WAITING_TABLE,
    WINDOWS_TABLE,
    WorkerGroup,
)
from app.rules.distribution import MAX_OBJECT_BYTES
from app.topics.queues import queues_of
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from app.names import Names
    from app.settings.settings import Settings

TABLES = {
    DISTRIBUTION: (SEEN_TABLE, SCHEDULES_TABLE),
    PROCESSING: (REDRIVEN_TABLE, WAITING_TABLE),
    STATISTICS: (LEDGER_TABLE, RESULTS_TABLE, WINDOWS_TABLE, EXPIRY_TABLE),
}
"""The tables by role; each has a changelog."""
NOTES_TABLES = {DISTRIBUTION: SEEN_TABLE, PROCESSING: REDRIVEN_TABLE, STATISTICS: EXPIRY_TABLE}
"""By role the table in which its group keeps where it is, too (`app.streaming.offset_notes`)."""

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
MAX_RECORD_BYTES = 2 * 1_048_576
"""Largest record of other topics: a request or a dead letter adds to an object's, and must fit whatever fitted there.

Rows are bounded where they are kept: `ledger_rows`, `results`, `ledger_expiry` and `counts` of `app.rules`.
"""


@dataclass(frozen=True)
class TopicSpec:
    """What a topic must look like: partition count and the configuration that it is made with."""

    name: str
    partition_count: int
    replication_factor: int
    config: Mapping[str, str] = field(default_factory=dict)
    is_single: bool = False
    """One log for everybody; all other topics have the same partition count."""
    is_registry: bool = False
    """Where the system notes which topics are its own (`app.topics.guard`)."""


def input_topics(role: str, settings: Settings, queue: str = DEFAULT_QUEUE) -> tuple[str, ...]:
    """Return the topics that a role's group reads, of processing the group of a queue."""
    names = settings.names
    return {
        DISTRIBUTION: (names.objects, names.schedules),
        PROCESSING: (names.requests(queue),),
        STATISTICS: (names.objects, names.task_events),
    }[role]


def changelogs(role: str, names: Names, queue: str = DEFAULT_QUEUE) -> tuple[str, ...]:
    """Return the changelogs of the tables of a role's group."""
    return tuple(names.changelog(role, table, queue) for table in TABLES[role])


def groups_of(queues: Iterable[str]) -> tuple[WorkerGroup, ...]:
    """Return the consumer groups of a system with these queues."""
    return tuple(
        WorkerGroup(role, queue) for role in TABLES for queue in (queues if role == PROCESSING else (DEFAULT_QUEUE,))
    )


def watched_topics(role: str, settings: Settings, queue: str = DEFAULT_QUEUE) -> tuple[str, ...]:
    """Return the topics whose change a role's workers have to notice: all but the changelogs of other groups.

    Nor does anybody who works read the registry. Who sends records to users' topics has to know their partitions.
    """
    own = changelogs(role, settings.names, queue)
    specs = catalogue(settings, queues=queues_of(settings, queue))
    names = [spec.name for spec in specs if not spec.is_registry]
    watched = tuple(one for one in names if not one.endswith("-changelog") or one in own)
    return (*watched, *settings.output_topics) if role == PROCESSING else watched


def catalogue(
    settings: Settings, former: Sequence[str] = (), *, queues: Sequence[str] | None = None
) -> tuple[TopicSpec, ...]:
    """Return every topic of the system, in the order in which it is made; `former`: those of an earlier version.

    `queues` are those of the system, for a process that does not import the project. Without them it is imported,
    which raises `SettingsError` if it cannot be used.
    """
    names = settings.names
    known_queues = queues_of(settings) if queues is None else queues
    durable = {
        "min.insync.replicas": str(settings.min_insync_replicas),
        "max.message.bytes": str(MAX_RECORD_BYTES),
    }
    streams = durable | {"cleanup.policy": "delete", "retention.ms": str(settings.retention_days * _DAY_MS)}
    kept = durable | {"cleanup.policy": "delete", "retention.ms": "-1"}
    compacted = durable | {"cleanup.policy": "compact"}
    # Who writes to these is not always ours: nobody's clock but the broker's moves stream time.
    broker_stamps = {"message.timestamp.type": "LogAppendTime"}
    # Heartbeats: the broker's clock judges silence; the last words of workers that were killed go after an hour, and
    # short segments let compaction at the others (it never touches the newest segment, which lasts a week by default).
    heartbeats = durable | {
        "cleanup.policy": "compact,delete",
        "retention.ms": str(_HOUR_MS),
        "segment.ms": str(_HOUR_MS // 6),
        **broker_stamps,
    }

    def spec(name: str, config: Mapping[str, str], *, is_single: bool = False, is_registry: bool = False) -> TopicSpec:
        partition_count = 1 if is_single else settings.partitions
        return TopicSpec(name, partition_count, settings.replication_factor, config, is_single, is_registry)

    return (
        spec(names.topics, compacted, is_single=True, is_registry=True),
        spec(names.objects, streams | {"max.message.bytes": str(MAX_OBJECT_BYTES)} | broker_stamps),
        *(spec(names.requests(queue), streams) for queue in known_queues),
        spec(names.task_events, streams),
        spec(names.object_events, streams),
        *(spec(name, streams) for name in former),
        spec(names.dead_letters, kept),
        spec(names.control, compacted, is_single=True),
        spec(names.schedules, compacted),
        spec(names.workers, heartbeats, is_single=True),
        *(spec(name, compacted) for role, queue in groups_of(known_queues) for name in changelogs(role, names, queue)),
    )
