"""Rules that compare topics and the configuration of the brokers with the settings; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebs.doctor.facts import Finding, Severity, command, number_in, set_topic_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from app.settings.settings import Settings
    from app.topics.catalogue import TopicSpec
    from ebs.doctor.facts import SystemFacts, TopicFacts

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
_BIG_CHANGELOG_BYTES = 4 << 30
_LAZY_DIRTY_RATIO = 0.8
_WHOSE_CLOCKS = {
    "objects": "the producers' clocks decide when an object came and when its id is forgotten",
    "workers": "the workers' clocks decide which worker counts as gone",
}
"""By the bare name of the topic."""


def check_topics(specs: Iterable[TopicSpec], settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    """Yield what is wrong with the topics; one finding of OK if nothing is."""
    specs = tuple(specs)
    one_count = _only_the_setting_differs(specs, facts)
    if one_count is not None:
        said = f"all topics have {one_count} partitions, the settings say {settings.partitions}"
        why = "workers and API refuse to start"
        yield Finding(Severity.ERROR, "EBS_PARTITIONS", said, why, f"set EBS_PARTITIONS={one_count}")
    foreign = [
        name for name in (spec.name for spec in specs) if name in facts.topics and not facts.topics[name].is_ours
    ]
    found = [
        finding
        for spec in specs
        if spec.name not in foreign
        for finding in _check_topic(spec, settings, facts, check_partitions=one_count is None)
    ]
    if foreign:
        found.append(_foreign(foreign))
    if one_count is None and not any(one.severity in {Severity.ERROR, Severity.WARNING} for one in found):
        said = f"all topics are right: {settings.partitions} partitions, kept for {settings.retention_days} days"
        yield Finding(Severity.OK, "topics", said)
    yield from found


def _only_the_setting_differs(specs: Iterable[TopicSpec], facts: SystemFacts) -> int | None:
    """Return the partition count that all topics share, where it is not what the settings say; else None."""
    pairs = [(spec, facts.topics[spec.name]) for spec in specs if spec.name in facts.topics]
    pairs = [(spec, topic) for spec, topic in pairs if topic.is_ours]
    counts = {topic.partition_count for spec, topic in pairs if not spec.is_single}
    wrong = [spec for spec, topic in pairs if spec.partition_count != topic.partition_count]
    if len(counts) == 1 and len(wrong) > 1 and not any(spec.is_single for spec in wrong):
        return counts.pop()
    return None


def _check_topic(
    spec: TopicSpec, settings: Settings, facts: SystemFacts, *, check_partitions: bool
) -> Iterator[Finding]:
    topic = facts.topics.get(spec.name)
    if topic is None:
        # Without the registry no topic is known to be ours: a plain `ebs topics` would refuse.
        fix = "ebs topics --adopt" if spec.is_registry and facts.topics else "ebs topics"
        yield Finding(Severity.ERROR, spec.name, "the topic does not exist", "no process starts without it", fix)
        return
    if check_partitions and topic.partition_count != spec.partition_count:
        only_setting = not spec.is_single
        yield Finding(
            Severity.ERROR,
            spec.name,
            f"it has {topic.partition_count} partitions, the settings say {spec.partition_count}",
            "all topics are co-partitioned: workers and API refuse to start",
            (f"EBS_PARTITIONS={topic.partition_count} if all topics have as many, or " if only_setting else "")
            + _anew(topic, facts),
        )
    yield from _check_replicas(topic, settings, facts)
    if topic.configs is None:
        why = "its cleanup policy and retention were not checked"
        fix = f"give this user DescribeConfigs on {spec.name}"
        yield Finding(Severity.INFO, spec.name, "the permission to read its configuration is missing", why, fix)
        return
    yield from _check_configs(spec, topic, settings, facts)


def _foreign(names: Sequence[str]) -> Finding:
    name = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    said = f"nothing says that this system made {'it' if len(names) == 1 else 'them: ' + ', '.join(names)}"
    why = "workers and API refuse to start, and write nothing there"
    fix = "if another system owns it: EBS_NAMESPACE=acme (a name of your own); if this one does: ebs topics --adopt"
    return Finding(Severity.ERROR, name, said, why, fix)


def _anew(topic: TopicFacts, facts: SystemFacts) -> str:
    if not topic.made_by_us:
        return "EBS_NAMESPACE, so that this system has topics of its own"
    deleting = command("kafka-topics.sh", facts.bootstrap, f"--delete --topic {topic.name}")
    return f"recreate it, which deletes its records: {deleting}; ebs topics"


def _check_replicas(topic: TopicFacts, settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    least = number_in(topic.configs, "min.insync.replicas") or 1
    if topic.fewest_in_sync < least:
        yield Finding(
            Severity.ERROR,
            topic.name,
            f"a partition has {topic.fewest_in_sync} replicas in sync, min.insync.replicas is {least}",
            "it accepts no writes",
            "start the brokers that are missing, or lower it: "
            + set_topic_config(facts.bootstrap, topic.name, "min.insync.replicas", str(topic.replication_factor)),
        )
    elif topic.fewest_in_sync < topic.replication_factor:
        said = f"a partition has {topic.fewest_in_sync} of {topic.replication_factor} replicas in sync"
        why, fix = "if one more broker fails, it may stop", "repair the broker that lags or is gone"
        yield Finding(Severity.WARNING, topic.name, said, why, fix)
    if topic.replication_factor < settings.replication_factor:
        said = f"it has {topic.replication_factor} replicas, EBS_REPLICATION_FACTOR is {settings.replication_factor}"
        fix = "move its partitions with kafka-reassign-partitions.sh"
        yield Finding(
            Severity.WARNING,
            topic.name,
            said,
            "the topic survives the loss of fewer brokers than the settings ask for",
            fix,
        )


def _check_configs(spec: TopicSpec, topic: TopicFacts, settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    configs = topic.configs or {}
    policy = spec.config.get("cleanup.policy", "delete")
    if set(configs.get("cleanup.policy", policy).replace(" ", "").split(",")) != set(policy.split(",")):
        said = f"cleanup.policy={configs['cleanup.policy']}, this application needs {policy}"
        why = (
            "rows of tables would vanish" if "compact" in policy else "records would be compacted like rows and vanish"
        )
        yield Finding(
            Severity.ERROR,
            spec.name,
            said,
            why,
            set_topic_config(facts.bootstrap, spec.name, "cleanup.policy", policy),
        )
    yield from _check_retention(spec, topic, settings, facts)
    for name in ("min.insync.replicas", "max.message.bytes"):
        wanted, has = number_in(spec.config, name), number_in(configs, name)
        if wanted is not None and has is not None and has < wanted:
            why = (
                "Kafka may acknowledge a record that only one broker has"
                if name.startswith("min")
                else "large records are refused"
            )
            fix = set_topic_config(facts.bootstrap, spec.name, name, str(wanted))
            yield Finding(Severity.WARNING, spec.name, f"{name}={has}, should be {wanted}", why, fix)
    if configs.get("unclean.leader.election.enable") == "true":
        fix = set_topic_config(facts.bootstrap, spec.name, "unclean.leader.election.enable", "false")
        why = "acknowledged records may be lost with a broker"
        yield Finding(Severity.WARNING, spec.name, "unclean.leader.election.enable=true", why, fix)
    whose = _WHOSE_CLOCKS.get(settings.names.bare(spec.name))
    if whose is not None and configs.get("message.timestamp.type") == "CreateTime":
        fix = set_topic_config(facts.bootstrap, spec.name, "message.timestamp.type", "LogAppendTime")
        yield Finding(Severity.WARNING, spec.name, "message.timestamp.type=CreateTime", whose, fix)
    if "compact" in policy and "delete" not in policy:
        yield from _check_compaction(topic, facts)


def _check_retention(spec: TopicSpec, topic: TopicFacts, settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    wanted_ms, has_ms = number_in(spec.config, "retention.ms"), number_in(topic.configs, "retention.ms")
    if wanted_ms is None or has_ms is None or has_ms == -1 or "delete" not in spec.config["cleanup.policy"]:
        return
    fix = set_topic_config(facts.bootstrap, spec.name, "retention.ms", str(wanted_ms))
    if spec.name == settings.names.dead_letters:
        why = "dead letters may be deleted before anybody looks at them"
        yield Finding(Severity.WARNING, spec.name, f"it is kept for {_days(has_ms)}, not for ever", why, fix)
    elif spec.name.startswith(settings.names.task_requests) and has_ms < settings.max_task_age_h * _HOUR_MS:
        said = f"it is kept for {_days(has_ms)}, tasks may wait for {settings.max_task_age_h:g} h (EBS_MAX_TASK_AGE_H)"
        yield Finding(Severity.ERROR, spec.name, said, "tasks are deleted before they run", fix)
    elif (
        spec.name != settings.names.workers
        and has_ms < max(settings.window_retention_h, settings.seen_retention_h) * _HOUR_MS
    ):
        said = (
            f"it is kept for {_days(has_ms)}, windows for {settings.window_retention_h:g} h "
            f"(EBS_WINDOW_RETENTION_H), seen ids for {settings.seen_retention_h:g} h (EBS_SEEN_RETENTION_H)"
        )
        yield Finding(Severity.WARNING, spec.name, said, "ebs recount cannot compare older rows with the topics", fix)
    elif has_ms < wanted_ms:
        said = f"it is kept for {_days(has_ms)}, EBS_RETENTION_DAYS says {_days(wanted_ms)}"
        yield Finding(Severity.INFO, spec.name, said, "the setting applies only to new topics", fix)


def _shown_ms(settings: Settings) -> float:
    return max(settings.window_retention_h, settings.seen_retention_h) * _HOUR_MS


def _check_compaction(topic: TopicFacts, facts: SystemFacts) -> Iterator[Finding]:
    ratio = float((topic.configs or {}).get("min.cleanable.dirty.ratio", "0.5"))
    if ratio > _LAZY_DIRTY_RATIO:
        said = f"min.cleanable.dirty.ratio={ratio:g}: old rows are kept for long"
        fix = set_topic_config(facts.bootstrap, topic.name, "min.cleanable.dirty.ratio", "0.5")
        yield Finding(Severity.WARNING, topic.name, said, "a restore reads them all", fix)
    if (topic.biggest_partition_bytes or 0) > _BIG_CHANGELOG_BYTES:
        said = f"a partition has {(topic.biggest_partition_bytes or 0) / (1 << 30):.1f} GiB"
        why = "a worker that takes it over must read all of it first"
        fix = "shorten EBS_LEDGER_RETENTION_H or EBS_SEEN_RETENTION_H, or check why the log cleaner does not compact it"
        yield Finding(Severity.WARNING, topic.name, said, why, fix)


def check_broker(settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    """Yield how transactions work, and what is wrong with the brokers' own configuration."""
    yield from _check_transactions(facts)
    configs = facts.broker_configs
    if configs is None:
        why, fix = "timeouts were not checked against it", "give this user DescribeConfigs on the cluster"
        yield Finding(Severity.INFO, "broker", "the permission to read its configuration is missing", why, fix)
        return
    if configs.get("log.cleaner.enable") == "false":
        why = "changelogs and control grow without end"
        yield Finding(Severity.ERROR, "broker", "log.cleaner.enable=false", why, "set log.cleaner.enable=true")
    if configs.get("auto.create.topics.enable") == "true":
        why = "a misspelt topic name creates a topic with one partition, and nobody notices"
        fix = "set auto.create.topics.enable=false on the brokers"
        yield Finding(Severity.INFO, "broker", "auto.create.topics.enable=true", why, fix)
    kept_min = number_in(configs, "offsets.retention.minutes")
    if kept_min is not None and kept_min * 60_000 < settings.retention_days * _DAY_MS:
        why = "the processing workers, if none runs for longer, refuse to start until `ebs offsets reset` decides"
        fix = f"set offsets.retention.minutes={settings.retention_days * 1_440} on the brokers"
        said = f"offsets of a group without members are kept for {_days(kept_min * 60_000)}, records for longer"
        yield Finding(Severity.WARNING, "broker", said, why, fix)


def _check_transactions(facts: SystemFacts) -> Iterator[Finding]:
    if facts.transaction_version == 2:
        said = "transactions have version 2 (KIP-890): the broker refuses late requests"
        yield Finding(Severity.OK, "transactions", said)
    elif facts.transaction_version == 1:
        said = "transactions have version 1: the cluster has not enabled transaction.version=2"
        why = "a worker whose commit is not answered must restart, and each step costs two more round trips"
        upgrade = command("kafka-features.sh", facts.bootstrap, "upgrade --feature transaction.version=2")
        yield Finding(Severity.INFO, "transactions", said, why, f"with brokers of Kafka 4.0 or newer: {upgrade}")
    if facts.forgets_transactions:
        said = "this Kafka can forget a transaction (4.2 to 4.4, KAFKA-20734)"
        why = (
            "while all replicas of a partition are away, a transaction that ends stays open there: whoever reads "
            "committed records waits for ever"
        )
        fix = "use Kafka 4.1; where a partition stands still: " + command(
            "kafka-transactions.sh", facts.bootstrap, "find-hanging --broker-id ID"
        )
        yield Finding(Severity.WARNING, "transactions", said, why, fix)


def _days(duration_ms: int) -> str:
    if duration_ms < 2 * _HOUR_MS:
        return f"{duration_ms / 60_000:.3g} minutes"
    return f"{duration_ms / _HOUR_MS:.3g} hours" if duration_ms < _DAY_MS else f"{duration_ms / _DAY_MS:.3g} days"
