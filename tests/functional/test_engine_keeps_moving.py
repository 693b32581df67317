"""Whatever operators, rebalances and handlers do, in any order: the engine never stands still for no reason.

Each rule below is something that happens to a worker. After each of them the worker may be idle only for a reason that
can be named, the watchdog's question (`could_go_on`) must be answered with "nothing", and in the end, with every
hindrance gone, each task must have come to exactly one end.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import urlencode

import pytest
from engine_world import PARTITIONS, WORKER, World
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agents.engine.kind_limits import share_of_partition
from app.errors import TimeLimitExceeded
from app.events import decode_task_request
from app.rules.waiting_rows import REASONS, decode_row, line_of
from ebs import Reject, Retry
from ebs.function import NO_LIMITS, StartLimits

KINDS = ("a", "b", "c")
MOMENTS = 5
LONG_ENOUGH = 5
"""Times 10 s without a record: a retry waits for 10 s and its jitter at most."""

partitions = st.integers(0, PARTITIONS - 1)
kinds = st.sampled_from(KINDS)
drawn = st.randoms(use_true_random=False)


class KeepsMoving(RuleBasedStateMachine):
    """A worker under everything that may happen to it."""

    starts = NO_LIMITS
    batches = False

    @initialize(concurrency=st.integers(1, 4))
    def begin(self, concurrency: int) -> None:
        """Start a worker that owns everything."""
        self.world = World(starts=self.starts, concurrency=concurrency, batches=self.batches)
        for number in range(PARTITIONS):
            self.world.give(number)

    @rule(partition=partitions, mix=st.lists(kinds, min_size=1, max_size=3), repeat=st.integers(1, 12))
    def submit(self, partition: int, mix: list[str], repeat: int) -> None:
        """Objects of one task each, of one kind or of several in turn."""
        self.world.submit(partition, mix * repeat)

    @rule(kind=kinds, count=st.integers(1, 5), spread=st.booleans())
    def submit_object(self, kind: str, count: int, *, spread: bool) -> None:
        """One object of several tasks, on one partition or, as other producers may, on several."""
        object_id = f"object-{len(self.world.created)}"
        for number in range(count):
            self.world.submit(number % PARTITIONS if spread else 0, [kind], object_id)

    @rule(kind=st.sampled_from(("", *KINDS)), on=st.booleans())
    def pause(self, kind: str, *, on: bool) -> None:
        """Pause or resume all or a kind."""
        self.world.command(f"pause:{kind}" if kind else "pause", {"type": "PAUSE"} if on else None)

    @rule(kind=kinds, per_s=st.sampled_from((None, 0.01, 1, 50)))
    def limit_rate(self, kind: str, per_s: float | None) -> None:
        """Limit the rate of a kind, or no longer."""
        command = None if per_s is None else {"type": "RATE", "kind": kind, "per_s": per_s}
        self.world.command(f"rate:{kind}", command)

    @rule(kind=kinds, concurrency=st.sampled_from((None, 1, 3)), per_key=st.sampled_from((None, 1)))
    def limit_kind(self, kind: str, concurrency: int | None, per_key: int | None) -> None:
        """Limit how many tasks of a kind run at once, or no longer."""
        limits = {"concurrency": concurrency, "per_key": per_key}
        command = {"type": "LIMIT", "kind": kind} | {name: count for name, count in limits.items() if count}
        self.world.command(f"limit:{kind}", command if concurrency or per_key else None)

    @rule(count=st.sampled_from((None, 1, 2, 5)))
    def set_concurrency(self, count: int | None) -> None:
        """Let more or fewer run at once."""
        self.world.command("concurrency", None if count is None else {"type": "CONCURRENCY", "count": count})

    @rule(on=st.booleans())
    def drain(self, *, on: bool) -> None:
        """Drain the worker, or no longer."""
        self.world.command(f"drain:{WORKER}", {"type": "DRAIN"} if on else None)

    @rule(kind=st.sampled_from(("", *KINDS)), on=st.booleans())
    def cancel_kind(self, kind: str, *, on: bool) -> None:
        """Cancel what there is of all or a kind, or revoke that."""
        command = {"type": "CANCEL", "created_before_ms": self.world.now_ms() + 1} | ({"kind": kind} if kind else {})
        self.world.command("cancel:filter:x", command if on else None)

    @precondition(lambda self: self.world.created)
    @rule(random=drawn, whole_object=st.booleans())
    def cancel_one(self, random: Any, *, whole_object: bool) -> None:
        """Cancel a task or an object."""
        task = random.choice(list(self.world.created.values()))
        if whole_object:
            self.world.command(f"cancel:object:{task.object_id}", {"type": "CANCEL", "object_id": task.object_id})
        else:
            self.world.command(f"cancel:task:{task.task_id}", {"type": "CANCEL", "task_id": task.task_id})

    @rule(kind=st.sampled_from(("", *KINDS)), reason=st.sampled_from(("", *REASONS)), cancel=st.booleans())
    def act_on_waiting(self, kind: str, reason: str, *, cancel: bool) -> None:
        """Start what waits now, or cancel it."""
        given = {name: value for name, value in (("kind", kind), ("reason", reason)) if value}
        order = {"type": "CANCEL_WAITING" if cancel else "START_WAITING", "at_ms": self.world.now_ms()}
        self.world.command(f"{'cancel' if cancel else 'start'}:waiting:{urlencode(given) or '*'}", order | given)

    @rule(partition=partitions)
    def rebalance(self, partition: int) -> None:
        """Lose a partition, or get it (back)."""
        if partition in self.world.worker.ownership.partitions:
            self.world.take_away(partition)
        else:
            self.world.give(partition)

    @rule(random=drawn, how=st.sampled_from((None, ValueError("no"), Retry(delay_s=5), Reject("never"))))
    def end_some(self, random: Any, how: Exception | None) -> None:
        """Let some handlers end."""
        running = self.world.running()
        for attempt in random.sample(running, random.randint(0, len(running))):
            self.world.end(attempt, how)

    @precondition(lambda self: len(self.world.running()) > 1)
    @rule()
    def leave_behind(self) -> None:
        """Let a handler run on when its time is over: its attempt has failed, its place is taken."""
        attempt = self.world.running()[0]
        self.world.executor.abandoned_running_count += 1
        self.world.end(attempt, TimeLimitExceeded("too long"))

    @precondition(lambda self: self.world.executor.abandoned_running_count)
    @rule()
    def one_left_behind_ends(self) -> None:
        """Let it end after all."""
        self.world.free_one()

    @rule(seconds=st.sampled_from((0.1, 1.0, 20.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.world.loop.pass_time(seconds)

    @invariant()
    def nothing_stands_still(self) -> None:
        """Let the worker do what it can; then whatever waits has a reason, and the watchdog agrees."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.run()
        if world.worker.fatal.errors or world.engine.pool.is_stuck:
            return
        for _ in range(MOMENTS):
            # A retry that is due at this very moment, an end that gathers others: what stays so stands still.
            if world.engine.report.could_go_on():
                world.run(0.3)
        assert "" == world.engine.report.could_go_on()
        for lane in world.lanes:
            assert not lane.held or lane.must_hold(), f"{lane.topic} is held and {len(lane.waiting)} wait"
        if not (world.engine.is_draining or world.engine.pool.is_full):
            idle_for_nothing = [task.task_id for one, task in world.open_requests() if self._could_run(one, task)]
            assert not idle_for_nothing, f"the pool has room, these could run: {idle_for_nothing}"

    def _could_run(self, one: Any, task: Any) -> bool:
        world, control, lane = self.world, self.world.control, one.lane
        running = {(attempt.lane, attempt.place) for attempt in world.running()}
        kinds = Counter((attempt.lane, attempt.task.kind) for attempt in world.running())
        limits = world.engine._limits.of(task.kind)
        share = share_of_partition(limits.concurrency or 1_000, lane.partition.number, PARTITIONS)
        return not (
            (lane, one.place) in running
            or control.is_paused(task.kind)
            or control.rate_of(task.kind) is not None
            or (limits.concurrency and kinds[lane, task.kind] >= share)
            or (limits.per_key and len(lane.lines.turns.get(line_of(task.kind, task.object_id), ())) >= limits.per_key)
            or (lane.crowded and (lane.lines.parked_count or lane.running))
        )

    def teardown(self) -> None:
        """Take every hindrance away: each task comes to one end."""
        if not hasattr(self, "world"):
            return
        try:
            if not self.world.worker.fatal.errors:
                self._finish()
        finally:
            self.world.close()

    def _finish(self) -> None:
        world = self.world
        for command_key in list(world.control.commands()):
            if "cancel" not in command_key.family:
                world.command(command_key.encoded().decode(), None)
        for number in set(range(PARTITIONS)) - set(world.worker.ownership.partitions):
            world.give(number)
        while world.executor.abandoned_running_count:
            world.free_one()
        still = 0
        while still < LONG_ENOUGH and world.ended().keys() != world.created.keys():
            event_count = len(world.worker.producer.records)
            world.run(10)
            for attempt in world.running():
                world.end(attempt)
            still = 0 if len(world.worker.producer.records) > event_count else still + 1
        open_ids = sorted(world.created.keys() - world.ended().keys())
        assert not open_ids, f"these never came to an end: {open_ids}"
        assert {1} >= {len(ends) for ends in world.ended().values()}


class KeepsMovingInOrder(KeepsMoving):
    """The same where tasks of one object run one after another."""

    starts = StartLimits(per_key=1)


class KeepsMovingWithLimits(KeepsMoving):
    """The same where two tasks of an object and three of a kind run at once."""

    starts = StartLimits(concurrency=3, per_key=2)


class KeepsMovingInBatches(KeepsMoving):
    """The same where the tasks of one kind run several in a call."""

    batches = True


# What fails is told as it was found: to make it shorter takes minutes.
_SETTINGS = settings(max_examples=40, stateful_step_count=40, phases=[Phase.explicit, Phase.generate])
TestKeepsMoving = KeepsMoving.TestCase
TestKeepsMoving.settings = _SETTINGS
TestKeepsMovingInOrder = KeepsMovingInOrder.TestCase
TestKeepsMovingInOrder.settings = _SETTINGS
TestKeepsMovingWithLimits = KeepsMovingWithLimits.TestCase
TestKeepsMovingWithLimits.settings = _SETTINGS
TestKeepsMovingInBatches = KeepsMovingInBatches.TestCase
TestKeepsMovingInBatches.settings = _SETTINGS


@pytest.fixture
def world():
    """Return a worker that owns partition 0 of two, and whose kind `a` starts every ten seconds."""
    world = World()
    world.give(0)
    world.command("rate:a", {"type": "RATE", "kind": "a", "per_s": 0.1})
    yield world
    world.close()


def test_larger_share_of_a_rate_wakes_what_waits(world):
    """The token that comes after 20 s with one partition of two comes earlier once the worker owns both."""
    world.submit(0, ["a"])
    world.run(2)
    world.give(1)
    world.loop.pass_time(12)
    assert 1 == len(world.running())


def test_a_kind_that_waits_has_one_timer(world):
    """However often controls change: each timer looks at all that waits, so they would pile up to a standstill."""
    world.submit(0, ["a", "a"])
    for number in range(20):
        world.command(f"cancel:object:other-{number}", {"type": "CANCEL", "object_id": f"other-{number}"})
        world.run(0.01)
    timers = [timer for timer in world.loop._scheduled if not timer.cancelled() and "KindRates._ring" in repr(timer)]
    assert 1 == len(timers)


def test_token_looks_at_one_task_and_not_at_all_that_wait(world):
    """Thousands may wait: to release them all for each token would leave no time for other kinds."""
    releases = world.engine._admission.releases
    world.submit(0, ["a"] * 5)
    world.run(1)
    (lane, *_) = world.lanes
    assert 5 == lane.lines.count(line_of("a"))
    world.loop.pass_time(20)
    assert (1, 4) == (len(world.running()), lane.lines.count(line_of("a")))
    assert not releases.released


def test_what_has_waited_for_long_waits_in_the_table(world):
    """`ebs waiting` lists the rows of the table, not what a worker has in memory. Nobody overtakes."""

    def rows() -> list[str]:
        return [
            decode_task_request(decode_row(value).value).task_id for _, value in sorted(world.waiting[0].rows.items())
        ]

    world.command("pause:b", {"type": "PAUSE", "at_ms": 1})
    world.submit(0, ["b"] * 3)
    world.run(1)
    assert [] == rows()
    world.run(12)
    asked_for = list(world.created)
    assert asked_for == rows()
    world.submit(0, ["b"])
    world.command("pause:b", None)
    started = []
    while len(started) < 4:
        world.run(1)
        for attempt in world.running():
            started.append(attempt.task.task_id)
            world.end(attempt)
    assert list(world.created) == started
    world.run(1)
    assert [] == rows()
