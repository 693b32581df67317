"""Making the topics that are missing, and checking that the others are ours and of the right shape."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.errors import BrokerError, BrokerUnavailable, TopicMismatch
from app.kafka.admin import leaderless, read_topic_configs
from app.kafka.errors import (
    ClusterAuthorizationFailedError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from app.kafka.probe import in_words
from app.kafka.types import NewTopic
from app.kafka.waiting import Throttled, pauses_s, wait_and_tell
from app.topics.guard import TopicGuard
from app.topics.registry import CLIENT_ID, REQUEST_TIMEOUT_MS, TopicRegistry
from app.topics.shapes import TopicShape, explain_mismatch

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from app.kafka.cluster import Cluster
    from app.kafka.types import AIOKafkaAdminClient
    from app.kafka.waiting import Say
    from app.topics.catalogue import TopicSpec

_log = logging.getLogger(__name__)

_PAUSE_S = 2.0
_TRIES_BEFORE_SAYING = 4  # new topics have their leaders within a second: no news
_CLEANUP_POLICY, _MAX_MESSAGE_BYTES = "cleanup.policy", "max.message.bytes"


@dataclass(frozen=True)
class TopicReport:
    """A topic as it is now; `made` tells whether this call made it, `adopted` whether it took it over."""

    shape: TopicShape
    made: bool
    adopted: bool = False


async def ensure_topics(
    cluster: Cluster,
    catalogue: Iterable[TopicSpec],
    *,
    timeout_s: float | None = None,
    say: Say = _log.warning,
    adopt: bool = False,
) -> tuple[TopicReport, ...]:
    """Make the topics that are missing, check the others, return when every partition's leader answers.

    Waits for the broker first. Many processes may call it at once. Raises `ForeignTopics` for a topic that is not this
    system's, unless it is to `adopt` what exists; `TopicMismatch` for a topic of another shape (nothing is made then),
    `BrokerError` if the broker refuses, `AccessRefused` if the broker and we do not trust each other,
    `BrokerUnavailable` if `timeout_s` is over.
    """
    cluster = cluster.within(REQUEST_TIMEOUT_MS)
    throttled = Throttled(say)
    making = _Making(cluster, tuple(catalogue), throttled, adopt=adopt)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                await wait_and_tell(cluster, throttled)
                try:
                    return await making.run()
                except (KafkaError, OSError) as error:
                    if isinstance(error, KafkaError) and not _may_pass(error):
                        raise BrokerError(_why_refused(cluster.bootstrap, error)) from error
                    left = f"the Kafka broker at {cluster.bootstrap} left while its topics were checked"
                    throttled(f"{left} ({in_words(error)})")
                    await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        latest = throttled.latest or f"no answer from {cluster.bootstrap}"
        raise BrokerUnavailable(
            f"gave up after {timeout_s:g} s: {latest}; start the broker, or name another one with --broker HOST:PORT "
            "(EBS_BROKER)"
        ) from None


def _may_pass(error: KafkaError) -> bool:
    """Return whether it may work soon. aiokafka calls its own timeouts final, which are those of a slow broker."""
    return error.retriable or isinstance(error, KafkaTimeoutError)


def _why_refused(bootstrap: str, error: KafkaError) -> str:
    if isinstance(error, TopicAuthorizationFailedError | ClusterAuthorizationFailedError):
        return (
            f"the Kafka user may not make the missing topics at {bootstrap} ({error}): run `ebs topics` as a user who "
            "may, and give this user Describe on these topics (docs/how-to/own-kafka.md)"
        )
    return f"the Kafka broker at {bootstrap} refuses to make topics: {error}"


class _Making:
    def __init__(self, cluster: Cluster, specs: tuple[TopicSpec, ...], throttled: Throttled, *, adopt: bool) -> None:
        self._cluster = cluster
        self._specs = specs
        self._registry = next((spec for spec in specs if spec.is_registry), None)
        self._throttled = throttled
        self._adopt = adopt

    async def run(self) -> tuple[TopicReport, ...]:
        guard = None
        if self._registry is not None:
            notes = TopicRegistry(self._registry.name, self._cluster)
            guard = TopicGuard(self._specs, notes, self._cluster.bootstrap, adopt=self._adopt)
        async with self._cluster.admin(CLIENT_ID) as admin:
            found, made = await self._make_missing(admin, guard)
            await self._wait_for_leaders(admin)
        adopted = set() if guard is None else guard.adopted
        return tuple(TopicReport(found[one.name], one.name in made, one.name in adopted) for one in self._specs)

    async def _make_missing(
        self, admin: AIOKafkaAdminClient, guard: TopicGuard | None
    ) -> tuple[dict[str, TopicShape], set[str]]:
        """Return the topics as they are once none is missing, and the names of those that were made here."""
        made: set[str] = set()
        for pause_s in pauses_s():
            found = await read_shapes(admin, [spec.name for spec in self._specs])
            made_by_us = frozenset() if guard is None else await guard.made_by_us(found, made)
            if made_by_us is not None:
                mismatch = explain_mismatch(self._specs, found, self._cluster.bootstrap, made_by_us)
                if mismatch is not None:
                    raise TopicMismatch(mismatch)
                missing = [spec for spec in self._specs if spec.name not in found]
                if not missing:
                    return found, made
                if guard is not None and self._registry in missing:
                    missing = [self._registry]  # first, so that all others can be claimed before they are made
                elif guard is not None:
                    await guard.claim(spec.name for spec in missing)
                made |= await self._make(admin, missing)
            await asyncio.sleep(pause_s)  # until this broker's metadata shows them
        raise AssertionError("pauses never end")

    async def _make(self, admin: AIOKafkaAdminClient, missing: Sequence[TopicSpec]) -> set[str]:
        response = await admin.create_topics(
            [
                NewTopic(spec.name, spec.partition_count, spec.replication_factor, topic_configs=dict(spec.config))
                for spec in missing
            ]
        )
        made = set()
        for name, error_code, *message in response.topic_errors:
            error, said = for_code(error_code), " ".join(filter(None, message))
            if error_code == 0:
                made.add(name)
            elif error is InvalidReplicationFactorError:
                self._throttled(f"waiting for more brokers, or lower EBS_REPLICATION_FACTOR: topic {name}, {said}")
            elif error is not TopicAlreadyExistsError:  # another process was faster: next time round it is described
                if error is InvalidTopicError and "collide" in said:
                    said += " (to Kafka '.' and '_' are the same in names): choose another EBS_NAMESPACE"
                raise error(f"topic {name}: {error.description}, {said}")
        return made

    async def _wait_for_leaders(self, admin: AIOKafkaAdminClient) -> None:
        wanted = {spec.name for spec in self._specs}
        async with self._cluster.client(CLIENT_ID) as client:
            for tries, pause_s in enumerate(pauses_s()):
                waiting = await leaderless(
                    client, [one for one in await admin.describe_topics() if one["topic"] in wanted]
                )
                if not waiting:
                    return
                if tries >= _TRIES_BEFORE_SAYING:
                    names = ", ".join(sorted(waiting))
                    self._throttled(f"waiting for leaders at {self._cluster.bootstrap}: {names}")
                await asyncio.sleep(pause_s)


async def read_shapes(admin: AIOKafkaAdminClient, wanted: Container[str]) -> dict[str, TopicShape]:
    """Return those of the topics that exist, by name."""
    # All topics are listed: asking for one that is missing would make it where auto-creation is on.
    described = [topic for topic in await admin.describe_topics() if topic["topic"] in wanted and topic["partitions"]]
    names = [topic["topic"] for topic in described]
    configs = await read_topic_configs(admin, names, (_CLEANUP_POLICY, _MAX_MESSAGE_BYTES))
    return {topic["topic"]: _shape_of(topic["topic"], topic["partitions"], configs) for topic in described}


def _shape_of(name: str, partitions: Sequence[dict[str, list[int]]], configs: dict[str, dict[str, str]]) -> TopicShape:
    config = configs.get(name)  # that we may not read it is no reason to refuse to work
    return TopicShape(
        name=name,
        partition_count=len(partitions),
        replication_factor=min(len(partition["replicas"]) for partition in partitions),
        cleanup_policy=None if config is None else frozenset(config[_CLEANUP_POLICY].split(",")),
        max_message_bytes=None if config is None else int(config[_MAX_MESSAGE_BYTES]),
    )
