"""Groups, workers and dead letters as they are now; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.names import PROCESSING, queue_of, role_of
from app.rules.worker_heartbeats import is_gone, shown_role
from ebs.doctor.facts import Finding, Severity
from ebs.queues import DEFAULT_QUEUE, start_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.settings.settings import Settings
    from ebs.doctor.facts import GroupFacts, SystemFacts, WorkerFacts

_MUCH_LAG = 100_000


def check_groups(settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    """Yield groups that nobody works for, that are behind, or that lost records."""
    for group in facts.groups:
        role, queue = role_of(group.group_id), queue_of(group.group_id)
        for topic, count in group.lost.items():
            said = f"{count} records of {topic} were deleted before they were read"
            fix = "raise the topic's retention.ms, start more workers, and submit the lost objects again"
            yield Finding(Severity.ERROR, group.group_id, said, "their objects or tasks are lost", fix)
        yield from _check_places(group, role, queue)
        if queue not in facts.retired_queues:
            yield _lag_of(group, role, queue)
        if group.member_count > settings.partitions:
            said = f"it has {group.member_count} workers for {settings.partitions} partitions"
            fix = "run fewer workers; EBS_CONCURRENCY does not depend on partitions"
            yield Finding(Severity.WARNING, group.group_id, said, "the surplus workers are idle", fix)


def _check_places(group: GroupFacts, role: str, queue: str) -> Iterator[Finding]:
    """Yield partitions of which nobody knows how far they were worked, and those that nobody works."""
    reset = f"stop its workers, then ebs offsets reset --role {role}"
    reset += "" if queue == DEFAULT_QUEUE else f" --queue {queue}"
    start = f"{_start_of(role, queue)} (or ebs up)"
    to = "worked (or earliest, latest, an offset)" if role == "processing" else "earliest (or latest, or an offset)"
    decide = f"{reset} --to {to}"
    for topic, numbers in group.without_offset.items():
        said = f"it has worked {_partitions_of(topic, numbers)}, and its committed offsets are gone"
        if role == "processing":
            why = "its workers refuse to start, not knowing which tasks are done: all would run again"
            yield Finding(Severity.ERROR, group.group_id, said, why, decide)
        else:
            why = "its workers continue at the offsets in their tables"
            fix = f"start a worker: {start}"
            yield Finding(Severity.WARNING, group.group_id, said, why, fix)
    for topic, numbers in group.recreated.items():
        said = f"{_partitions_of(topic, numbers)} was recreated since it was worked"
        why = "its workers read the new topic from its first record on; what the old one had is lost"
        fix = f"running workers notice it within 10 s; if none runs: {start}"
        yield Finding(Severity.WARNING, group.group_id, said, why, fix)
    for topic, numbers in group.beyond.items():
        said = f"its committed offsets lie beyond the end of {_partitions_of(topic, numbers)}"
        why = "the topic was recreated (then its workers read it from the start), or the broker has lost records"
        yield Finding(
            Severity.ERROR, group.group_id, said, why, f"see the log of its workers; if they refuse: {decide}"
        )
    for topic, numbers in group.refilled.items():
        said = f"the broker has lost records of {_partitions_of(topic, numbers)}, and has others since"
        why = "new records lie before its committed offsets, so its workers refuse to start: they would be skipped"
        yield Finding(Severity.ERROR, group.group_id, said, why, decide)
    for changelog, numbers in group.without_rows.items():
        said = f"it has worked, and {_partitions_of(changelog, numbers)} has lost rows"
        why = "the topic was recreated, or the broker lost them: its workers refuse to start with incomplete tables"
        fix = f"{reset} --to committed (goes on without these rows)"
        yield Finding(Severity.ERROR, group.group_id, said, why, fix)
    if group.foreign_rows:
        count, first = len(group.foreign_rows), group.foreign_rows[0]
        said = f"records in its changelogs are no rows: {count}, the first at {first}"
        why = "another program, or another version, has written there: its workers refuse to start"
        fix = f"{reset} --to committed (puts back the rows before them)"
        yield Finding(Severity.ERROR, group.group_id, said, why, fix)
    if group.unowned:
        unowned = ", ".join(map(str, group.unowned))
        said = f"it has {group.member_count} members, and none has partitions {unowned}"
        fix = (
            "wait half a minute: a worker without partitions rejoins by itself; if all are drained: "
            "ebs drain WORKER --off"
        )
        yield Finding(Severity.ERROR, group.group_id, said, "no worker reads their records", fix)


def _partitions_of(topic: str, numbers: Sequence[int]) -> str:
    return f"{topic} (partition{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))})"


def _start_of(role: str, queue: str) -> str:
    return start_of(queue) if role == PROCESSING else f"faust -A agents.{role} worker"


def _lag_of(group: GroupFacts, role: str, queue: str) -> Finding:
    lag = sum(group.lag.values())
    behind = ", ".join(f"{count} of {topic}" for topic, count in group.lag.items() if count) or "nothing"
    if group.member_count == 0:
        severity = Severity.ERROR if lag else Severity.WARNING
        said, who = f"no members; records to read: {behind}", shown_role(role, queue)
        return Finding(severity, group.group_id, said, f"no {who} worker runs", f"{_start_of(role, queue)} (or ebs up)")
    said = f"members: {group.member_count}, records to read: {behind}"
    if lag > _MUCH_LAG:
        fix = f"start more workers of {shown_role(role, queue)}, or see what blocks them: ebs workers --running"
        return Finding(Severity.WARNING, group.group_id, said, "work waits", fix)
    return Finding(Severity.OK, group.group_id, said)


def check_former_retry_topics(settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    """Yield the retry topics of an earlier version: tasks may wait there."""
    lags = [group.lag for group in facts.groups if role_of(group.group_id) == PROCESSING]
    behind = lags[0] if lags else {}
    for name, topic in facts.topics.items():
        if not settings.names.is_former_retry_topic(name):
            continue
        if not topic.is_ours:
            said = "retries waited here in an earlier version, and it is not known to be a topic of this system"
            fix = "ebs topics --adopt, if tasks of this system wait in it"
            yield Finding(Severity.INFO, name, said, "no worker reads it", fix)
            continue
        count = behind.get(name, 0)
        said = f"retries waited here in an earlier version, {count} records are left"
        if count and topic.partition_count != settings.partitions:
            said += f", and it has {topic.partition_count} partitions where the others have {settings.partitions}"
            fix = "set EBS_PARTITIONS as it was until it is empty"
            yield Finding(Severity.ERROR, name, said, "no worker reads it: these tasks never continue", fix)
        elif count:
            fix = "start a processing worker of this version; delete the topic when it is empty"
            yield Finding(Severity.WARNING, name, said, "these tasks wait until a worker takes them over", fix)
        else:
            yield Finding(Severity.INFO, name, said, "", "stop the processing workers and delete the topic")


def check_workers(facts: SystemFacts) -> Iterator[Finding]:
    """Yield workers that went silent without a word, and those with handlers that do not end."""
    silent = [worker for worker in facts.workers if is_gone(worker.appended_at_ms, _now_of_broker_ms(facts))]
    living = [worker for worker in facts.workers if worker not in silent]
    if living:
        yield Finding(Severity.OK, "workers", f"{len(living)} live")
    for group in dict.fromkeys(worker.group for worker in silent):
        yield _silent([worker for worker in silent if worker.group == group], _now_of_broker_ms(facts))
    for worker in living:
        yield from _standing(worker)
        if worker.abandoned:
            said = f"{worker.abandoned} handlers of {worker.group}/{worker.name} did not stop when asked to"
            fix = "set a timeout on the calls of the handler; restart the worker"
            yield Finding(Severity.WARNING, "workers", said, "each occupies a slot of EBS_CONCURRENCY", fix)


def _silent(workers: Sequence[WorkerFacts], now_ms: int) -> Finding:
    """Tell of the workers of a role that went silent: one that ends again and again leaves a name each time."""
    last = max(workers, key=lambda worker: worker.appended_at_ms)
    ago_s = (now_ms - last.appended_at_ms) / 1_000
    said = f"{last.group}/{last.name} sent its last heartbeat {ago_s:.0f} s ago and did not stop normally"
    if len(workers) > 1:
        said += f", nor did {len(workers) - 1} more of this role within the last hour"
    fix = "see its log, start it again; this entry disappears after an hour"
    return Finding(Severity.WARNING, "workers", said, "it ended itself, was killed, or hangs", fix)


def _standing(worker: WorkerFacts) -> Iterator[Finding]:
    """Yield why work waits in a worker."""
    where = f"{worker.group}/{worker.name}"
    if worker.standing_still:
        said = f"{where} stands still: {worker.standing_still}"
        fix = "its supervisor restarts it; if this happens again, see its log"
        yield Finding(Severity.ERROR, "workers", said, "it exits soon, and other workers take over its partitions", fix)
    if worker.refused:
        fix = "let another replica lead the partition, or skip the damage (docs/runbooks.md#a-damaged-log)"
        yield Finding(Severity.ERROR, "workers", f"{where}: {worker.refused}", "what lies there is not worked", fix)


def check_letters(facts: SystemFacts) -> Iterator[Finding]:
    """Yield how many dead letters wait for somebody."""
    waiting = facts.waiting_letters
    if waiting:
        yield Finding(
            Severity.WARNING,
            "dead letters",
            f"{waiting} were neither redriven nor discarded",
            "their tasks failed for good",
            "ebs dead-letters groups; then ebs redrive or ebs discard",
        )
    elif waiting == 0:
        yield Finding(Severity.OK, "dead letters", "none")
    else:
        yield Finding(
            Severity.INFO, "dead letters", "the API does not answer, so they are not counted", "", "name it with --api"
        )


def _now_of_broker_ms(facts: SystemFacts) -> int:
    return facts.now_ms + (facts.fresh_heartbeat_lead_ms or 0)
