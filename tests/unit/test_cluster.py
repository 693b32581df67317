"""The factory of Kafka's clients: what each of them is given, whoever asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.codec import lz4_encode
from aiokafka.errors import KafkaConnectionError
from aiokafka.record.default_records import DefaultRecordBatch

from app.kafka.cluster import Cluster, started
from app.streaming.topic_limits import TopicLimits

if TYPE_CHECKING:
    from collections.abc import Callable

SECURITY = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_plain_username": "me",
    "sasl_plain_password": "open sesame",
}
CLUSTER = Cluster("127.0.0.1:1", SECURITY)

MAKERS: dict[str, Callable[[Cluster], Any]] = {
    "reader": lambda cluster: cluster.new_reader("one"),
    "client": lambda cluster: cluster.new_client("one"),
    "producer": lambda cluster: cluster.new_producer("one"),
    "transactional producer": lambda cluster: cluster.new_transactional_producer("one"),
}


@pytest.mark.parametrize("kind", MAKERS)
async def test_every_client_has_address_security_name_and_time_out(kind):
    """Whoever makes one cannot forget any of them."""
    made = MAKERS[kind](CLUSTER.within(1_234.4))
    made._closed = True  # it was never started
    client = getattr(made, "client", None) or getattr(made, "_client", made)
    assert ("127.0.0.1:1", "one", 1_234) == (client._bootstrap_servers, client._client_id, client._request_timeout_ms)
    found = [client._security_protocol, client._sasl_mechanism, client._sasl_plain_username]
    assert list(SECURITY.values()) == [*found, client._sasl_plain_password]


@pytest.mark.parametrize("opened", [Cluster.reader, Cluster.admin, Cluster.client])
async def test_client_that_cannot_connect_is_closed_and_says_why(opened):
    """Its tasks would go on; pytest reports what is left behind."""
    with pytest.raises(KafkaConnectionError):
        async with opened(CLUSTER, "one"):
            pytest.fail("nobody listens there")


@pytest.mark.parametrize("kind", ["producer", "transactional producer"])
@pytest.mark.parametrize(("compression", "number"), [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)])
async def test_what_is_written_is_compressed(kind, compression, number):
    """The producers' own batches, and those that a step makes for them."""
    made = MAKERS[kind](replace(CLUSTER, compression=compression))
    made._closed = True  # it was never started
    assert number == made._message_accumulator._compression_type
    batch = TopicLimits(compression).new_batch("objects")
    for offset in range(100):
        batch.append(key=b"a key", value=b"the same value", timestamp=offset)
    batch.close()
    assert number == DefaultRecordBatch(bytes(batch._build())).compression_type


def test_lz4_is_the_fast_one():
    """With aiokafka's level, compression alone would take as long as all else that a record costs a worker."""
    payload = b"".join(b'{"type":"TASK_FINISHED","object_id":"%d"}' % number for number in range(100))
    assert lz4_encode(payload, 1) == lz4_encode(payload) != lz4_encode(payload, 9)


async def test_what_differs_wins():
    """A caller's own options stand above those of all."""
    reader: Any = CLUSTER.new_reader("one", isolation_level="read_uncommitted", group_id="mine")
    assert ("read_uncommitted", "mine") == (reader._isolation_level, reader._group_id)
    reader._closed = True  # it was never started
    assert ("earliest", False) == (reader._auto_offset_reset, reader._enable_auto_commit)


async def test_started_client_that_cannot_connect_is_stopped():
    """It would hold its connections and its tasks."""
    reader: Any = CLUSTER.new_reader("one")
    with pytest.raises(KafkaConnectionError):
        await started(reader)
    assert reader._closed


def test_password_is_not_shown():
    """A cluster may stand in a log line or a traceback."""
    assert "sesame" not in repr(CLUSTER)
