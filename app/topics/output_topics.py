"""The topics that functions send records to (EBS_OUTPUT_TOPICS): they are the users', made and shaped by them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from app.errors import OutputTopicsMissing
from app.kafka.admin import read_topic_configs
from app.kafka.types import NewTopic
from app.topics.registry import CLIENT_ID, REQUEST_TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from app.kafka.cluster import Cluster
    from app.kafka.types import AIOKafkaAdminClient
    from app.settings.settings import Settings

_LOOKS = 4
_PAUSE_S = 0.5
"""A topic that was just made is not known to all brokers for a moment."""
_CLEANUP_POLICY, _MAX_MESSAGE_BYTES = "cleanup.policy", "max.message.bytes"


class OutputTopic(NamedTuple):
    """A topic as the broker has it; `max_record_bytes` is None where we may not read its configuration."""

    partition_count: int
    max_record_bytes: int | None = None
    is_compacted: bool = False


async def read_output_topics(cluster: Cluster, names: Sequence[str]) -> dict[str, OutputTopic]:
    """Return the topics by name. Raises `OutputTopicsMissing` if one does not exist."""
    if not names:
        return {}
    async with cluster.within(REQUEST_TIMEOUT_MS).admin(CLIENT_ID) as admin:
        for looks_left in reversed(range(_LOOKS)):
            counts = await _partition_counts(admin, names)
            missing = [name for name in names if name not in counts]
            if not missing or not looks_left:
                break
            await asyncio.sleep(_PAUSE_S)
        if missing:
            raise OutputTopicsMissing(why_missing(missing, cluster.bootstrap))
        configs = await read_topic_configs(admin, names, (_CLEANUP_POLICY, _MAX_MESSAGE_BYTES))
    return {name: _topic_of(counts[name], configs.get(name, {})) for name in names}


async def make_output_topics(cluster: Cluster, settings: Settings) -> list[str]:
    """Make those that are missing, on a broker that is ours alone; returns their names."""
    if not settings.output_topics:
        return []
    async with cluster.within(REQUEST_TIMEOUT_MS).admin(CLIENT_ID) as admin:
        known = await _partition_counts(admin, settings.output_topics)
        missing = [name for name in settings.output_topics if name not in known]
        if missing:
            await admin.create_topics([NewTopic(name, settings.partitions, 1) for name in missing])
    return missing


def why_missing(names: Sequence[str], bootstrap: str) -> str:
    """Return what is wrong and what to do about it."""
    are = f"topic {names[0]} does" if len(names) == 1 else f"topics {', '.join(names)} do"
    return (
        f"the {are} not exist at {bootstrap}, or this user may not Describe: EBS_OUTPUT_TOPICS names what functions "
        f"send records to. Make it (kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {names[0]} "
        "--partitions 8), or take it out of EBS_OUTPUT_TOPICS"
    )


async def _partition_counts(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    # All topics are listed: asking for one that is missing would make it where auto-creation is on.
    described = await admin.describe_topics()
    return {one["topic"]: len(one["partitions"]) for one in described if one["topic"] in names and one["partitions"]}


def _topic_of(partition_count: int, config: Mapping[str, str]) -> OutputTopic:
    limit = config.get(_MAX_MESSAGE_BYTES)
    policies = config.get(_CLEANUP_POLICY, "").split(",")
    return OutputTopic(partition_count, None if limit is None else int(limit), "compact" in policies)
