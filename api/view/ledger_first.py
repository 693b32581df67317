"""A view that is rebuilt reads the ledger's rows before the objects.

A row has the current state of its object. In the other order, each object would enter the index as CREATED and move
when its row comes: 28 us of CPU time for both records instead of 16 (2026-11-24, 200,000 objects).
Also, a counted object that has no row after this has expired (see `api.view.forgotten`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from api.view.forgotten import Counted
    from app.kafka.types import TopicPartition


async def begin_anew(
    consumer: Any,
    objects: Sequence[TopicPartition],
    read_counted: Callable[[], Awaitable[Counted]],
    read_ledger_ends: Callable[[], Awaitable[Mapping[TopicPartition, int]]],
) -> tuple[Counted, LedgerFirst]:
    """Hold `objects` back until the ledger is read; also returns how far the statistics had counted before.

    `read_ledger_ends` must return the ends of all written records: the offsets of a step can become visible before the
    broker shows its rows to `read_committed` readers.
    """
    # Before anything is awaited: nothing of them may be fetched yet.
    consumer.pause(*objects)
    # In this order: what is counted by then has its row in front of the ends that are asked for after it.
    counted = await read_counted()
    ends = await read_ledger_ends()
    return counted, LedgerFirst(consumer, objects, ends)


class LedgerFirst:
    """Holds the objects back until the ledger is read up to `ends`; `held` is paused."""

    def __init__(self, consumer: Any, held: Sequence[TopicPartition], ends: Mapping[TopicPartition, int]) -> None:
        self._consumer = consumer
        self._held = held
        self._ends = ends

    async def is_over(self) -> bool:
        """Let the objects come as soon as the rows that were there at the beginning are read; returns whether so."""
        for tp, end in self._ends.items():
            if await self._consumer.position(tp) < end:
                return False
        self._consumer.resume(*self._held)
        return True
