"""The clients that the view's feed reads and asks with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from api.view.view import ViewBehind
from app.kafka.reading import RecordReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiokafka import TopicPartition

    from api.view.view import Ends
    from app.kafka.probe import Security
    from app.names import Names


@asynccontextmanager
async def view_consumer(
    bootstrap: str, names: Names, security: Security, client_id: str, isolation: str = "read_committed"
) -> AsyncIterator[Any]:
    """Run a consumer without a group, that begins where the topic does."""
    consumer = RecordReader(
        whole=(names.dead_letters,),  # people look for what is lost there
        bootstrap_servers=bootstrap,
        **security,
        client_id=client_id,
        isolation_level=isolation,
        enable_auto_commit=False,
        # Where retention took the next offset, reading goes on at the first record that is left.
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def view_admin(bootstrap: str, security: Security) -> AsyncIterator[Any]:
    """Run an admin client."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="ebs-api-view-admin", **security)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


class EndsAsker:
    """Tells where the view's topics end now; by consumers of its own.

    A broker answers a connection's requests in turn, so the question would wait for up to half a second behind the
    fetch that waits for records. Of `objects` the end of all that is written counts (`of_written`): what another API
    process stored is hidden behind an outside producer's open transaction, and yet no 404.
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
        """Return where a topic ends, with what is not committed yet; raises `KafkaError`."""
        ends: dict[TopicPartition, int] = await self._of_written.end_offsets(
            [tp for tp in self._partitions if tp.topic == topic]
        )
        return ends
