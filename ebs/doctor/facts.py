"""The facts that the doctor has read from a system, and the findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from app.rules.worker_heartbeats import shown_role
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Severity(StrEnum):
    """How bad a finding is; only an error makes the exit code 1."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """A finding: what is wrong, why it matters, and how to fix it (empty if there is nothing to fix)."""

    severity: Severity
    subject: str
    what: str
    why: str = ""
    fix: str = ""


@dataclass(frozen=True)
class TopicFacts:
    """A topic as the broker has it; `configs` None: we may not read them.

    `is_ours`: this system has noted it as its own; `made_by_us`: and made it itself.
    """

    name: str
    partition_count: int
    replication_factor: int
    fewest_in_sync: int
    configs: Mapping[str, str] | None = None
    biggest_partition_bytes: int | None = None
    is_ours: bool = True
    made_by_us: bool = True


@dataclass(frozen=True)
class GroupFacts:
    """A consumer group: members, records to read by topic, and committed offsets whose records are gone.

    `without_offset`: by topic the partitions that it has worked and that have no committed offset any more; `beyond`:
    those whose committed offset lies beyond the end; `recreated`: those of a topic that was
    recreated since they were worked; `refilled`: those whose records before it were lost, and that have
    others there now; `without_rows`: by changelog the partitions that were worked and whose rows, or newest rows, are
    gone; `foreign_rows`: where records lie in its changelogs that are no rows; `unowned`: partition numbers that no
    member has.
    """

    group_id: str
    member_count: int
    lag: Mapping[str, int] = field(default_factory=dict)
    lost: Mapping[str, int] = field(default_factory=dict)
    without_offset: Mapping[str, Sequence[int]] = field(default_factory=dict)
    beyond: Mapping[str, Sequence[int]] = field(default_factory=dict)
    recreated: Mapping[str, Sequence[int]] = field(default_factory=dict)
    refilled: Mapping[str, Sequence[int]] = field(default_factory=dict)
    without_rows: Mapping[str, Sequence[int]] = field(default_factory=dict)
    foreign_rows: Sequence[str] = ()
    unowned: Sequence[int] = ()


@dataclass(frozen=True)
class WorkerFacts:
    """A worker's last heartbeat: its own clock's time and the broker's (epoch ms)."""

    name: str
    role: str
    said_at_ms: int
    appended_at_ms: int
    abandoned: int = 0
    standing_still: str = ""
    refused: str = ""
    queue: str = ""

    @property
    def group(self) -> str:
        """Its role, with its queue if that is not the default one."""
        return shown_role(self.role, self.queue)


@dataclass(frozen=True)
class ScheduleFacts:
    """A schedule: its name, the kind of its objects, its state as the API tells it."""

    name: str
    kind: str
    state: str


@dataclass(frozen=True)
class SystemFacts:
    """Everything that was found out; None: it could not be."""

    bootstrap: str
    now_ms: int
    broker_count: int
    broker_configs: Mapping[str, str] | None
    topics: Mapping[str, TopicFacts]
    groups: Sequence[GroupFacts] = ()
    workers: Sequence[WorkerFacts] = ()
    fresh_heartbeat_lead_ms: int | None = None
    """How far the broker's clock was before ours when it just wrote a heartbeat down; negative: behind."""
    transaction_version: int | None = None
    """What the cluster has agreed on: 2 (KIP-890), or 1 for all before."""
    forgets_transactions: bool = False
    """Whether its Kafka has this fault (KAFKA-20734)."""
    waiting_letters: int | None = None
    schedules: Sequence[ScheduleFacts] | None = None
    kinds: frozenset[str] | None = None
    """The kinds that the project here has functions for; None: every kind is worked, or it is not known."""
    disk_free_bytes: int | None = None
    disk_total_bytes: int | None = None
    project_error: str | None = None
    queues: Sequence[str] = (DEFAULT_QUEUE,)
    """Those that kinds of the project have."""
    retired_queues: Mapping[str, int | None] = field(default_factory=dict)
    """Those that no kind has any more, with the rows that wait in their tables; None: that would take too long."""
    missing_output_topics: Sequence[str] = ()
    """Those of EBS_OUTPUT_TOPICS that do not exist."""
    hidden_packages: Sequence[str] = ()
    """Where others have a package of one of our names, which our processes do not see."""


def command(tool: str, bootstrap: str, rest: str) -> str:
    """Return a command of Kafka's own tools."""
    return f"{tool} --bootstrap-server {bootstrap} {rest}"


def set_topic_config(bootstrap: str, topic: str, name: str, value: str) -> str:
    """Return the command that sets a topic's configuration; brackets are how the tool takes a list."""
    value = f"'{name}=[{value}]'" if "," in value else f"{name}={value}"
    rest = f"--alter --entity-type topics --entity-name {topic} --add-config {value}"
    return command("kafka-configs.sh", bootstrap, rest)


def number_in(configs: Mapping[str, str] | None, name: str) -> int | None:
    """Return a configuration that is a whole number, None if it is not known."""
    text = (configs or {}).get(name, "")
    return int(text) if text.lstrip("-").isdecimal() else None
