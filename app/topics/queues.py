"""The queues of a system, as its project names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import SettingsError
from app.rules.routing import Routes
from app.settings.project import project_of
from app.telemetry.near_names import did_you_mean
from app.topics.registry import CLIENT_ID, REQUEST_TIMEOUT_MS, TopicRegistry
from ebs.queues import DEFAULT_QUEUE, queues_in

if TYPE_CHECKING:
    from collections.abc import Collection

    from app.kafka.cluster import Cluster
    from app.names import Names
    from app.settings.settings import Settings


def routes_of(settings: Settings) -> Routes:
    """Return where requests go. Raises `SettingsError` if the project cannot be loaded."""
    project = project_of(settings)
    if project is None:
        return Routes(settings.names, settings.partitions)
    return Routes(settings.names, settings.partitions, project.queues, kinds_by_key=project.is_limited_by_key)


def queues_of(settings: Settings, own: str = DEFAULT_QUEUE) -> tuple[str, ...]:
    """Return the queues of the system, the default one first, with the `own` queue of a worker.

    It may be one that no kind has any more: tasks may wait there still. Raises `SettingsError`.
    """
    project = project_of(settings)
    return queues_in({**({} if project is None else project.queues), "": own})


async def check_queue(cluster: Cluster, settings: Settings, queue: str) -> None:
    """Raise `SettingsError` for a queue that no kind has, unless it has a topic: tasks may wait there still."""
    named = queues_of(settings)
    if queue in named or queue in await retired_queues(cluster, settings.names, named):
        return
    raise SettingsError(
        f"EBS_QUEUE={queue}: no kind of the project has this queue{did_you_mean(queue, named)}, and it has no topic "
        f'from earlier: name one of {", ".join(named)}, or write queue="{queue}" at the @project.task of a kind'
    )


async def retired_queues(cluster: Cluster, names: Names, queues: Collection[str]) -> list[str]:
    """Return the queues of this system that have a topic and are not among `queues`: tasks may wait there still."""
    cluster = cluster.within(REQUEST_TIMEOUT_MS)
    async with cluster.admin(CLIENT_ID) as admin:
        topics = [one for one in await admin.list_topics() if names.queue_of_topic(one) not in {"", *queues}]
    own = await TopicRegistry(names.topics, cluster).own_of(topics) if topics else set()
    return sorted(map(names.queue_of_topic, own))
