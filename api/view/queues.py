"""The queues of the system: which kinds they have, who works them, and how many tasks are on their way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from app.names import PROCESSING
from app.rules.counts import total_of
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from app.rules.counts import Counts
    from app.rules.routing import Routes
    from app.rules.worker_heartbeats import Heartbeat


class Queue(NamedTuple):
    """A queue: its kinds that were ever seen, with their counts, and its running workers."""

    name: str
    kinds: list[str]
    counts: Counts
    workers: list[Heartbeat]


def queues_of(routes: Routes, totals: Mapping[str, Counts], alive: Iterable[Heartbeat]) -> list[Queue]:
    """Return the queues that kinds have or workers work, the default one first; `totals` are the counts by kind."""
    workers: dict[str, list[Heartbeat]] = {name: [] for name in routes.queues}
    for one in alive:
        if one.role == PROCESSING:
            workers.setdefault(one.queue or DEFAULT_QUEUE, []).append(one)
    return [
        Queue(
            name,
            kinds := sorted({kind for kind in (*totals, *routes.kinds) if routes.queue(kind) == name}),
            total_of(totals[kind] for kind in kinds if kind in totals),
            workers[name],
        )
        for name in sorted(workers, key=lambda name: (name != DEFAULT_QUEUE, name))
    ]
