"""Where the request of a task goes: to the topic of the queue of its kind, and to which partition.

All code that writes requests asks this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from app.rules.placement import partition_of
from ebs.project import ANY_KIND
from ebs.queues import DEFAULT_QUEUE
from ebs.task import CALLBACK_KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from app.events import TaskCreated
    from app.names import Names


class Routes:
    """Topic and partition of each request.

    `queues` is the queue of each kind (`Project.queues`). Kinds that are not in it have the queue of `"*"`, or else the
    default queue. `kinds_by_key` returns whether a kind has `per_key` in the project.
    """

    def __init__(
        self,
        names: Names,
        partition_count: int,
        queues: Mapping[str, str] | None = None,
        *,
        kinds_by_key: Callable[[str], bool] = lambda _kind: False,
    ) -> None:
        self.partition_count = partition_count
        self._queues = queues or {}
        self._other_queue = self._queues.get(ANY_KIND, DEFAULT_QUEUE)
        self._topics = {kind: names.requests(queue) for kind, queue in self._queues.items()}
        self._other_topic = names.requests(self._other_queue)
        self._is_by_key = kinds_by_key

    def of(self, request: TaskCreated) -> tuple[str, int]:
        """Return the topic and the partition that a request goes to."""
        return self._topics.get(request.kind, self._other_topic), self.partition(request)

    def partition(self, request: TaskCreated) -> int:
        """Return the partition that a request goes to.

        Tasks with a key go to the partition of the key, so that one worker counts them. Tasks without a key are spread
        over the partitions, beginning with that of the object. But if their kind has `per_key`, each object is a key,
        and all its tasks go to its partition. Splits, joins and callbacks go there, too.
        """
        if request.role is not UNSET:
            return request.object_partition
        if request.key is not UNSET:
            return partition_of(request.key.encode(), self.partition_count)
        if self._is_by_key(request.kind):
            return request.object_partition
        return (request.object_partition + request.sequence) % self.partition_count

    @property
    def topics(self) -> set[str]:
        """The topics of all queues."""
        return {*self._topics.values(), self._other_topic}

    @property
    def kinds(self) -> list[str]:
        """The kinds that have functions."""
        return [kind for kind in self._queues if kind not in {ANY_KIND, CALLBACK_KIND}]

    @property
    def queues(self) -> set[str]:
        """The queues of all kinds, and the default queue."""
        return {*self._queues.values(), self._other_queue, DEFAULT_QUEUE}

    def queue(self, kind: str) -> str:
        """Return the queue of a kind."""
        return self._queues.get(kind, self._other_queue)

    def topic(self, kind: str) -> str:
        """Return the topic of the requests of a kind."""
        return self._topics.get(kind, self._other_topic)
