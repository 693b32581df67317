"""Deleting topics and making them again under running workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient
from fleet import until
from worker_pages import read_page

from app.kafka.cluster import Cluster
from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.making import ensure_topics

if TYPE_CHECKING:
    from fleet import Fleet


async def all_ready(fleet: Fleet) -> None:
    """Wait until every worker's `/readyz` says so."""
    await until(
        lambda: all(read_page(worker, "/readyz").status == 200 for worker in fleet.workers.values()),
        "all workers to be ready",
        fleet=fleet,
        reviving=True,
    )


async def make_anew(bootstrap: str, partitions: int, *names: str) -> None:
    """Delete topics and make them again, as an operator does who wants to be rid of what is in them."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics(list(names))
        await until(lambda: _are_gone(admin, names), "the topics to be gone")
    finally:
        await admin.close()
    await ensure_topics(Cluster(bootstrap), catalogue(load(broker=bootstrap, partitions=partitions)))


async def _are_gone(admin: AIOKafkaAdminClient, names: tuple[str, ...]) -> bool:
    return not {one["topic"] for one in await admin.describe_topics()} & set(names)
