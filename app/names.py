"""The names of one system on Kafka: the only place where a topic, a group or a transactional id is spelt.

All begin with the namespace (EBS_NAMESPACE) and a dot, so that several systems share a cluster: `acme.objects`,
`acme.ebs-processing`. Without a namespace they are bare. No bare name has a dot in it, so no two namespaces meet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ebs.queues import DEFAULT_QUEUE, why_no_queue

DISTRIBUTION = "distribution"
PROCESSING = "processing"
STATISTICS = "statistics"
ROLES = (DISTRIBUTION, PROCESSING, STATISTICS)

SEEN_TABLE = "seen"
LEDGER_TABLE = "ledger"
RESULTS_TABLE = "results"
WINDOWS_TABLE = "windows"
EXPIRY_TABLE = "expiry"
REDRIVEN_TABLE = "redriven"
WAITING_TABLE = "waiting"
SCHEDULES_TABLE = "schedules"

MAX_NAMESPACE_CHARS = 180
"""A topic's name has at most 249 characters, and the longest of ours 68 with the name of a queue and two separators."""

_FORM = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_GROUP_PREFIX = "ebs-"


def why_no_namespace(namespace: str) -> str | None:
    """Return why this cannot be a namespace, None if it can be; an empty one can."""
    if not namespace:
        return None
    if len(namespace) > MAX_NAMESPACE_CHARS:
        return f"must have at most {MAX_NAMESPACE_CHARS} characters: a topic's name has at most 249 with it"
    if _FORM.fullmatch(namespace) is None:
        return (
            "must be letters (A to Z, a to z), digits, '.', '_' and '-', and begin and end with a letter or digit, "
            "such as acme or acme.test"
        )
    # Roles are read from the names of groups.
    if any(f"{_GROUP_PREFIX}{role}" in namespace for role in ROLES):
        return "must not contain the name of one of our consumer groups, such as ebs-processing"
    return None


class WorkerGroup(NamedTuple):
    """The role of a consumer group, of processing in a queue."""

    role: str
    queue: str = DEFAULT_QUEUE


def role_of(group_id: str) -> str:
    """Return the role whose consumer group this is."""
    return group_id.rpartition(_GROUP_PREFIX)[2].partition("-")[0]


def queue_of(group_id: str) -> str:
    """Return the queue whose consumer group this is."""
    return group_id.rpartition(_GROUP_PREFIX)[2].partition("-")[2] or DEFAULT_QUEUE


@dataclass(frozen=True)
class Names:
    """The names of the system in a namespace; `Settings.names` has those of this process."""

    namespace: str = ""

    def of(self, name: str) -> str:
        """Return a bare name in this namespace."""
        return f"{self.namespace}.{name}" if self.namespace else name

    def bare(self, name: str) -> str:
        """Return a name of this namespace without it."""
        return name.removeprefix(f"{self.namespace}.") if self.namespace else name

    @cached_property
    def topics(self) -> str:
        """Which topics this system made, by their ids; one partition."""
        return self.of("ebs-topics")

    @cached_property
    def objects(self) -> str:
        """The objects as they came in."""
        return self.of("objects")

    @cached_property
    def task_requests(self) -> str:
        """The tasks to be worked on, of the default queue."""
        return self.of("task-requests")

    def requests(self, queue: str) -> str:
        """Return the topic of a queue's tasks."""
        return self.task_requests if queue == DEFAULT_QUEUE else f"{self.task_requests}-{queue}"

    def queue_of_topic(self, topic: str) -> str:
        """Return the queue whose requests a topic holds; "" if there is none."""
        if topic == self.task_requests:
            return DEFAULT_QUEUE
        before = f"{self.task_requests}-"
        queue = topic.removeprefix(before) if topic.startswith(before) else ""
        return queue if why_no_queue(queue) is None else ""

    def is_of_requests(self, topic: str) -> bool:
        """Return whether a topic holds requests for tasks: of some queue, or where retries waited earlier."""
        return topic == self.task_requests or topic.startswith(f"{self.task_requests}-")

    @cached_property
    def task_events(self) -> str:
        """What happened to tasks."""
        return self.of("task-events")

    @cached_property
    def object_events(self) -> str:
        """That objects have ended: what other systems subscribe to."""
        return self.of("object-events")

    @cached_property
    def dead_letters(self) -> str:
        """What could not be read or worked, and what was done to it."""
        return self.of("dead-letters")

    @cached_property
    def control(self) -> str:
        """What operators ask for; one partition."""
        return self.of("control")

    @cached_property
    def schedules(self) -> str:
        """The schedules that were set."""
        return self.of("schedules")

    @cached_property
    def workers(self) -> str:
        """The last word of each worker; one partition."""
        return self.of("workers")

    def has_topic(self, name: str) -> bool:
        """Return whether a topic is one of this system's own, its changelogs and former retry topics too."""
        own = (
            self.topics,
            self.objects,
            self.task_events,
            self.object_events,
            self.dead_letters,
            self.control,
            self.schedules,
            self.workers,
        )
        groups = tuple(self.group(role) for role in ROLES)
        return name in own or self.is_of_requests(name) or name.startswith(groups)

    def is_former_retry_topic(self, topic: str) -> bool:
        """Return whether retries waited on a topic before there was the table `waiting`."""
        before = f"{self.task_requests}-retry-"
        return topic.startswith(before) and topic.endswith("s") and topic[len(before) : -1].isdecimal()

    def group(self, role: str, queue: str = DEFAULT_QUEUE) -> str:
        """Return the consumer group of a role, of processing in a queue; transactional ids begin with it, too."""
        return self.of(f"{_GROUP_PREFIX}{role}" if queue == DEFAULT_QUEUE else f"{_GROUP_PREFIX}{role}-{queue}")

    def changelog(self, role: str, table: str, queue: str = DEFAULT_QUEUE) -> str:
        """Return the name of a table's changelog, as Faust names it."""
        return f"{self.group(role, queue)}-{table}-changelog"

    @cached_property
    def seen_changelog(self) -> str:
        """The ids that distribution has seen."""
        return self.changelog(DISTRIBUTION, SEEN_TABLE)

    @cached_property
    def schedules_changelog(self) -> str:
        """The schedules, and when they fire next."""
        return self.changelog(DISTRIBUTION, SCHEDULES_TABLE)

    @cached_property
    def ledger_changelog(self) -> str:
        """The rows of objects."""
        return self.changelog(STATISTICS, LEDGER_TABLE)

    @cached_property
    def results_changelog(self) -> str:
        """The rows of tasks' results and errors."""
        return self.changelog(STATISTICS, RESULTS_TABLE)

    @cached_property
    def windows_changelog(self) -> str:
        """The windows and the totals."""
        return self.changelog(STATISTICS, WINDOWS_TABLE)

    @cached_property
    def expiry_changelog(self) -> str:
        """Which ledger rows to look at when."""
        return self.changelog(STATISTICS, EXPIRY_TABLE)

    @property
    def desk_transactional_id(self) -> str:
        """What the API processes share that act on dead letters."""
        return self.of("ebs-dead-letters-desk")


BARE = Names()
"""The names of a system without a namespace."""
