"""The scheduler with tables in memory: what is taken in, what fires, and what the row keeps from firing again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from fake_steps import FakeStep, FakeStore
from fakes import NOW_MS, batch, record
from plain_names import DEAD_LETTERS, OBJECTS, SCHEDULES

from agents.scheduler import FIRINGS_PER_STEP, ScheduleCollector, Scheduler
from app.errors import RecordTooLarge
from app.events import decode_object
from app.names import SCHEDULES_TABLE
from app.rules.placement import partition_of
from app.rules.schedule_rows import decode_state, state_key
from app.rules.schedules import Schedule, encode_schedule
from app.settings.settings import load

PARTITIONS = 4
SECOND_MS = 1_000
BEGIN_MS = NOW_MS // SECOND_MS * SECOND_MS


class Transactions:
    """Commits the steps of a scheduler at once; `fatal` keeps what would end the process."""

    def __init__(self, stores: dict[tuple[str, int], FakeStore]) -> None:
        self.ownership = SimpleNamespace(observers=[])
        self.stores = stores
        self.steps: list[FakeStep] = []
        self.ended_by: BaseException | None = None
        self.failing = False
        self.ended = asyncio.Event()

    def step(self) -> Transactions:
        """Return a step to be."""
        return self

    async def __aenter__(self) -> FakeStep:
        self.steps.append(FakeStep([], self.stores))
        return self.steps[-1]

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.ended.set()
        if self.failing:
            raise OSError("the broker is gone")
        self.steps[-1].commit()
        # Others get their turn, as while a real step commits.
        await asyncio.sleep(0)

    def fatal(self, error: BaseException) -> None:
        """Keep the error."""
        self.ended_by = error


class World:
    """Four partitions, and one worker after the other that owns all of them; `now_ms` is its clock."""

    def __init__(self) -> None:
        self.now_ms = BEGIN_MS
        self.stores = {(SCHEDULES_TABLE, number): FakeStore() for number in range(PARTITIONS)}
        self.settings = load(partitions=PARTITIONS)
        self.restart()

    def restart(self) -> None:
        """Begin a new life: the tables stay, the memory goes."""
        self.transactions = Transactions(self.stores)
        untyped: Any = self.transactions
        self.scheduler = Scheduler(untyped, self.settings, lambda: self.now_ms)
        for number in range(PARTITIONS):
            stores = {SCHEDULES_TABLE: self.stores[SCHEDULES_TABLE, number]}
            partition: Any = SimpleNamespace(number=number, stores=stores)
            self.scheduler.partition_ready(partition)

    def take(self, name: str, value: bytes | None, partition: int | None = None) -> FakeStep:
        """Let a record be taken in, and commit."""
        number = partition_of(name.encode(), PARTITIONS) if partition is None else partition
        records = [record(SCHEDULES, number, 0, value, key=name.encode(), timestamp_ms=self.now_ms)]
        one = batch(SCHEDULES, number, records, assignment=None)
        step: Any = FakeStep([one], self.stores)
        self.scheduler.take(step, one, self.now_ms)
        step.commit()
        return step

    def set(self, name: str, **fields: Any) -> None:
        """Set a schedule of every second."""
        fields = {"every_s": 1, "at_ms": self.now_ms, **fields}
        self.take(name, encode_schedule(Schedule(name=name, **fields)))

    async def fire(self) -> list[str]:
        """Let everything fire that is due; returns the ids of the new objects."""
        known = len(self.transactions.steps)
        running = asyncio.create_task(self.scheduler.run())
        while not running.done() and (self.scheduler.counts()[1] or self.now_ms + 1) <= self.now_ms:
            await self.transactions.ended.wait()
            self.transactions.ended.clear()
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        fired = [one for step in self.transactions.steps[known:] for one in step.sent_to(OBJECTS)]
        assert all(partition_of(one.key or b"", PARTITIONS) == one.partition for one in fired)
        return [decode_object(one.value or b"").object_id for one in fired]

    def state(self, name: str) -> Any:
        """Return the row of a schedule."""
        store = self.stores[SCHEDULES_TABLE, partition_of(name.encode(), PARTITIONS)]
        row = store.get(state_key(name.encode()))
        return None if row is None else decode_state(row)


@pytest.fixture
def world() -> World:
    """Return a worker without schedules."""
    return World()


async def test_an_instant_makes_one_object_with_the_row_that_says_so(world):
    """Both in one step, which commits the partition's offset so that Kafka asks who owns it."""
    world.set("a", kind="report", content=msgspec.Raw(b'{"n":1}'), task_count=1)
    world.now_ms += SECOND_MS
    (object_id,) = await world.fire()
    (step,) = world.transactions.steps
    (sent,) = step.sent_to(OBJECTS)
    assert object_id.encode() == sent.key
    event = decode_object(sent.value or b"")
    assert ("report", 1, b'{"n":1}', world.now_ms) == (event.kind, event.task_count, bytes(event.content), event.at_ms)
    number = partition_of(b"a", PARTITIONS)
    assert {(SCHEDULES, number)} == step.repeated
    assert {state_key(b"a")} == step.rows_of[SCHEDULES_TABLE, number].changed.keys()
    assert BEGIN_MS + SECOND_MS == world.state("a").last_at_ms
    assert [] == await world.fire()


async def test_another_worker_goes_on_where_the_row_is(world):
    """Also with a clock that is behind: the instant that fired does not fire again."""
    world.set("a")
    world.now_ms += SECOND_MS
    first = await world.fire()
    world.restart()
    world.now_ms -= SECOND_MS
    assert [] == await world.fire()
    world.now_ms += 3 * SECOND_MS
    second = await world.fire()
    assert 1 == len(first)
    assert 2 == len(set(second) - set(first))


async def test_a_step_that_fails_ends_the_process(world):
    """Nothing of it was visible, and another life fires the instant."""
    world.set("a")
    world.now_ms += SECOND_MS
    world.transactions.failing = True
    await world.fire()
    assert isinstance(world.transactions.ended_by, OSError)
    world.restart()
    assert 1 == len(await world.fire())


async def test_a_deleted_schedule_fires_no_more(world):
    """Its rows are gone."""
    world.set("a")
    world.take("a", None)
    world.now_ms += SECOND_MS
    assert [] == await world.fire()
    assert not any(store.rows for store in world.stores.values())


async def test_a_paused_schedule_waits_and_goes_on_from_its_resume(world):
    """What came meanwhile is passed over."""
    world.set("a", paused=True)
    world.now_ms += 10 * SECOND_MS
    assert [] == await world.fire()
    world.set("a")
    assert [] == await world.fire()
    world.now_ms += SECOND_MS
    assert 1 == len(await world.fire())


async def test_a_backlog_lets_others_through(world):
    """An hour of missed seconds fires in parts, and a schedule that is due in time does not wait for all of them."""
    world.set("backlog", missed="all")
    world.now_ms += 3_600 * SECOND_MS
    world.set("other")
    world.now_ms += SECOND_MS
    fired = await world.fire()
    assert 3_601 + 1 == len(set(fired)) == len(fired)
    (number,) = [number for number, object_id in enumerate(fired) if object_id.startswith("other@")]
    assert number <= FIRINGS_PER_STEP
    assert all(len(step.sent) <= FIRINGS_PER_STEP for step in world.transactions.steps)


async def test_a_lost_partition_fires_nothing_here(world):
    """Its next owner has the table."""
    world.set("a")
    partition: Any = SimpleNamespace(number=partition_of(b"a", PARTITIONS))
    world.scheduler.partition_lost(partition)
    world.now_ms += SECOND_MS
    assert [] == await world.fire()


@pytest.mark.parametrize(
    ("value", "partition", "reason"),
    [
        (b"{}", None, "schedule"),
        (encode_schedule(Schedule(name="b", every_s=1)), None, "its key is not its name"),
        (encode_schedule(Schedule(name="a", every_s=1)), 0, "its partition is not that of its key"),
        (None, 0, "its partition is not that of its key"),
    ],
)
def test_what_is_no_schedule_goes_to_the_dead_letters(world, value, partition, reason):
    """Records of other programs: the worker goes on, and no two workers fire one schedule."""
    assert 0 != partition_of(b"a", PARTITIONS)
    (letter,) = world.take("a", value, partition).sent_to(DEAD_LETTERS)
    assert reason in dict(letter.headers)["kafka_dlt-exception-message"].decode()
    assert not any(store.rows for store in world.stores.values())


async def test_an_object_that_its_topic_does_not_take_is_passed_over(world, monkeypatch, caplog):
    """The others fire; the log names the schedule."""
    world.set("a")
    world.set("b")
    world.now_ms += SECOND_MS
    send = FakeStep.send

    def refusing(step: FakeStep, topic: str, number: int, key: bytes, value: bytes) -> None:
        if key.startswith(b"a@"):
            raise RecordTooLarge("objects takes at most 5 bytes a record")
        send(step, topic, number, key, value)

    monkeypatch.setattr(FakeStep, "send", refusing)
    (fired,) = await world.fire()
    assert fired.startswith("b@")
    assert "schedule a cannot make object" in caplog.text
    assert [] == await world.fire()


async def test_the_metrics_tell_what_fired_and_how_late_it_is(world):
    """Lateness is what an alert asks for."""
    world.set("a", missed="none")
    world.now_ms += 3_600 * SECOND_MS
    collector = ScheduleCollector(world.scheduler, lambda: world.now_ms)

    def told() -> dict[str, float]:
        return {one.name: one.samples[0].value for one in collector.collect()}

    assert 3_599 == told()["ebs_schedule_late_seconds"]
    await world.fire()
    assert {
        "ebs_schedule_firings": 61,
        "ebs_schedules_missed": 1,
        "ebs_schedules": 1,
        "ebs_schedule_late_seconds": 0,
    } == told()


async def test_the_scheduler_wakes_for_a_schedule_that_is_new(world):
    """It does not sleep over the first instant of one that comes while it waits."""
    running = asyncio.create_task(world.scheduler.run())
    await asyncio.sleep(0)
    world.set("a", at_ms=world.now_ms - SECOND_MS)
    async with asyncio.timeout(2):
        await world.transactions.ended.wait()
    running.cancel()
