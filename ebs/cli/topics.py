"""`ebs topics`: make and check the topics of any broker."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

from ebs.cli.options import Broker, Partitions, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from app.kafka.cluster import Cluster
    from app.kafka.waiting import Say
    from app.settings.settings import Settings
    from app.topics.making import TopicReport


def topics(
    *,
    broker: Broker = None,
    partitions: Partitions = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for the broker. Default: for ever."),
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Take over existing topics that this system did not make.")
    ] = False,
    queue: Annotated[
        list[str] | None,
        typer.Option("--queue", metavar="QUEUE", help="Also the topics of this queue; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Make the missing topics and check the others.

    The queues are those of the project (EBS_PROJECT), and those of --queue where the project is not installed.

    Exit code 1 if a topic has another number of partitions or cleanup policy, or was not made by this system.
    """
    import asyncio

    from rich.console import Console

    from app.kafka.cluster import cluster_of

    settings = settings_of(broker=broker, partitions=partitions)
    queues = _queues_of(settings, queue or ())

    def say(line: str) -> None:
        typer.echo(line, err=True)

    reports = asyncio.run(_ensure(settings, cluster_of(settings), queues, timeout_s=timeout_s, say=say, adopt=adopt))
    if as_json:
        typer.echo(json.dumps([_as_dict(report) for report in reports]))
    else:
        Console().print(_as_table(reports, settings.broker))


def _queues_of(settings: Settings, more: Sequence[str]) -> tuple[str, ...]:
    """Return the queues of the project, looked up in a process of its own, and more. Raises `SettingsError`."""
    import asyncio

    from app.errors import SettingsError
    from ebs.local.project_check import check_project
    from ebs.queues import queues_in, why_no_queue

    for name in more:
        reason = why_no_queue(name)
        if reason is not None:
            raise typer.BadParameter(f"{name!r}: the name of a queue {reason}", param_hint="--queue")
    named = {f"--queue {name}": name for name in more}
    if settings.project:
        look = asyncio.run(check_project(os.environ))
        if look.refusal is not None:
            raise SettingsError(look.refusal)
        named |= look.queues
    return queues_in(named)


async def _ensure(
    settings: Settings, cluster: Cluster, queues: Sequence[str], *, timeout_s: float | None, say: Say, adopt: bool
) -> tuple[TopicReport, ...]:
    from app.kafka.waiting import wait_for_broker
    from app.topics.catalogue import catalogue
    from app.topics.former_retry_topics import retry_topics_on
    from app.topics.making import ensure_topics

    former: Sequence[str] = ()
    if adopt:
        await wait_for_broker(cluster, timeout_s=timeout_s, say=say)
        counts = await retry_topics_on(cluster, settings.names)
        former = [name for name, count in counts.items() if count == settings.partitions]
    specs = catalogue(settings, former, queues=queues)
    return await ensure_topics(cluster, specs, timeout_s=timeout_s, say=say, adopt=adopt)


def _as_dict(report: TopicReport) -> dict[str, str | int | bool | None]:
    shape = report.shape
    policy = None if shape.cleanup_policy is None else ",".join(sorted(shape.cleanup_policy))
    return {
        "name": shape.name,
        "partitions": shape.partition_count,
        "replicas": shape.replication_factor,
        "cleanup_policy": policy,
        "made": report.made,
        "adopted": report.adopted,
    }


def _as_table(reports: Sequence[TopicReport], bootstrap: str) -> Table:
    from rich.table import Table

    table = Table(title=f"topics at {bootstrap}")
    for heading in ("topic", "partitions", "replicas", "clean-up", ""):
        table.add_column(heading, justify="right" if heading in {"partitions", "replicas"} else "left")
    for row in map(_as_dict, reports):
        count, replicas = str(row["partitions"]), str(row["replicas"])
        done = "made" if row["made"] else "adopted" if row["adopted"] else "right"
        table.add_row(str(row["name"]), count, replicas, str(row["cleanup_policy"] or "?"), done)
    return table
