"""Writing objects straight to the topic, as an outside producer does: fast, acknowledged, at a rate or flat out."""

from __future__ import annotations

import asyncio
import time
import uuid
import zlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, UnknownTopicOrPartitionError
from api_process import PATIENCE_S
from msgspec import UNSET, UnsetType

from app.events import ObjectCreated, encode
from app.names import BARE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from app.names import Names

CONTENT = "x" * 150
_BATCH = 2_000
_TICK_S = 0.05


async def feed(
    bootstrap: str,
    count: int,
    *,
    partitions: int,
    rate_per_s: float = 0,
    kind: str = "default",
    name: str | Callable[[int], str] = "a name",
    accepted_at_s: dict[str, float] | None = None,
    names: Names = BARE,
    callback_url: str | UnsetType = UNSET,
    fields: Callable[[int], dict[str, Any]] = lambda _number: {},
) -> list[str]:
    """Write `count` objects (flat out when `rate_per_s` is 0); returns their ids once all are acknowledged.

    `name` may depend on the object's number, from 0, and so may further `fields`. `accepted_at_s` is filled with the
    moment of each acknowledgement (epoch seconds).
    """
    accepted: list[str] = []
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, max_batch_size=1 << 19)
    await _start(producer)
    try:
        loop = asyncio.get_running_loop()
        began_at_s = loop.time()
        while len(accepted) < count:
            size = min(count - len(accepted), _BATCH if not rate_per_s else max(1, round(rate_per_s * _TICK_S)))
            numbers = range(len(accepted), len(accepted) + size)
            object_names = [name if isinstance(name, str) else name(number) for number in numbers]
            told = [{"name": name, **fields(number)} for name, number in zip(object_names, numbers, strict=True)]
            ids = await _write(producer, told, partitions, kind, names.objects, callback_url=callback_url)
            accepted += ids
            if accepted_at_s is not None:
                accepted_at_s.update(dict.fromkeys(ids, time.time()))
            if rate_per_s:
                await asyncio.sleep(max(0.0, began_at_s + len(accepted) / rate_per_s - loop.time()))
    finally:
        await producer.stop()
    return accepted


async def _start(producer: AIOKafkaProducer) -> None:
    """Connect as soon as the broker answers: faults take it away while objects flow."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await producer.start()
            except KafkaConnectionError:
                await asyncio.sleep(_TICK_S)
            else:
                return


@asynccontextmanager
async def feeding(bootstrap: str, *, partitions: int, rate_per_s: int, **objects: Any) -> AsyncIterator[list[str]]:
    """Let objects flow in while the block runs, however long that is; yields their ids, all of them when it has ended.

    `objects` are further arguments of `feed`; a name may depend on the object's number here, too.
    """
    accepted: list[str] = []
    over = asyncio.Event()

    name = objects.pop("name", "a name")

    def name_of(number: int) -> str:
        return name if isinstance(name, str) else name(len(accepted) + number)

    async def flow() -> None:
        while not over.is_set():
            count = max(1, rate_per_s // 2)
            accepted.extend(
                await feed(bootstrap, count, partitions=partitions, rate_per_s=rate_per_s, name=name_of, **objects)
            )

    flowing = asyncio.create_task(flow())
    try:
        yield accepted
    finally:
        over.set()
        await flowing


async def _send(producer: AIOKafkaProducer, builder: object, topic: str, partition: int) -> Any:
    """Send a batch; a broker that has just started may not know its topics yet, and nothing was sent then."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(UnknownTopicOrPartitionError):
                return await producer.send_batch(builder, topic, partition=partition)
            await asyncio.sleep(_TICK_S)


async def _write(
    producer: AIOKafkaProducer,
    told: Sequence[dict[str, Any]],
    partitions: int,
    kind: str,
    topic: str,
    *,
    callback_url: str | UnsetType,
) -> list[str]:
    ids = [uuid.uuid4().hex for _ in told]
    builders: dict[int, object] = {}
    sent = []
    for object_id, fields in zip(ids, told, strict=True):
        key = object_id.encode()
        event = ObjectCreated(
            id=f"o-{object_id}",
            object_id=object_id,
            kind=kind,
            content=CONTENT,
            at_ms=time.time_ns() // 1_000_000,
            callback_url=callback_url,
            **fields,
        )
        partition = zlib.crc32(key) % partitions
        builder = builders.setdefault(partition, producer.create_batch())
        if builder.append(key=key, value=encode(event), timestamp=None) is None:
            sent.append(await _send(producer, builder, topic, partition))
            builder = builders[partition] = producer.create_batch()
            builder.append(key=key, value=encode(event), timestamp=None)
    for partition, builder in builders.items():
        sent.append(await _send(producer, builder, topic, partition))
    await asyncio.gather(*sent)
    return ids
