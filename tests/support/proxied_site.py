"""A whole system behind a proxy that harms its requests: its broker with all topics, and the way around the proxy."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from api_process import PATIENCE_S
from app.settings.settings.settings import load
from app.topics.catalogue.catalogue import catalogue
from app.topics.catalogue.making import ensure_topics
from broker_site import PARTITIONS, Site
from kafka_proxy import KafkaProxy, proxied_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ebs.local.embedded_kafka import EmbeddedKafka


class ProxiedSite(Site):
    """A site with a proxy: what is to be harmed gets `proxy.bootstrap` as EBS_BROKER."""

    def __init__(self, broker: EmbeddedKafka, directory: Path, proxy: KafkaProxy, transaction_version: int) -> None:
        super().__init__(broker, directory)
        self.proxy = proxy
        self.transaction_version = transaction_version


@contextmanager
def proxied_site(directory: Path, transaction_version: int) -> Iterator[ProxiedSite]:
    """Return a site whose broker runs, with all topics."""

    def make_topics(broker: EmbeddedKafka) -> None:
        specs = catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS))
        asyncio.run(ensure_topics(broker.bootstrap, specs, timeout_s=PATIENCE_S))

    with proxied_kafka(directory, transaction_version=transaction_version, prepare=make_topics) as (broker, proxy):
        yield ProxiedSite(broker, directory, proxy, transaction_version)
