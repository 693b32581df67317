"""The positions of a consumer, and its lag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from api.view.view import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api.view.store import Offsets
    from app.kafka.types import TopicPartition
    from app.rules.freshness import Freshness


class ConsumerProgress(NamedTuple):
    """The next offsets of a consumer, and its lag."""

    positions: Offsets
    progress: Progress


async def progress_of(consumer: Any, freshness: Mapping[TopicPartition, Freshness]) -> ConsumerProgress | None:
    """Return positions and lag; None until the broker has answered for every partition once.

    While partitions are held back, or the broker cannot read them, they are left out, and the lag is not known: these
    partitions would seem to make no progress. Without a position, the other partitions would seem to make none before
    a transaction marker (see `api.view.liveness`).
    """
    held = consumer.paused() | consumer.refusals.lasting().keys()
    positions: Offsets = {}
    lag_records = 0
    heard: list[int] = []
    as_of: list[int] = []
    for tp, fresh in freshness.items():
        if tp in held:
            continue
        end, heard_at_ms = consumer.last_stable_offset(tp), consumer.last_poll_timestamp(tp)
        if end is None or heard_at_ms is None:
            return None
        position = await consumer.position(tp)
        positions.setdefault(tp.topic, {})[tp.partition] = position
        lag_records += max(0, end - position)
        fresh.note(position, end, heard_at_ms)
        heard.append(heard_at_ms)
        if fresh.as_of_ms is not None:
            as_of.append(fresh.as_of_ms)
    as_of_ms = min(as_of) if len(as_of) == len(freshness) else None
    return ConsumerProgress(positions, Progress(None if held else lag_records, as_of_ms, min(heard)))
