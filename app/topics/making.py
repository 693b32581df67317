"""Waiting for a Kafka broker that is not there yet (design, section 7), and for topics of the right shape (section 3).

Neither gives up unless told to: a process that starts before its broker waits, and says so every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaClient
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidReplicationFactorError,
    InvalidTopicError,
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)
from aiokafka.protocol.group import HeartbeatRequest
from aiokafka.protocol.offset import OffsetRequest

from app.errors import AccessRefused, BrokerError, BrokerUnavailable, TopicMismatch
from app.kafka.probe import PLAINTEXT, in_words, why_unavailable
from app.topics.catalogue.guard import TopicGuard
from app.topics.catalogue.registry import TopicRegistry
from app.topics.catalogue.shapes import TopicShape, explain_mismatch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from app.kafka.probe import Security
    from app.names import Names
    from app.topics.catalogue.catalogue import TopicSpec

    Say = Callable[[str], None]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 2.0
_SAY_EVERY_S = 5.0
_TRIES_BEFORE_SAYING = 4  # new topics have their leaders within a second: no news
_REQUEST_TIMEOUT_MS = 10_000
_REFUSALS_BEFORE_GIVING_UP = 3
_LATEST = -1  # ListOffsets' timestamp for the end of the log


@dataclass(frozen=True)
class TopicReport:
    """A topic as it is now; `made` tells whether this call made it, `adopted` whether it took it over."""

    shape: TopicShape
    made: bool
    adopted: bool = False


async def wait_for_broker(
    bootstrap: str, *, security: Security = PLAINTEXT, timeout_s: float | None = None, say: Say = _log.warning
) -> None:
    """Return when a broker at `bootstrap` (HOST:PORT, several separated by commas) is fit to work with.

    Says every few seconds why it is not. Raises `BrokerUnavailable` only if `timeout_s` is given, `AccessRefused` when
    the broker answers and will have nothing to do with us.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await _wait_for_broker(bootstrap, security, _Throttled(say))
    except TimeoutError:
        reason = await why_unavailable(bootstrap, security)
        if reason is not None:
            raise BrokerUnavailable(
                f"no Kafka broker at {bootstrap} after {timeout_s:g} s ({reason}): start it, "
                "or name another one with --broker HOST:PORT (EBS_BROKER)"
            ) from None


async def ensure_topics(
    bootstrap: str,
    catalogue: Iterable[TopicSpec],
    *,
    security: Security = PLAINTEXT,
    timeout_s: float | None = None,
    say: Say = _log.warning,
    adopt: bool = False,
) -> tuple[TopicReport, ...]:
    """Make the topics that are missing, check the others, return when every partition's leader answers.

    Waits for the broker first. Many processes may call it at once. Raises `ForeignTopics` for a topic that is not this
    system's, unless it is to `adopt` what exists; `TopicMismatch` for a topic of another shape (nothing is made then),
    `BrokerError` if the broker refuses, `AccessRefused` as above, `BrokerUnavailable` if `timeout_s` is over.
    """
    specs = tuple(catalogue)
    throttled = _Throttled(say)
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                await _wait_for_broker(bootstrap, security, throttled)
                try:
                    return await _ensure_topics(bootstrap, security, specs, throttled, adopt=adopt)
                except (KafkaError, OSError) as error:
                    if isinstance(error, KafkaError) and not error.retriable:
                        raise BrokerError(_why_refused(bootstrap, error)) from error
                    throttled(f"the Kafka broker at {bootstrap} left while its topics were checked ({in_words(error)})")
                    await asyncio.sleep(_MAX_PAUSE_S)
    except TimeoutError:
        raise BrokerUnavailable(
            f"gave up after {timeout_s:g} s: {throttled.latest or f'no answer from {bootstrap}'}; start the broker, "
            "or name another one with --broker HOST:PORT (EBS_BROKER)"
        ) from None


def _why_refused(bootstrap: str, error: KafkaError) -> str:
    if isinstance(error, TopicAuthorizationFailedError | ClusterAuthorizationFailedError):
        return (
            f"our user may not make what is missing at {bootstrap} ({error}): run `ebs topics` as one who may, and let "
            "ours Describe these topics (docs/how-to/own-kafka.md)"
        )
    return f"the Kafka broker at {bootstrap} refuses to make topics: {error}"


async def tiers_on_broker(
    bootstrap: str, names: Names, partition_count: int, security: Security = PLAINTEXT
) -> set[int]:
    """Return the seconds of all retry tiers of so many partitions that exist, whoever made them."""
    async with _admin_client(bootstrap, security) as admin:
        described = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics()}
    tiers = {names.retry_tier_s(name) for name, count in described.items() if count == partition_count}
    return {tier_s for tier_s in tiers if tier_s is not None}


async def other_retry_topics(
    bootstrap: str, names: Names, tiers_s: Sequence[int], partition_count: int, security: Security = PLAINTEXT
) -> list[str]:
    """Return the retry tiers on the broker that are not among `tiers_s`: tasks may wait there since tiers changed.

    One with another number of partitions cannot be read along with the others: that is said, and it is left out.
    """
    found = []
    async with _admin_client(bootstrap, security) as admin:
        described = [topic for topic in await admin.describe_topics() if names.retry_tier_s(topic["topic"]) is not None]
        others = [one["topic"] for one in described if names.retry_tier_s(one["topic"]) not in tiers_s]
        own = await TopicRegistry(names.topics, _connection(bootstrap, security)).own_of(others) if others else set()
        for topic in described:
            name, count = topic["topic"], len(topic["partitions"])
            tier_s = names.retry_tier_s(name)
            if tier_s is None or tier_s in tiers_s or not count:
                continue
            if name not in own:
                _log.error("%s is not read: nothing says that this system made it (ebs topics --adopt)", name)
            elif count == partition_count:
                found.append((tier_s, name))
            else:
                _log.error(
                    "%s is not read: it has %d partitions, the other topics have %d (EBS_PARTITIONS). "
                    "Tasks may wait in it",
                    name,
                    count,
                    partition_count,
                )
    return [name for _, name in sorted(found)]


async def check_group(bootstrap: str, group_id: str, security: Security = PLAINTEXT) -> None:
    """Raise `AccessRefused` if our user may not join a group; aiokafka would wait for ever without a word.

    Asked by a heartbeat of nobody, which changes nothing. What else goes wrong is left to those who work.
    """
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap, client_id="ebs-topics", request_timeout_ms=_REQUEST_TIMEOUT_MS, **security
    )
    refusal = AccessRefused(
        f"our user may not join the group {group_id} at {bootstrap}: allow it Read and Describe "
        "(docs/how-to/own-kafka.md)"
    )
    try:
        await client.bootstrap()
        node_id = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
        await client.ready(node_id, group=ConnectionGroup.COORDINATION)
        request = HeartbeatRequest(group_id, 0, "nobody")
        response = await client.send(node_id, request, group=ConnectionGroup.COORDINATION)
    except GroupAuthorizationFailedError:
        raise refusal from None
    except (KafkaError, OSError) as error:
        _log.debug("whether the group %s may be joined is not known: %r", group_id, error)
    else:
        if for_code(response.error_code) is GroupAuthorizationFailedError:
            raise refusal
    finally:
        await client.close()


class _Throttled:
    """Passes on at most one message every few seconds; remembers the latest."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said_s: float | None = None
        self.latest = ""

    def __call__(self, message: str) -> None:
        self.latest = message
        now_s = asyncio.get_running_loop().time()
        if self._said_s is None or now_s - self._said_s >= _SAY_EVERY_S:
            self._said_s = now_s
            self._say(message)

    def conclude(self, message: str) -> None:
        """Say that the matter is settled, but only to those who heard that there was one."""
        if self._said_s is not None:
            self._said_s = None
            self._say(message)


def _pauses_s() -> Iterator[float]:
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.75, 1.0)  # many workers that wait must not all knock at once
        pause_s = min(pause_s * 2, _MAX_PAUSE_S)


async def _wait_for_broker(bootstrap: str, security: Security, throttled: _Throttled) -> None:
    refusals_left = _REFUSALS_BEFORE_GIVING_UP
    for pause_s in _pauses_s():
        try:
            reason = await why_unavailable(bootstrap, security)
        except AccessRefused as refusal:
            # Once more, and again: while a cluster rolls, one broker may know a user that another one does not yet.
            refusals_left -= 1
            if refusals_left == 0:
                raise
            reason = str(refusal)
        if reason is None:
            throttled.conclude(f"the Kafka broker at {bootstrap} answers")
            return
        throttled(f"waiting for the Kafka broker at {bootstrap} ({reason})")
        await asyncio.sleep(pause_s)


async def _ensure_topics(
    bootstrap: str, security: Security, specs: Sequence[TopicSpec], throttled: _Throttled, *, adopt: bool
) -> tuple[TopicReport, ...]:
    made: set[str] = set()
    registry = [spec for spec in specs if spec.is_registry]
    guard = None
    if registry:
        notes = TopicRegistry(registry[0].name, _connection(bootstrap, security))
        guard = TopicGuard(specs, notes, bootstrap, adopt=adopt)
    async with _admin_client(bootstrap, security) as admin:
        for pause_s in _pauses_s():
            found = await _describe(admin, specs)
            made_by_us = frozenset() if guard is None else await guard.made_by_us(found, made)
            if made_by_us is None:
                await asyncio.sleep(pause_s)
                continue
            mismatch = explain_mismatch(specs, found, bootstrap, made_by_us)
            if mismatch is not None:
                raise TopicMismatch(mismatch)
            missing = [spec for spec in specs if spec.name not in found]
            if not missing:
                break
            if guard is not None and registry[0] not in missing:
                await guard.claim(spec.name for spec in missing)
            elif guard is not None:
                missing = registry  # first, so that all others can be claimed before they are made
            made |= await _make(admin, missing, throttled)
            await asyncio.sleep(pause_s)  # until this broker's metadata shows them
        await _wait_for_leaders(bootstrap, security, admin, specs, throttled)
    adopted = set() if guard is None else guard.adopted
    return tuple(TopicReport(found[spec.name], spec.name in made, spec.name in adopted) for spec in specs)


def _connection(bootstrap: str, security: Security) -> dict[str, Any]:
    return {"bootstrap_servers": bootstrap, "request_timeout_ms": _REQUEST_TIMEOUT_MS, **security}


@asynccontextmanager
async def _admin_client(bootstrap: str, security: Security) -> AsyncIterator[AIOKafkaAdminClient]:
    connection = _connection(bootstrap, security)
    admin = AIOKafkaAdminClient(client_id="ebs-topics", **connection)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def _describe(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec]) -> dict[str, TopicShape]:
    wanted = {spec.name for spec in specs}
    # All topics are listed: asking for one that is missing would make it where auto-creation is on.
    described = [topic for topic in await admin.describe_topics() if topic["topic"] in wanted and topic["partitions"]]
    configs = await _configs(admin, [topic["topic"] for topic in described])
    return {
        topic["topic"]: TopicShape(
            name=topic["topic"],
            partition_count=len(topic["partitions"]),
            replication_factor=min(len(partition["replicas"]) for partition in topic["partitions"]),
            **configs.get(topic["topic"], {}),
        )
        for topic in described
    }


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return of each topic that we may read the fields of its `TopicShape` that are configuration."""
    if not names:
        return {}
    wanted = {"cleanup.policy": "", "max.message.bytes": ""}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
    configs: dict[str, dict[str, Any]] = {}
    for response in await admin.describe_configs(resources):
        for error_code, _message, _type, name, entries in response.resources:
            if error_code == 0:  # else we may not read it, which is no reason to refuse to work
                found = {entry[0]: str(entry[1]) for entry in entries}
                configs[name] = {
                    "cleanup_policy": frozenset(found["cleanup.policy"].split(",")),
                    "max_message_bytes": int(found["max.message.bytes"]),
                }
    return configs


async def _make(admin: AIOKafkaAdminClient, missing: Sequence[TopicSpec], throttled: _Throttled) -> set[str]:
    response = await admin.create_topics(
        [
            NewTopic(spec.name, spec.partition_count, spec.replication_factor, topic_configs=dict(spec.config))
            for spec in missing
        ]
    )
    made = set()
    for name, error_code, *message in response.topic_errors:
        error = for_code(error_code)
        if error_code == 0:
            made.add(name)
        elif error is InvalidReplicationFactorError:
            throttled(f"waiting for more brokers, or lower EBS_REPLICATION_FACTOR: topic {name}, {' '.join(message)}")
        elif error is not TopicAlreadyExistsError:  # another process was faster: next time round it is described
            said = " ".join(filter(None, message))
            if error is InvalidTopicError and "collide" in said:
                said += " (to Kafka '.' and '_' are the same in names): choose another EBS_NAMESPACE"
            raise error(f"topic {name}: {error.description}, {said}")
    return made


async def _wait_for_leaders(
    bootstrap: str,
    security: Security,
    admin: AIOKafkaAdminClient,
    specs: Sequence[TopicSpec],
    throttled: _Throttled,
) -> None:
    """Ask each partition's leader for its end offset: metadata names a leader before it takes requests."""
    wanted = {spec.name for spec in specs}
    client = AIOKafkaClient(
        bootstrap_servers=bootstrap, client_id="ebs-topics", request_timeout_ms=_REQUEST_TIMEOUT_MS, **security
    )
    try:
        await client.bootstrap()
        for tries, pause_s in enumerate(_pauses_s()):
            topics = [topic for topic in await admin.describe_topics() if topic["topic"] in wanted]
            leaderless = await _leaderless(client, topics)
            if not leaderless:
                return
            if tries >= _TRIES_BEFORE_SAYING:
                throttled(f"waiting for leaders at {bootstrap}: {', '.join(sorted(leaderless))}")
            await asyncio.sleep(pause_s)
    finally:
        await client.close()


async def _leaderless(client: AIOKafkaClient, topics: Sequence[dict[str, Any]]) -> set[str]:
    by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for topic in topics:
        for partition in topic["partitions"]:
            partitions = by_leader.setdefault(partition["leader"], {}).setdefault(topic["topic"], [])
            partitions.append((partition["partition"], _LATEST))
    leaderless = set(by_leader.pop(-1, {}))
    for leader, partitions_of in by_leader.items():
        response = await client.send(leader, OffsetRequest(-1, 0, list(partitions_of.items())))
        leaderless |= {
            name for name, answers in response.topics for _, error_code, *_rest in answers if error_code != 0
        }
    return leaderless
