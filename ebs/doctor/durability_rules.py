"""Rules about lost records: the number of replicas, and how many of them must have a write; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebs.doctor.facts import Finding, Severity, number_in, set_topic_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.settings.settings import Settings
    from app.topics.catalogue import TopicSpec
    from ebs.doctor.facts import SystemFacts

_ENOUGH_BROKERS = 3
_POWER_CUT = (
    "Kafka leaves it to the operating system when records reach the disk, so a power cut can lose acknowledged "
    "records: accepted objects vanish, and counts no longer match"
)


_OWN_TOPICS = ("offsets.topic.replication.factor", "transaction.state.log.replication.factor")


def check_durability(specs: Iterable[TopicSpec], settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    """Yield one finding for all topics with a single replica, and one for those whose writes count with one."""
    topics = [facts.topics[spec.name] for spec in specs if spec.name in facts.topics]
    single = [topic.name for topic in topics if topic.replication_factor == 1]
    if single:
        has_brokers = facts.broker_count >= _ENOUGH_BROKERS
        yield Finding(
            Severity.WARNING if has_brokers else Severity.INFO,
            "replicas",
            f"{_named(single)} 1 replica" + (f" on {facts.broker_count} brokers" if has_brokers else ""),
            f"{_POWER_CUT}; if the disk fails, everything is lost",
            "in production: three brokers, and EBS_REPLICATION_FACTOR=3 EBS_MIN_INSYNC_REPLICAS=2 before topics are "
            "made (for topics that exist: kafka-reassign-partitions.sh)",
        )
    loose = [
        topic.name
        for topic in topics
        if topic.replication_factor > 1 and (number_in(topic.configs, "min.insync.replicas") or 2) < 2
    ]
    if loose:
        command = set_topic_config(facts.bootstrap, loose[0], "min.insync.replicas", "2")
        yield Finding(
            Severity.WARNING,
            "replicas",
            f"{_named(loose)} min.insync.replicas=1",
            f"Kafka acknowledges a record that only one broker has: {_POWER_CUT}",
            f"set EBS_MIN_INSYNC_REPLICAS=2, and for each topic that exists: {command}",
        )

    for name in _OWN_TOPICS:
        count = number_in(facts.broker_configs, name)
        if count is not None and count < settings.replication_factor:
            yield Finding(
                Severity.WARNING,
                "broker",
                f"{name}={count}, EBS_REPLICATION_FACTOR is {settings.replication_factor}",
                "the topic has fewer replicas than the others: losing its brokers stops everything",
                f"set {name}={settings.replication_factor} on the brokers, and move the partitions of the topic that "
                "exists with kafka-reassign-partitions.sh",
            )


def _named(names: list[str]) -> str:
    others = f" and {len(names) - 1} more topics have" if len(names) > 1 else " has"
    return f"{names[0]}{others}"
