"""The clients that the view's feed reads and asks with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.view.behind import ViewBehind
from app.kafka.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from api.view.view import Ends
    from app.kafka.cluster import Cluster
    from app.kafka.reading import RecordReader
    from app.kafka.types import TopicPartition
    from app.names import Names


def view_reader(
    cluster: Cluster, names: Names, client_id: str, isolation_level: str = "read_committed"
) -> AbstractAsyncContextManager[RecordReader]:
    """Run a reader without a group."""
    whole = (names.dead_letters,)  # people look for what is lost there
    return cluster.reader(client_id, isolation_level=isolation_level, whole=whole)


class EndsAsker:
    """Asks the broker where the view's topics end now, with separate consumers.

    A broker answers the requests of a connection in turn, so this request would wait up to half a second for a fetch
    that waits for records. For `objects` the end of all written records counts (`of_written`): the open transaction of
    an outside producer can hide an object that another API process stored, and this object is not a 404.
    """

    def __init__(self, of_committed: Any, of_written: Any, objects: str, partitions: Sequence[TopicPartition]) -> None:
        self._objects = objects
        self._of_committed = of_committed
        self._of_written = of_written
        self._partitions = partitions

    async def read(self, topic: str) -> Ends:
        """Return by partition where a topic ends; raises `ViewBehind` if the broker does not say."""
        asker = self._of_written if topic == self._objects else self._of_committed
        try:
            ends = await asker.end_offsets([tp for tp in self._partitions if tp.topic == topic])
        except KafkaError as error:
            raise ViewBehind(f"the Kafka broker does not say where {topic} ends ({error!r})") from error
        return {tp.partition: end for tp, end in ends.items()}

    async def read_written(self, topic: str) -> dict[TopicPartition, int]:
        """Return where a topic ends, uncommitted records included; raises `KafkaError`."""
        ends: dict[TopicPartition, int] = await self._of_written.end_offsets(
            [tp for tp in self._partitions if tp.topic == topic]
        )
        return ends
