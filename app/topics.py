"""The catalogue of topics: the only place where a topic's name and shape are spelt (design, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.rules.distribution import MAX_OBJECT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.settings import Settings

OBJECTS = "objects"
TASK_REQUESTS = "task-requests"
TASK_EVENTS = "task-events"
DEAD_LETTERS = "dead-letters"
CONTROL = "control"
WORKERS = "workers"
SINGLE_PARTITION_TOPICS = (CONTROL, WORKERS)
"""Each is one log for everybody; all others have the same partition count."""

DISTRIBUTION_APP = "ebs-distribution"
PROCESSING_APP = "ebs-processing"
STATISTICS_APP = "ebs-statistics"

SEEN_TABLE = "seen"
LEDGER_TABLE = "ledger"
RESULTS_TABLE = "results"
WINDOWS_TABLE = "windows"
EXPIRY_TABLE = "expiry"
REDRIVEN_TABLE = "redriven"

PLACES_TABLES = {DISTRIBUTION_APP: SEEN_TABLE, PROCESSING_APP: REDRIVEN_TABLE, STATISTICS_APP: EXPIRY_TABLE}
"""By group the table in which it keeps where it is, too (`app.streaming.places`)."""

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
MAX_RECORD_BYTES = 2 * 1_048_576
"""Largest record of other topics: a request or a dead letter adds to an object's, and must fit whatever fitted there.

Rows are bounded where they are kept: `app.rules.ledger`, `app.rules.results`, `app.rules.expiry`, `app.rules.counts`.
"""


def retry_topic(delay_s: int) -> str:
    """Return the name of the retry tier that waits `delay_s` seconds."""
    return f"{TASK_REQUESTS}-retry-{delay_s}s"


def retry_tier_s(topic: str) -> int | None:
    """Return the seconds of the retry tier that a topic is, None if it is none."""
    number = topic.removeprefix(f"{TASK_REQUESTS}-retry-").removesuffix("s")
    return int(number) if number.isdecimal() and topic == retry_topic(int(number)) else None


def changelog_topic(app_id: str, table: str) -> str:
    """Return the name of a table's changelog, as Faust names it."""
    return f"{app_id}-{table}-changelog"


SEEN_CHANGELOG = changelog_topic(DISTRIBUTION_APP, SEEN_TABLE)
LEDGER_CHANGELOG = changelog_topic(STATISTICS_APP, LEDGER_TABLE)
RESULTS_CHANGELOG = changelog_topic(STATISTICS_APP, RESULTS_TABLE)
REDRIVEN_CHANGELOG = changelog_topic(PROCESSING_APP, REDRIVEN_TABLE)
WINDOWS_CHANGELOG = changelog_topic(STATISTICS_APP, WINDOWS_TABLE)
EXPIRY_CHANGELOG = changelog_topic(STATISTICS_APP, EXPIRY_TABLE)


@dataclass(frozen=True)
class TopicSpec:
    """What a topic must look like: partition count and the configuration that it is made with."""

    name: str
    partition_count: int
    replication_factor: int
    config: Mapping[str, str] = field(default_factory=dict)


def input_topics(app_id: str, settings: Settings) -> tuple[str, ...]:
    """Return the topics that a group reads."""
    return {
        DISTRIBUTION_APP: (OBJECTS,),
        PROCESSING_APP: (TASK_REQUESTS, *(retry_topic(delay_s) for delay_s in settings.retry_tiers_s)),
        STATISTICS_APP: (OBJECTS, TASK_EVENTS),
    }[app_id]


def watched_topics(app_id: str, settings: Settings) -> tuple[str, ...]:
    """Return the topics whose change a group's workers have to notice: all but the changelogs of other groups."""
    names = [spec.name for spec in catalogue(settings)]
    return tuple(one for one in names if not one.endswith("-changelog") or one.startswith(f"{app_id}-"))


def catalogue(settings: Settings) -> tuple[TopicSpec, ...]:
    """Return every topic of the system, in the order in which it is made."""
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

    def spec(name: str, config: Mapping[str, str], partition_count: int = settings.partitions) -> TopicSpec:
        return TopicSpec(name, partition_count, settings.replication_factor, config)

    return (
        spec(OBJECTS, streams | {"max.message.bytes": str(MAX_OBJECT_BYTES)} | broker_stamps),
        spec(TASK_REQUESTS, streams),
        spec(TASK_EVENTS, streams),
        *(spec(retry_topic(delay_s), streams) for delay_s in settings.retry_tiers_s),
        spec(DEAD_LETTERS, kept),
        spec(CONTROL, compacted, partition_count=1),
        spec(WORKERS, heartbeats, partition_count=1),
        spec(SEEN_CHANGELOG, compacted),
        spec(REDRIVEN_CHANGELOG, compacted),
        spec(LEDGER_CHANGELOG, compacted),
        spec(RESULTS_CHANGELOG, compacted),
        spec(WINDOWS_CHANGELOG, compacted),
        spec(EXPIRY_CHANGELOG, compacted),
    )
