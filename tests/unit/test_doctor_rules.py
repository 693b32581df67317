"""What the doctor says of facts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.settings.settings import Settings
from app.topics.catalogue import catalogue
from ebs.doctor.diagnosis import diagnose
from ebs.doctor.facts import GroupFacts, ScheduleFacts, Severity, SystemFacts, TopicFacts, WorkerFacts

NOW_MS = 1_795_489_276_303
BROKER = {
    "transaction.max.timeout.ms": "900000",
    "group.min.session.timeout.ms": "6000",
    "group.max.session.timeout.ms": "1800000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "auto.create.topics.enable": "false",
    "log.cleaner.enable": "true",
    "offsets.retention.minutes": "10080",
}
HEALTHY_SETTINGS = Settings(replication_factor=3, min_insync_replicas=2)
HEALTHY = SystemFacts(
    bootstrap="kafka:9092",
    now_ms=NOW_MS,
    broker_count=3,
    broker_configs=BROKER,
    topics={
        spec.name: TopicFacts(
            spec.name, spec.partition_count, 3, 3, {"min.cleanable.dirty.ratio": "0.5", **spec.config}
        )
        for spec in catalogue(HEALTHY_SETTINGS)
    },
    groups=[GroupFacts(f"ebs-{role}", 1, {"objects": 3}) for role in ("distribution", "processing", "statistics")],
    workers=[WorkerFacts("w-1", "processing", NOW_MS - 1_000, NOW_MS - 900)],
    fresh_heartbeat_lead_ms=5,
    transaction_version=2,
    waiting_letters=0,
    disk_free_bytes=50 << 30,
    disk_total_bytes=100 << 30,
)
CHANGELOG = "ebs-statistics-ledger-changelog"


def with_topic(name: str, configs: dict[str, str] | None = None, **changes: object) -> SystemFacts:
    """Return the healthy facts with one topic changed."""
    topic = HEALTHY.topics[name]
    topic = replace(topic, configs={**(topic.configs or {}), **(configs or {})}, **changes)
    return replace(HEALTHY, topics={**HEALTHY.topics, name: topic})


def with_broker(**configs: str) -> SystemFacts:
    """Return the healthy facts with the broker's configuration changed; `__` stands for a dot."""
    changed = {name.replace("__", "."): value for name, value in configs.items()}
    return replace(HEALTHY, broker_configs={**BROKER, **changed})


FOREIGN = replace(
    HEALTHY,
    topics={name: replace(one, is_ours=name not in {"objects", "control"}) for name, one in HEALTHY.topics.items()},
)
WITHOUT_REGISTRY = replace(HEALTHY, topics={name: one for name, one in HEALTHY.topics.items() if name != "ebs-topics"})


def test_healthy_system_has_nothing_but_ok():
    """No finding says that anything is wrong."""
    assert {Severity.OK} == {finding.severity for finding in diagnose(HEALTHY_SETTINGS, HEALTHY)}


@pytest.mark.parametrize(
    ("facts", "settings", "severity", "subject", "what", "fix"),
    [
        (replace(HEALTHY, topics={}), {}, "error", "objects", "does not exist", "ebs topics"),
        (
            replace(HEALTHY, missing_output_topics=["sales"]),
            {},
            "error",
            "EBS_OUTPUT_TOPICS",
            "the topic sales does not exist at kafka:9092",
            "make sales, or take it out of EBS_OUTPUT_TOPICS",
        ),
        (with_topic("objects", is_ours=False), {}, "error", "objects", "nothing says", "ebs topics --adopt"),
        (FOREIGN, {}, "error", "objects and 1 more", "made them: objects, control", "ebs topics --adopt"),
        (
            replace(
                HEALTHY, groups=[GroupFacts("ebs-statistics", 0, foreign_rows=[f"{CHANGELOG}-1@7", f"{CHANGELOG}-2@9"])]
            ),
            {},
            "error",
            "ebs-statistics",
            f"are no rows: 2, the first at {CHANGELOG}-1@7",
            "ebs offsets reset --role statistics --to committed",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-processing", 1, recreated={"task-requests": [0, 3]})]),
            {},
            "warning",
            "ebs-processing",
            "task-requests (partitions 0, 3) was recreated since it was worked",
            "running workers notice it within 10 s",
        ),
        (WITHOUT_REGISTRY, {}, "error", "ebs-topics", "does not exist", "ebs topics --adopt"),
        (
            replace(HEALTHY, workers=[WorkerFacts(f"w-{n}", "processing", 0, NOW_MS - n * 60_000) for n in (3, 1, 2)]),
            {},
            "warning",
            "workers",
            "processing/w-1 sent its last heartbeat 60 s ago and did not stop normally, nor did 2 more of this role",
            "see its log",
        ),
        (with_topic("control", partition_count=4, made_by_us=False), {}, "error", "control", "4 part", "EBS_NAMESPACE"),
        (with_topic("objects", partition_count=4), {}, "error", "objects", "4 partitions", "EBS_PARTITIONS=4"),
        (with_topic("control", partition_count=4), {}, "error", "control", "4 partitions", "--delete --topic control"),
        (with_topic("objects", fewest_in_sync=0), {}, "error", "objects", "0 replicas in sync", "start the brokers"),
        (
            with_topic("objects", replication_factor=3, fewest_in_sync=2),
            {},
            "warning",
            "objects",
            "2 of 3 replicas",
            "repair the broker",
        ),
        (HEALTHY, {"partitions": 4}, "error", "EBS_PARTITIONS", "all topics have 8", "set EBS_PARTITIONS=8"),
        (HEALTHY, {"replication_factor": 4}, "warning", "objects", "EBS_REPLICATION_FACTOR is 4", "reassign"),
        (with_topic("objects", replication_factor=1), {}, "warning", "replicas", "1 replica on 3 brokers", "FACTOR=3"),
        (
            with_broker(offsets__topic__replication__factor="1"),
            {"replication_factor": 3},
            "warning",
            "broker",
            "offsets.topic.replication.factor=1, EBS_REPLICATION_FACTOR is 3",
            "reassign",
        ),
        (with_topic("objects", {"min.insync.replicas": "1"}), {}, "warning", "replicas", "replicas=1", "=2"),
        (
            with_topic(CHANGELOG, {"cleanup.policy": "delete"}),
            {},
            "error",
            CHANGELOG,
            "delete",
            "cleanup.policy=compact",
        ),
        (
            with_topic("task-events", {"cleanup.policy": "compact"}),
            {},
            "error",
            "task-events",
            "compact",
            "policy=delete",
        ),
        (
            with_topic("task-requests", {"retention.ms": "3600000"}),
            {},
            "error",
            "task-requests",
            "MAX_TASK_AGE",
            "604800000",
        ),
        (
            with_topic("task-events", {"retention.ms": "600000"}),
            {},
            "warning",
            "task-events",
            "WINDOW_RETENTION",
            "604800000",
        ),
        (with_topic("objects", {"retention.ms": "172800000"}), {}, "info", "objects", "kept for 2 days", "604800000"),
        (with_topic("dead-letters", {"retention.ms": "60000"}), {}, "warning", "dead-letters", "not for ever", "=-1"),
        (
            with_topic("objects", {"max.message.bytes": "1000"}),
            {},
            "warning",
            "objects",
            "max.message.bytes=1000",
            "max.message.bytes=1048576",
        ),
        (
            with_topic("objects", {"unclean.leader.election.enable": "true"}),
            {},
            "warning",
            "objects",
            "unclean",
            "enable=false",
        ),
        (
            with_topic("workers", {"message.timestamp.type": "CreateTime"}),
            {},
            "warning",
            "workers",
            "CreateTime",
            "LogAppend",
        ),
        (with_topic(CHANGELOG, {"min.cleanable.dirty.ratio": "0.95"}), {}, "warning", CHANGELOG, "0.95", "ratio=0.5"),
        (
            with_topic(CHANGELOG, biggest_partition_bytes=5 << 30),
            {},
            "warning",
            CHANGELOG,
            "5.0 GiB",
            "EBS_LEDGER_RETENTION_H",
        ),
        (with_broker(log__cleaner__enable="false"), {}, "error", "broker", "cleaner", "enable=true"),
        (with_broker(auto__create__topics__enable="true"), {}, "info", "broker", "auto.create", "enable=false"),
        (with_broker(offsets__retention__minutes="60"), {}, "warning", "broker", "offsets", "minutes=10080"),
        (
            with_broker(transaction__max__timeout__ms="5000"),
            {},
            "error",
            "EBS_TRANSACTION_TIMEOUT_S",
            "allows 5 s",
            "lower",
        ),
        (
            with_broker(transaction__abort__timed__out__transaction__cleanup__interval__ms="60000"),
            {},
            "warning",
            "transactions",
            "every 60 s",
            "interval.ms=1000",
        ),
        (HEALTHY, {"session_timeout_s": 2}, "error", "EBS_SESSION_TIMEOUT_S", "6 to 1800 s", "group.min/max"),
        (HEALTHY, {"drain_s": 60}, "warning", "EBS_DRAIN_S", "60 s", "below 40"),
        (
            HEALTHY,
            {"max_attempts": 16, "max_task_age_h": 0.1},
            "warning",
            "EBS_MAX_ATTEMPTS",
            "791 s",
            "EBS_MAX_TASK_AGE_H",
        ),
        (
            HEALTHY,
            {"task_time_limit_s": 86_400, "retention_days": 1, "window_retention_h": 1},
            "error",
            "EBS_RETENTION_DAYS",
            "as long as",
            "raise EBS_RETENTION_DAYS",
        ),
        (HEALTHY, {"window_retention_h": 500}, "warning", "EBS_RETENTION_DAYS", "500 h", "EBS_WINDOW_RETENTION_H"),
        (replace(HEALTHY, project_error="EBS_PROJECT=a.b: no"), {}, "error", "project", "a.b", "EBS_PROJECT="),
        (replace(HEALTHY, hidden_packages=["/shop/app"]), {}, "warning", "imports", "/shop/app", "ebs.start"),
        (replace(HEALTHY, disk_free_bytes=2 << 30), {}, "warning", "disk", "2.0 GiB of 100", "EBS_DATA_DIR"),
        (replace(HEALTHY, disk_free_bytes=1 << 20), {}, "error", "disk", "0.0 GiB", "EBS_DATA_DIR"),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-processing", 0)]),
            {},
            "warning",
            "ebs-processing",
            "no members",
            "agents.proc",
        ),
        (replace(HEALTHY, groups=[GroupFacts("ebs-x", 0, {"t": 9})]), {}, "error", "ebs-x", "9 of t", "worker"),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-x", 1, {"t": 200_000})]),
            {},
            "warning",
            "ebs-x",
            "200000 of t",
            "more",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-x", 1, {}, {"t": 7})]),
            {},
            "error",
            "ebs-x",
            "7 records of t",
            "retention",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-processing", 1, without_offset={"t": [1, 2]})]),
            {},
            "error",
            "ebs-processing",
            "t (partitions 1, 2), and its committed offsets are gone",
            "ebs offsets reset --role processing",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-statistics", 1, without_offset={"t": [1]})]),
            {},
            "warning",
            "ebs-statistics",
            "it has worked t (partition 1)",
            "worker",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-processing", 1, beyond={"t": [1]})]),
            {},
            "error",
            "ebs-processing",
            "lie beyond the end of t (partition 1)",
            "ebs offsets reset --role processing",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-statistics", 0, refilled={"t": [1, 2]})]),
            {},
            "error",
            "ebs-statistics",
            "has lost records of t (partitions 1, 2), and has others since",
            "ebs offsets reset --role statistics --to earliest",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-statistics", 0, without_rows={"c": [1]})]),
            {},
            "error",
            "ebs-statistics",
            "c (partition 1) has lost rows",
            "ebs offsets reset --role statistics --to committed",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-x", 2, unowned=[4, 5])]),
            {},
            "error",
            "ebs-x",
            "2 members, and none has partitions 4, 5",
            "rejoins by itself",
        ),
        (
            replace(HEALTHY, groups=[GroupFacts("ebs-x", 9)]),
            {},
            "warning",
            "ebs-x",
            "9 workers for 8",
            "EBS_CONCURRENCY",
        ),
        (
            replace(HEALTHY, workers=[WorkerFacts("w-1", "processing", NOW_MS - 60_000, NOW_MS - 60_000)]),
            {},
            "warning",
            "workers",
            "processing/w-1 sent its last heartbeat 60 s ago",
            "its log",
        ),
        (
            replace(HEALTHY, workers=[WorkerFacts("w-1", "processing", NOW_MS, NOW_MS, abandoned=2)]),
            {},
            "warning",
            "workers",
            "2 handlers",
            "timeout",
        ),
        (
            replace(HEALTHY, workers=[WorkerFacts("w-1", "processing", NOW_MS + 9_000, NOW_MS)]),
            {},
            "warning",
            "clocks",
            "9.0 s ahead of the broker's",
            "NTP",
        ),
        (replace(HEALTHY, fresh_heartbeat_lead_ms=-4_000), {}, "warning", "clocks", "4.0 s behind", "NTP"),
        (replace(HEALTHY, fresh_heartbeat_lead_ms=None), {}, "info", "clocks", "cannot be compared", ""),
        (replace(HEALTHY, waiting_letters=12), {}, "warning", "dead letters", "12 were neither", "ebs redrive"),
        (
            replace(HEALTHY, schedules=[ScheduleFacts("a", "repotr", "WAITING")], kinds=frozenset({"report"})),
            {},
            "error",
            "schedule a",
            'did you mean "report"',
            "ebs schedule show a",
        ),
        (
            replace(HEALTHY, schedules=[ScheduleFacts("a", "report", "NEW")]),
            {},
            "warning",
            "schedule a",
            "no distribution worker has taken it over",
            "faust -A agents.distribution",
        ),
        (replace(HEALTHY, waiting_letters=None), {}, "info", "dead letters", "does not answer", "--api"),
        (replace(HEALTHY, transaction_version=1), {}, "info", "transactions", "version 1", "kafka-features.sh"),
        (replace(HEALTHY, forgets_transactions=True), {}, "warning", "transactions", "KAFKA-20734", "find-hanging"),
        (replace(HEALTHY, broker_configs=None), {}, "info", "broker", "is missing", "DescribeConfigs"),
    ],
)
def test_what_is_wrong_is_named_with_its_fix(facts, settings, severity, subject, what, fix):  # noqa: PLR0917  # a table
    """One finding of that severity names it; everything that is wrong has a reason, and errors and warnings a fix."""
    findings = diagnose(Settings(**settings), facts)
    said = [f"{one.severity} {one.subject}: {one.what} -> {one.fix}" for one in findings]
    assert any(
        severity == one.severity and subject == one.subject and what in one.what and fix in one.fix for one in findings
    ), "\n".join(said)
    assert [] == [one for one in findings if one.severity in {"warning", "error"} and not (one.why and one.fix)]


def test_topic_whose_configuration_is_hidden_is_said_to_be_unchecked():
    """Without DescribeConfigs the rest is looked at all the same."""
    topics = {name: replace(topic, configs=None) for name, topic in HEALTHY.topics.items()}
    findings = diagnose(HEALTHY_SETTINGS, replace(HEALTHY, topics=topics))
    assert len(topics) == len([one for one in findings if "is missing" in one.what])


def test_doctor_proposes_no_change_to_a_topic_of_another_system():
    """Neither its deletion nor another configuration, whatever it looks like."""
    topic = replace(HEALTHY.topics["objects"], is_ours=False, partition_count=3, configs={"cleanup.policy": "compact"})
    findings = diagnose(HEALTHY_SETTINGS, replace(HEALTHY, topics={**HEALTHY.topics, "objects": topic}))
    (found,) = [one for one in findings if one.subject == "objects"]
    assert not any(text in found.fix for text in ("--delete", "--alter"))


def test_work_that_waits_in_a_worker_is_told():
    """A standstill is an error; a silent worker's last word is not news."""
    worker = replace(
        HEALTHY.workers[0],
        standing_still="tasks are due",
        refused="the broker cannot read t-1",
    )
    findings = diagnose(HEALTHY_SETTINGS, replace(HEALTHY, workers=[worker]))
    told = {(one.severity, one.what) for one in findings if one.subject == "workers"}
    assert (Severity.ERROR, "processing/w-1 stands still: tasks are due") in told
    assert (Severity.ERROR, "processing/w-1: the broker cannot read t-1") in told
    gone = replace(worker, appended_at_ms=NOW_MS - 60_000)
    assert not any("stands still" in one.what for one in diagnose(HEALTHY_SETTINGS, replace(HEALTHY, workers=[gone])))


@pytest.mark.parametrize(
    ("count", "partition_count", "severity"), [(3, 8, Severity.WARNING), (3, 4, Severity.ERROR), (0, 8, Severity.INFO)]
)
def test_former_retry_topic_is_told(count, partition_count, severity):
    """Tasks may wait in it: how many, who reads it, when it may be deleted."""
    name = "task-requests-retry-7s"
    topic = replace(HEALTHY.topics["task-requests"], name=name, partition_count=partition_count)
    groups = [GroupFacts("ebs-processing", 1, {name: count})]
    facts = replace(HEALTHY, topics={**HEALTHY.topics, name: topic}, groups=groups)
    (found,) = [one for one in diagnose(HEALTHY_SETTINGS, facts) if one.subject == name]
    assert (severity, True) == (found.severity, f"{count} records are left" in found.what)
    assert found.fix


GPU = replace(HEALTHY, queues=("default", "gpu"))
REQUESTS = "task-requests-gpu"


def with_queue(group: GroupFacts | None = None, *, missing: str = "", **changes: object) -> SystemFacts:
    """Return the facts of a system whose project has the queue gpu."""
    topics = {
        spec.name: TopicFacts(spec.name, spec.partition_count, 3, 3, {**spec.config})
        for spec in catalogue(HEALTHY_SETTINGS, queues=("default", "gpu"))
        if spec.name != missing
    }
    groups = [*HEALTHY.groups, *([] if group is None else [group])]
    return replace(GPU, topics=topics, groups=groups, **changes)


@pytest.mark.parametrize(
    ("facts", "severity", "subject", "what", "fix"),
    [
        (
            with_queue(missing=REQUESTS),
            Severity.ERROR,
            REQUESTS,
            "the topic does not exist",
            "ebs topics",
        ),
        (
            with_queue(GroupFacts("ebs-processing-gpu", 0, {REQUESTS: 7})),
            Severity.ERROR,
            "ebs-processing-gpu",
            f"no members; records to read: 7 of {REQUESTS}",
            "EBS_QUEUE=gpu faust -A agents.processing worker (or ebs up)",
        ),
        (
            with_queue(GroupFacts("ebs-processing-gpu", 1, without_offset={REQUESTS: [1]})),
            Severity.ERROR,
            "ebs-processing-gpu",
            "its committed offsets are gone",
            "ebs offsets reset --role processing --queue gpu --to worked",
        ),
        (
            replace(GPU, workers=[WorkerFacts("w", "processing", NOW_MS, NOW_MS - 60_000, queue="gpu")]),
            Severity.WARNING,
            "workers",
            "processing gpu/w sent its last heartbeat 60 s ago",
            "see its log",
        ),
        (
            with_queue(
                GroupFacts("ebs-processing-gpu", 0, {REQUESTS: 7}), queues=("default",), retired_queues={"gpu": 2}
            ),
            Severity.ERROR,
            REQUESTS,
            "no kind has the queue gpu any more; left in it: 7 requests, 2 waiting tasks",
            "EBS_QUEUE=gpu faust -A agents.processing worker",
        ),
        (
            with_queue(GroupFacts("ebs-processing-gpu", 0), queues=("default",), retired_queues={"gpu": None}),
            Severity.ERROR,
            REQUESTS,
            "left in it: 0 requests, an unknown number of waiting tasks",
            "EBS_QUEUE=gpu faust -A agents.processing worker",
        ),
        (
            with_queue(
                GroupFacts("ebs-processing-gpu", 1, {REQUESTS: 7}), queues=("default",), retired_queues={"gpu": 2}
            ),
            Severity.INFO,
            REQUESTS,
            "no kind has the queue gpu any more",
            "it moves each task to the queue of its kind",
        ),
        (
            with_queue(GroupFacts("ebs-processing-gpu", 0), queues=("default",), retired_queues={"gpu": 0}),
            Severity.INFO,
            REQUESTS,
            "left in it: 0 requests, 0 waiting tasks",
            f"--delete --topic {REQUESTS}",
        ),
    ],
)
def test_what_is_wrong_with_a_queue_is_named_with_its_fix(facts, severity, subject, what, fix):
    """A queue without a topic, a worker or offsets, and one that no kind has any more."""
    found = [one for one in diagnose(HEALTHY_SETTINGS, facts) if one.subject == subject and what in one.what]
    assert [(severity, True)] == [(one.severity, fix in one.fix) for one in found]


def test_queues_are_not_judged_by_a_project_that_cannot_be_imported():
    """It would seem that no kind has a queue any more."""
    facts = with_queue(queues=("default",), retired_queues={"gpu": 2}, project_error="SyntaxError")
    assert [] == [one for one in diagnose(HEALTHY_SETTINGS, facts) if "gpu" in one.what]


def test_defaults_say_what_a_power_cut_may_take():
    """One broker, one replica, min ISR 1: no fault, and nothing that should surprise an operator; it is said once."""
    topics = {
        name: replace(topic, replication_factor=1, fewest_in_sync=1, configs={"min.insync.replicas": "1"})
        for name, topic in HEALTHY.topics.items()
    }
    found = diagnose(Settings(), replace(HEALTHY, broker_count=1, topics=topics))
    (finding,) = [one for one in found if one.subject == "replicas"]
    assert (Severity.INFO, True) == (finding.severity, "a power cut can lose" in finding.why)
    assert f"and {len(topics) - 1} more topics have 1 replica" in finding.what
    assert "EBS_REPLICATION_FACTOR=3 EBS_MIN_INSYNC_REPLICAS=2" in finding.fix
