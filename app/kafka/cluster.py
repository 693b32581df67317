"""A Kafka cluster as this process reaches it: the only place where a client is made.

    cluster = cluster_of(settings)
    async with cluster.reader("ebs-recount", fetch_max_wait_ms=50) as reader:
        ...

Every client gets the addresses, the security settings and the request time-out from here. Callers name the client and
what differs: aiokafka's own options. `reader`, `admin` and `client` connect and disconnect. What `new_reader`,
`new_client` and the producers' methods return is not connected yet: `started` connects it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka import AIOKafkaClient, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import create_conn

from app.kafka.reading import RecordReader
from app.kafka.security import kafka_security
from app.kafka.transactional_producer import TransactionalProducer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from aiokafka.conn import AIOKafkaConnection

    from app.kafka.fencing import Membership
    from app.kafka.settings import KafkaSettings

Startable = TypeVar("Startable", RecordReader, AIOKafkaProducer)


@dataclass(frozen=True)
class Cluster:
    """Where a cluster is (`bootstrap`: HOST:PORT, several separated by commas), and makes its clients.

    `compression` is that of the records which its producers write, "none" or the name of a codec.
    """

    bootstrap: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)  # it holds a password
    request_timeout_ms: int = 40_000
    compression: str = "none"

    def within(self, request_timeout_ms: float) -> Cluster:
        """Return the same cluster for clients that wait for so long for an answer."""
        return replace(self, request_timeout_ms=round(request_timeout_ms))

    @asynccontextmanager
    async def reader(self, client_id: str, **differing: Any) -> AsyncIterator[RecordReader]:
        """Connect a `new_reader`, and disconnect it."""
        reader = self.new_reader(client_id, **differing)
        try:
            await reader.start()
            yield reader
        finally:
            await reader.stop()

    @asynccontextmanager
    async def admin(self, client_id: str) -> AsyncIterator[AIOKafkaAdminClient]:
        """Connect a client for administration, and disconnect it."""
        admin = AIOKafkaAdminClient(**self._common(client_id))
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    @asynccontextmanager
    async def client(self, client_id: str) -> AsyncIterator[AIOKafkaClient]:
        """Connect a client for requests of the protocol, and disconnect it."""
        client = self.new_client(client_id)
        try:
            await client.bootstrap()
            yield client
        finally:
            await client.close()

    async def connection(self, host: str, port: int, client_id: str) -> AIOKafkaConnection:
        """Return a connection to one address, whichever broker answers there. Close it."""
        timeout_ms = self.request_timeout_ms
        return await create_conn(host, port, client_id=client_id, request_timeout_ms=timeout_ms, **self.security)

    def new_reader(self, client_id: str, **differing: Any) -> RecordReader:
        """Return a reader of committed records that commits nothing by itself.

        It begins at the first record that there is, also where retention has deleted the record that it wants. Without
        that a consumer begins at the end, and silently reads nothing.
        """
        defaults = {"isolation_level": "read_committed", "auto_offset_reset": "earliest", "enable_auto_commit": False}
        return RecordReader(**self._common(client_id) | defaults | differing)

    def new_client(self, client_id: str) -> AIOKafkaClient:
        """Return a client for requests of the protocol."""
        return AIOKafkaClient(**self._common(client_id))

    def new_producer(self, client_id: str, **differing: Any) -> AIOKafkaProducer:
        """Return a producer that waits for all replicas in sync, and for no more records."""
        return AIOKafkaProducer(**self._common(client_id) | self._writing() | {"acks": "all"} | differing)

    def new_transactional_producer(
        self, transactional_id: str, *, membership: Callable[[], Membership] | None = None, **differing: Any
    ) -> TransactionalProducer:
        """Return a producer of transactions; its client id is the transactional one unless `differing` has another."""
        options = self._common(transactional_id) | self._writing() | {"transactional_id": transactional_id} | differing
        return TransactionalProducer(membership=membership, **options)

    def _writing(self) -> dict[str, Any]:
        return {"linger_ms": 0, "compression_type": None if self.compression == "none" else self.compression}

    def _common(self, client_id: str) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.bootstrap,
            "client_id": client_id,
            "request_timeout_ms": self.request_timeout_ms,
            **self.security,
        }


def cluster_of(settings: KafkaSettings) -> Cluster:
    """Return the cluster that the settings name. Raises `SettingsError` for a file that is of no use."""
    return Cluster(settings.broker, kafka_security(settings), compression=settings.compression)


async def started(client: Startable) -> Startable:
    """Connect a reader or a producer, and return it; stop it if it cannot be connected."""
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise
    return client
