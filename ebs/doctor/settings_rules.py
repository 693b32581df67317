"""Rules about settings that contradict each other, or the limits of the broker; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.topics.output_topics import why_missing
from ebs.doctor.facts import Finding, Severity, number_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.settings.settings import Settings
    from ebs.doctor.facts import SystemFacts

_HOUR_S = 3_600
_DAY_S = 86_400
_GRACE_S = 40
"""What docker/compose.yaml and docker/kubernetes give a worker to stop."""
_DESK_EXTRA_S = 1
_LOW_DISK_BYTES = 1 << 30
_LOW_DISK_SHARE = 0.05
_CLOCK_SKEW_MS = 2_000


def check_settings(settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    """Yield what is wrong with the settings, on this broker."""
    yield from _timeouts(settings, facts)
    yield from _retries(settings)
    if settings.drain_s >= _GRACE_S:
        yield Finding(
            Severity.WARNING,
            "EBS_DRAIN_S",
            f"a worker drains for {settings.drain_s:g} s, Docker and Kubernetes as shipped kill it after {_GRACE_S} s",
            "tasks that still run then start again on other workers",
            f"set EBS_DRAIN_S below {_GRACE_S}, or raise stop_grace_period / terminationGracePeriodSeconds above it",
        )
    if facts.project_error is not None:
        yield Finding(
            Severity.ERROR,
            "project",
            facts.project_error,
            "no processing worker starts",
            "name a module that can be imported from here and has a project: EBS_PROJECT=shop.work",
        )
    if facts.missing_output_topics:
        yield Finding(
            Severity.ERROR,
            "EBS_OUTPUT_TOPICS",
            why_missing(facts.missing_output_topics, facts.bootstrap),
            "tasks that send records to it wait, and run again when it exists",
            f"make {facts.missing_output_topics[0]}, or take it out of EBS_OUTPUT_TOPICS",
        )
    for path in facts.hidden_packages:
        yield Finding(
            Severity.WARNING,
            "imports",
            f"{path} has the name of a package of ebs",
            "in workers the name means the package of ebs, so a handler cannot import the other one; and a worker that "
            "is started by hand may find the other one",
            "rename it if it is yours; start workers with ebs up, or with python -m ebs.start faust -A "
            "agents.processing worker",
        )
    yield from _disk(settings, facts)


def _timeouts(settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    configs = facts.broker_configs
    longest_ms = number_in(configs, "transaction.max.timeout.ms")
    asked = {
        "EBS_TRANSACTION_TIMEOUT_S": settings.transaction_timeout_s,
        "EBS_PUBLISH_TIMEOUT_S": settings.publish_timeout_s + _DESK_EXTRA_S,
    }
    for name, asked_s in asked.items():
        if longest_ms is not None and asked_s * 1_000 > longest_ms:
            yield Finding(
                Severity.ERROR,
                name,
                f"it asks for transactions of {asked_s:g} s, the broker allows {longest_ms / 1_000:g} s",
                "the broker refuses every transaction",
                f"lower {name}, or raise transaction.max.timeout.ms of the broker",
            )
    cleanup_ms = number_in(configs, "transaction.abort.timed.out.transaction.cleanup.interval.ms")
    if cleanup_ms is not None and cleanup_ms > settings.transaction_timeout_s * 1_000:
        yield Finding(
            Severity.WARNING,
            "transactions",
            f"the broker looks for timed out transactions every {cleanup_ms / 1_000:g} s only",
            f"a dead worker's open transaction blocks readers for longer than EBS_TRANSACTION_TIMEOUT_S "
            f"({settings.transaction_timeout_s:g} s)",
            "set transaction.abort.timed.out.transaction.cleanup.interval.ms=1000 on the brokers",
        )
    low_ms, high_ms = (number_in(configs, f"group.{side}.session.timeout.ms") for side in ("min", "max"))
    session_ms = settings.session_timeout_s * 1_000
    if low_ms is not None and high_ms is not None and not low_ms <= session_ms <= high_ms:
        yield Finding(
            Severity.ERROR,
            "EBS_SESSION_TIMEOUT_S",
            f"{settings.session_timeout_s:g} s is outside the broker's limits: {low_ms / 1_000:g} to "
            f"{high_ms / 1_000:g} s",
            "no worker can join its group",
            "change EBS_SESSION_TIMEOUT_S, or group.min/max.session.timeout.ms of the brokers",
        )


def _retries(settings: Settings) -> Iterator[Finding]:
    steps_s = settings.backoff_s
    waits_s = [steps_s[min(attempt, len(steps_s) - 1)] for attempt in range(settings.max_attempts - 1)]
    age_s = settings.max_task_age_h * _HOUR_S
    if sum(waits_s) > age_s:
        yield Finding(
            Severity.WARNING,
            "EBS_MAX_ATTEMPTS",
            f"{settings.max_attempts} attempts wait for up to {sum(waits_s):g} s, a task may be {age_s:g} s old",
            "the last attempts never start",
            "raise EBS_MAX_TASK_AGE_H, or lower EBS_MAX_ATTEMPTS or EBS_BACKOFF_S",
        )
    if settings.task_time_limit_s >= settings.retention_days * _DAY_S:
        yield Finding(
            Severity.ERROR,
            "EBS_RETENTION_DAYS",
            f"tasks may run for as long as their requests are kept ({settings.retention_days} days)",
            "after a crash such a task cannot run again",
            "raise EBS_RETENTION_DAYS, or lower EBS_TASK_TIME_LIMIT_S",
        )
    if settings.retention_days * 24 < settings.window_retention_h:
        yield Finding(
            Severity.WARNING,
            "EBS_RETENTION_DAYS",
            f"events are kept for {settings.retention_days} days, 10 s windows for {settings.window_retention_h:g} h",
            "windows that are still shown cannot be recounted from the topics",
            "raise EBS_RETENTION_DAYS, or lower EBS_WINDOW_RETENTION_H",
        )


def _disk(settings: Settings, facts: SystemFacts) -> Iterator[Finding]:
    free, total = facts.disk_free_bytes, facts.disk_total_bytes
    if free is None or total is None:
        return
    said = f"{free / (1 << 30):.1f} GiB of {total / (1 << 30):.0f} GiB are free at EBS_DATA_DIR={settings.data_dir}"
    if free < _LOW_DISK_BYTES or free < total * _LOW_DISK_SHARE:
        fix = "free some space, or put EBS_DATA_DIR on another disk"
        why = "stores and the embedded broker stop when the disk is full"
        yield Finding(Severity.ERROR if free < _LOW_DISK_BYTES // 4 else Severity.WARNING, "disk", said, why, fix)
    else:
        yield Finding(Severity.OK, "disk", said)


def check_clocks(facts: SystemFacts) -> Iterator[Finding]:
    """Yield clocks that do not go together: the workers', the broker's, this machine's."""
    fix = "let NTP (chrony, systemd-timesyncd) set the clocks of all machines"
    why = "windows, due times of retries and retention depend on these clocks"
    lead_ms = facts.fresh_heartbeat_lead_ms
    if lead_ms is None:
        yield Finding(Severity.INFO, "clocks", "no worker sends heartbeats, so the clocks cannot be compared")
    elif abs(lead_ms) > _CLOCK_SKEW_MS:
        side = "ahead of" if lead_ms > 0 else "behind"
        said = f"the broker's clock is {abs(lead_ms) / 1_000:.1f} s {side} this machine's"
        yield Finding(Severity.WARNING, "clocks", said, why, fix)
    else:
        yield Finding(
            Severity.OK,
            "clocks",
            f"the broker's clock and this machine's differ by less than {_CLOCK_SKEW_MS / 1_000:g} s",
        )
    for worker in facts.workers:
        skew_ms = worker.said_at_ms - worker.appended_at_ms
        if abs(skew_ms) > _CLOCK_SKEW_MS:
            side = "ahead of" if skew_ms > 0 else "behind"
            said = f"{worker.role}/{worker.name}: its clock is {abs(skew_ms) / 1_000:.1f} s {side} the broker's"
            yield Finding(Severity.WARNING, "clocks", said, why, fix)
