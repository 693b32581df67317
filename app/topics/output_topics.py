"""The topics that functions send records to (EBS_OUTPUT_TOPICS): they are the users', made and shaped by them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.kafka.types import NewTopic
from app.topics.making import read_shapes
from app.topics.registry import CLIENT_ID, REQUEST_TIMEOUT_MS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.kafka.cluster import Cluster
    from app.settings.settings import Settings
    from app.topics.shapes import TopicShape

_LOOKS = 4
_PAUSE_S = 0.5
"""A topic that was just made is not known to all brokers for a moment."""


async def read_output_topics(cluster: Cluster, names: Sequence[str]) -> dict[str, TopicShape]:
    """Return those of the topics that exist, by name."""
    if not names:
        return {}
    async with cluster.within(REQUEST_TIMEOUT_MS).admin(CLIENT_ID) as admin:
        for looks_left in reversed(range(_LOOKS)):
            found = await read_shapes(admin, names)
            missing = [name for name in names if name not in found]
            if not missing or not looks_left:
                break
            await asyncio.sleep(_PAUSE_S)
    return found


async def make_output_topics(cluster: Cluster, settings: Settings) -> list[str]:
    """Make those that are missing, on a broker that is ours alone; returns their names."""
    if not settings.output_topics:
        return []
    async with cluster.within(REQUEST_TIMEOUT_MS).admin(CLIENT_ID) as admin:
        known = await read_shapes(admin, settings.output_topics)
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
