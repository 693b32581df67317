"""Schedules written straight to their topic, and the instants that their objects on `objects` stand for."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from app.names import BARE
from app.rules.placement import partition_of
from app.rules.schedule_times import next_instants
from app.rules.schedules import Schedule, encode_schedule

if TYPE_CHECKING:
    from types import TracebackType

    from app.names import Names

_MAX_INSTANTS = 100_000


def every_second(count: int, last_s: int) -> list[Schedule]:
    """Return schedules that fire in each second from now on, the last time in `last_s` seconds, missed ones too."""
    now_ms = time.time_ns() // 1_000_000
    end_at = datetime.fromtimestamp(now_ms // 1_000 + last_s, UTC)
    return [
        Schedule(name=f"s{number}", every_s=1, end_at=end_at, missed="all", task_count=1, at_ms=now_ms)
        for number in range(count)
    ]


async def set_schedules(bootstrap: str, schedules: list[Schedule], partitions: int, names: Names = BARE) -> None:
    """Write schedules as the API does."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        for one in schedules:
            key = one.name.encode()
            await producer.send(names.schedules, encode_schedule(one), key, partition_of(key, partitions))
        await producer.flush()


class Fired:
    """Follows `objects`: how often each instant of each schedule stands there, committed.

    `late_ms` has how late each firing was, by its instant (epoch ms) and the broker's stamp of its object.
    """

    def __init__(self, bootstrap: str, schedules: list[Schedule], partitions: int, names: Names = BARE) -> None:
        self.late_ms: list[tuple[int, int]] = []
        self._expected = {one.name: self._instants(one) for one in schedules}
        self._counts: dict[str, Counter[int]] = defaultdict(Counter)
        self._partitions = [TopicPartition(names.objects, number) for number in range(partitions)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )

    @property
    def expected_count(self) -> int:
        """How many instants there are in all."""
        return sum(map(len, self._expected.values()))

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def count(self) -> int:
        """Read on, and return how many different instants have fired."""
        for records in (await self._consumer.getmany(timeout_ms=100)).values():
            for record in records:
                name, _, instant = record.key.decode().partition("@")
                at_ms = round(datetime.fromisoformat(instant).timestamp() * 1_000)
                self._counts[name][at_ms] += 1
                self.late_ms.append((at_ms, record.timestamp - at_ms))
        return sum(map(len, self._counts.values()))

    async def has(self, count: int) -> bool:
        """Return whether so many instants have fired."""
        return await self.count() >= count

    async def has_early_ones(self) -> bool:
        """Look, and return whether an instant has fired before its time by the broker's clock."""
        await self.count()
        return any(late_ms < 0 for _, late_ms in self.late_ms)

    async def has_last_ones(self) -> bool:
        """Return whether each schedule has fired its last instant."""
        await self.count()
        return all(self._counts[name][instants[-1]] for name, instants in self._expected.items())

    def differences(self) -> list[str]:
        """Return what is not as it should be: each instant of each schedule exactly once, and no other."""
        found = []
        for name, expected in self._expected.items():
            counts = self._counts[name]
            found += [f"{name} did not fire at {at_ms}" for at_ms in expected if not counts[at_ms]]
            found += [f"{name} fired {count} times at {at_ms}" for at_ms, count in counts.items() if count > 1]
            found += [f"{name} fired at {at_ms}, which is no instant" for at_ms in counts.keys() - set(expected)]
        return found

    @staticmethod
    def _instants(schedule: Schedule) -> list[int]:
        return next_instants(schedule.timing, schedule.at_ms, _MAX_INSTANTS)
