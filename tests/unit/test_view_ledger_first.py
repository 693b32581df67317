"""How a view that is built anew begins: what is counted, then where the ledger ends, then its rows, then objects."""

from __future__ import annotations

import asyncio
import logging

from aiokafka import TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError
from plain_names import LEDGER_CHANGELOG, OBJECTS, STATISTICS_APP

from api.view.forgotten import read_counted
from api.view.ledger_first import begin_anew

HELD = [TopicPartition(OBJECTS, 0), TopicPartition(OBJECTS, 1)]
LEDGER = TopicPartition(LEDGER_CHANGELOG, 0)


class Consumer:
    """A consumer that holds partitions back; `at` is how far it has read the ledger."""

    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()
        self.at = 0

    def pause(self, *partitions: TopicPartition) -> None:
        """Hold partitions back."""
        self.held |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Let them come."""
        self.held -= set(partitions)

    async def position(self, _tp: TopicPartition) -> int:
        """Return the next offset of the ledger."""
        return self.at


class BusyStatistics:
    """Counts an object and writes its row with each question that is asked, and before it answers."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._counted = 0

    def _step(self) -> None:
        assert set(HELD) == self._consumer.held, "an object might have been read before the question was answered"
        self._counted += 1

    async def read_counted(self) -> dict[int, int]:
        """Return what is counted."""
        self._step()
        return {0: self._counted}

    async def read_ledger_ends(self) -> dict[TopicPartition, int]:
        """Return where the ledger ends: a row for each object that is counted."""
        self._step()
        return {LEDGER: self._counted}


def test_rows_of_all_that_is_counted_are_waited_for():
    """While the statistics work, no object counts as counted whose row may lie behind the ends that are waited for."""

    async def scenario() -> None:
        consumer = Consumer()
        statistics = BusyStatistics(consumer)
        counted, ledger_first = await begin_anew(consumer, HELD, statistics.read_counted, statistics.read_ledger_ends)
        consumer.at = counted[0]
        assert not await ledger_first.is_over()
        assert set(HELD) == consumer.held
        consumer.at += 1
        assert await ledger_first.is_over()
        assert set() == consumer.held

    asyncio.run(scenario())


class Refusing:
    """An admin client whose user may not Describe the group."""

    async def list_consumer_group_offsets(self, group: str, **_of: object) -> object:
        """Refuse."""
        raise GroupAuthorizationFailedError(group)


def test_refusal_is_told(caplog):
    """The view is built without what it cannot know; the log says what then is shown, and the fix."""
    with caplog.at_level(logging.WARNING):
        assert {} == asyncio.run(read_counted(Refusing(), STATISTICS_APP, HELD))
    assert f"GroupAuthorizationFailedError('{STATISTICS_APP}')" in caplog.text
    assert "are shown as CREATED. Let this user Describe the group" in caplog.text
