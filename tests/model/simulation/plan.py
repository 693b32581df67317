"""What a seed stands for: the objects, what their handlers do, who works, and what goes wrong.

Each schedule draws only some of the faults, and those at rates of its own (swarm testing: Groce et al., 2012): a mix of
everything is so bad that nothing ever comes far, and the interesting is rare.
"""

from __future__ import annotations

import random
import zlib
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from app.names import PROCESSING, ROLES, STATISTICS, WorkerGroup
from app.rules.placement import partition_of
from app.rules.schedule_times import next_instants
from app.rules.schedules import Schedule as Timed
from app.rules.schedules import fired_object_id
from app.settings.settings import load
from ebs.queues import DEFAULT_QUEUE
from simulation.commands import draw_clocks, draw_commands
from simulation.faults import APIS, KINDS, OF_TRANSACTIONS
from simulation.functions import MAPPED, PLAIN, QUEUE, SINK, Job, spec_of
from simulation.loop import EPOCH_MS

if TYPE_CHECKING:
    from app.settings.settings import Settings

_PARTITIONS = (1, 2, 3)
_OBJECTS = (1, 6)
_MAX_TASKS = 3
_MAX_LINKS = 2
"""Objects that the join of one may submit, one after the other."""
_MAX_ATTEMPTS = 3
_RATES = (0.01, 0.03, 0.1)
_ONE_WAY_S = ((0.0002, 0.003), (0.0002, 0.003), (0.001, 0.02))
"""From and to: a slow network makes transactions long, and what comes late fall into the middle of the next one."""
_TROUBLE_S = (2.0, 8.0)
_MAX_INSTANTS = 100


@cache
def _base_settings() -> Settings:
    return load(max_attempts=_MAX_ATTEMPTS, backoff_s=(1, 3), output_topics=(SINK,))


def group_named(name: str) -> WorkerGroup:
    """Return the group of the workers that are called so: a role, or `processing.<queue>`."""
    role, _, queue = name.partition(".")
    return WorkerGroup(role, queue or DEFAULT_QUEUE)


class Submitted(NamedTuple):
    """An object's record: when it is written, where, and how many tasks it asks for, or what its split is to do."""

    at_s: float
    partition: int
    object_id: str
    task_count: int
    job: Job | None = None
    key: str = ""
    delay_s: float = 0.0

    @property
    def kind(self) -> str:
        """The kind of the object: with a split and a join, or without."""
        return PLAIN if self.job is None else MAPPED


class Deed(NamedTuple):
    """What is done to a worker, and when: kill, freeze (for `lasts_s`), stop, or start one more."""

    at_s: float
    kind: str
    worker: str
    lasts_s: float


class Plan:
    """Everything that is decided before a schedule begins; single requests' faults are drawn on the way."""

    def __init__(self, seed: int, **given: Any) -> None:
        """Draw a plan; what is `given` by its attribute's name is not left to chance."""
        self.seed = seed
        rng = random.Random(seed)
        self.partitions = rng.choice(_PARTITIONS)
        self.transaction_version = rng.choice((1, 2))
        self.has_stable_ids = rng.random() < 0.5
        self.may_list = rng.random() < 0.7
        self.session_s = rng.choice((1.5, 3.0))
        self.transaction_timeout_s = rng.choice((2.0, 5.0))
        self.concurrency = rng.choice((1, 4, 16))
        self.commit_interval_ms = rng.choice((5, 50))
        self.in_order = rng.random() < 0.3
        self.max_parked = rng.choice((1, 3, 1_000))
        self.worker_counts = {role: rng.choice((1, 1, 2, 3)) for role in ROLES}
        self.trouble_s = rng.uniform(*_TROUBLE_S)
        self.fault_rates = {kind: rng.choice(_RATES) for kind in KINDS if rng.random() < 0.3}
        self.one_way_s = rng.choice(_ONE_WAY_S)
        self.fault_apis = rng.choice((OF_TRANSACTIONS, frozenset(APIS.values()), frozenset({"EndTxn"})))
        self.slow_marker_rate = rng.choice((0.0, 0.03, 0.3))
        self.deed_kinds = rng.sample(("kill", "freeze", "stop", "start"), rng.randint(0, 3))
        self.deed_count = rng.randint(0, 4)
        self.deadly_rate = rng.choice((0.0, 0.0, 0.0, 0.05))
        self.object_count = rng.randint(*_OBJECTS)
        self.may_split = rng.random() < 0.7
        self.has_queue = rng.random() < 0.2
        of_queue = rng.choice((1, 2))
        self.is_scarce = rng.random() < 0.3
        waits = random.Random(f"{seed} waits")
        self.has_delays = waits.random() < 0.3
        self.has_commands = waits.random() < 0.25
        self.may_cancel = waits.random() < 0.3
        self.has_clocks = waits.random() < 0.1
        self.__dict__.update(given)
        if self.has_queue:
            self.worker_counts = {**self.worker_counts, f"{PROCESSING}.{QUEUE}": of_queue}
        self.submitted = self._draw_objects(rng)
        self.deeds = self._draw_deeds(rng)
        self.timed = self._draw_timed(random.Random(f"{seed} timed"))
        self._draw_waits(waits)

    @cached_property
    def settings(self) -> Settings:
        """The settings of all workers."""
        drawn = {
            "partitions": self.partitions,
            "concurrency": self.concurrency,
            "commit_interval_ms": self.commit_interval_ms,
            "project": spec_of(has_queue=self.has_queue, in_order=self.in_order, is_scarce=self.is_scarce),
        }
        return _base_settings().model_copy(update=drawn)

    @property
    def groups(self) -> list[WorkerGroup]:
        """The groups of the workers, each by its name in `worker_counts`."""
        return [group_named(name) for name in self.worker_counts]

    @cached_property
    def fired(self) -> set[str]:
        """The ids of the objects that the schedules must make: one for each of their instants."""
        return {
            fired_object_id(one.name, at_ms)
            for _, one in self.timed
            for at_ms in next_instants(one.timing, one.at_ms, _MAX_INSTANTS)
        }

    def handler(self, task_id: str, attempt: int) -> tuple[float, str]:
        """Return how long an attempt takes (s), and its end: "fails", "rejected", "deadly", or "" if it returns."""
        rng = random.Random(zlib.crc32(f"{self.seed} {task_id} {attempt}".encode()))
        takes_s = rng.choice((0.0, 0.005, 0.05, 0.4))
        drawn = rng.random()
        if rng.random() < self.deadly_rate:
            return takes_s, "deadly"
        return takes_s, "rejected" if drawn < 0.05 else "fails" if drawn < 0.25 else ""

    def end_of(self, task_id: str) -> tuple[str, int]:
        """Return how a task must end, and with which attempt."""
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            _, fails = self.handler(task_id, attempt)
            if not fails:
                return "TASK_FINISHED", attempt
            if fails in ("rejected", "deadly"):
                return "TASK_DEAD", attempt
        return "TASK_DEAD", _MAX_ATTEMPTS

    def describe(self) -> list[str]:
        """Return the plan for people."""
        rates = ", ".join(f"{kind} {rate:.0%}" for kind, rate in self.fault_rates.items()) or "none"
        who = ", ".join(f"{count} {role}" for role, count in self.worker_counts.items())
        ids = "stable" if self.has_stable_ids else "random"
        return [
            f"seed {self.seed}: {self.partitions} partition(s), transactions of version {self.transaction_version}",
            f"workers: {who}; {ids} ids; session {self.session_s} s, transactions {self.transaction_timeout_s} s",
            f"network: one way takes {self.one_way_s} s, {self.slow_marker_rate:.0%} of the markers are slow",
            f"faults for {self.trouble_s:.1f} s: {rates} of {', '.join(sorted(self.fault_apis))}",
            *(
                f"command at {one.at_s:.3f} s: {one.key.decode()} {(one.value or b'back').decode()}"
                for one in self.commands
            ),
            *(
                f"clock of {one.worker} at {one.at_s:.3f} s: {one.ahead_s:+g} s ({one.lasts_s:.2f} s)"
                for one in self.clocks
            ),
            *(f"deed at {one.at_s:.3f} s: {one.kind} {one.worker} ({one.lasts_s:.2f} s)" for one in self.deeds),
        ]

    def _draw_objects(self, rng: random.Random) -> list[Submitted]:
        found = []
        for number in range(self.object_count):
            object_id = f"o{number}"
            right = partition_of(object_id.encode(), self.partitions)
            one = Submitted(rng.uniform(0, self.trouble_s * 0.8), right, object_id, rng.randint(1, _MAX_TASKS))
            if rng.random() < 0.5:
                one = one._replace(key=rng.choice("kl"))
            if self.may_split and rng.random() < 0.5:
                one = one._replace(job=Job(rng.randint(0, _MAX_TASKS), rng.randint(0, _MAX_LINKS)))
            found.append(one)
            if rng.random() < 0.2:  # once more, by a producer that had no answer
                found.append(one._replace(at_s=one.at_s + rng.uniform(0, 2)))
            if rng.random() < 0.1:  # once more, by a producer with another partitioner
                found.append(one._replace(at_s=one.at_s + rng.uniform(0, 2), partition=rng.randrange(self.partitions)))
        return sorted(found)

    def _draw_waits(self, rng: random.Random) -> None:
        """Draw the delays of objects, what operators ask for, and whose clocks are set."""
        if self.has_delays and not self.in_order:  # a delayed task has its place by its due time
            delays = {one.object_id: rng.choice((0.0, rng.uniform(0.1, 3))) for one in self.submitted}
            self.submitted = [one._replace(delay_s=delays[one.object_id]) for one in self.submitted]
        ids = sorted({one.object_id for one in self.submitted})
        self.commands = (
            draw_commands(rng, self.trouble_s, ids, in_order=self.in_order, cancels=self.may_cancel)
            if self.has_commands
            else []
        )
        workers = [
            f"{group}-{number + 1}"
            for group, count in sorted(self.worker_counts.items())
            for number in range(count)
            if group_named(group).role != STATISTICS
        ]
        self.clocks = draw_clocks(rng, self.trouble_s, workers) if self.has_clocks else []
        if self.clocks:
            # When it is set, a schedule begins by the clock of the worker that takes it over.
            self.timed = []

    def _draw_timed(self, rng: random.Random) -> list[tuple[float, Timed]]:
        """Return schedules, and when each is set; some are set once more, by a producer that had no answer."""
        found = []
        for number in range(rng.choice((0, 1, 3))):
            at_s = rng.uniform(0, self.trouble_s / 2)
            end_at = datetime.fromtimestamp(EPOCH_MS / 1_000 + rng.uniform(at_s, self.trouble_s), UTC)
            at_ms = EPOCH_MS + round(at_s * 1_000)
            every_s = rng.choice((1, 1, 2.5))
            one = Timed(name=f"s{number}", every_s=every_s, end_at=end_at, missed="all", task_count=1, at_ms=at_ms)
            found.append((at_s, one))
            if rng.random() < 0.2:
                found.append((at_s + rng.uniform(0, 2), one))
        return found

    def _draw_deeds(self, rng: random.Random) -> list[Deed]:
        deeds = []
        for _ in range(self.deed_count if self.deed_kinds else 0):
            group = rng.choice(list(self.worker_counts))
            worker = f"{group}-{rng.randint(1, self.worker_counts[group])}"
            lasts_s = rng.choice((rng.uniform(0, 1), rng.uniform(1, 3 * self.session_s)))
            deeds.append(Deed(rng.uniform(0.05, self.trouble_s), rng.choice(self.deed_kinds), worker, lasts_s))
        return sorted(deeds)
