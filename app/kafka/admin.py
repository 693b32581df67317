"""Questions of administration, in the form in which the answer is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.offset import OffsetRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.client import AIOKafkaClient

_LATEST = -1  # ListOffsets' timestamp for the end of the log
_NO_LEADER = -1


async def read_topic_configs(
    admin: AIOKafkaAdminClient, topics: Iterable[str], wanted: Sequence[str] = ()
) -> dict[str, dict[str, str]]:
    """Return the `wanted` configuration entries of topics (without `wanted`: all).

    Topics whose configuration our user may not read are left out.
    """
    return await _read_configs(admin, ConfigResourceType.TOPIC, topics, wanted)


async def read_broker_config(admin: AIOKafkaAdminClient, node_id: int) -> dict[str, str] | None:
    """Return the configuration of a broker, None if our user may not read it."""
    return (await _read_configs(admin, ConfigResourceType.BROKER, [str(node_id)], ())).get(str(node_id))


async def _read_configs(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, names: Iterable[str], wanted: Sequence[str]
) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(kind, name, dict.fromkeys(wanted, "") or None) for name in names]
    if not resources:
        return {}
    return {
        name: {entry[0]: str(entry[1]) for entry in entries}
        for response in await admin.describe_configs(resources)
        for error_code, _message, _type, name, entries in response.resources
        if error_code == 0
    }


async def leaderless(client: AIOKafkaClient, described: Iterable[dict[str, Any]]) -> set[str]:
    """Return the topics (as aiokafka describes them) that have a partition whose leader does not work yet.

    Each leader is asked for the ends of its partitions: metadata names a leader before it takes requests.
    """
    by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for topic in described:
        for partition in topic["partitions"]:
            partitions = by_leader.setdefault(partition["leader"], {}).setdefault(topic["topic"], [])
            partitions.append((partition["partition"], _LATEST))
    found = set(by_leader.pop(_NO_LEADER, {}))
    for leader, partitions_of in by_leader.items():
        response = await client.send(leader, OffsetRequest(-1, 0, list(partitions_of.items())))
        found |= {name for name, answers in response.topics for _, error_code, *_rest in answers if error_code != 0}
    return found
