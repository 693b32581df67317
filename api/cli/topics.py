"""`ebs topics`: make and check the topics of any broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import Broker, Partitions, settings_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from app.broker import TopicReport


def topics(
    broker: Broker = None,
    partitions: Partitions = None,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0, help="How long to wait for the broker. Default: for ever."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,  # noqa: FBT002  # typer's way to make a flag
) -> None:
    """Make the missing topics and check the others.

    Exit code 1 if a topic exists with another shape.
    """
    import asyncio

    from rich.console import Console

    from app.broker import ensure_topics
    from app.kafka_security import kafka_security
    from app.topics import catalogue

    settings = settings_of(broker=broker, partitions=partitions)

    def say(line: str) -> None:
        typer.echo(line, err=True)

    security = kafka_security(settings)
    reports = asyncio.run(
        ensure_topics(settings.broker, catalogue(settings), security=security, timeout_s=timeout_s, say=say)
    )
    if as_json:
        typer.echo(json.dumps([_as_dict(report) for report in reports]))
    else:
        Console().print(_as_table(reports, settings.broker))


def _as_dict(report: TopicReport) -> dict[str, str | int | bool | None]:
    shape = report.shape
    policy = None if shape.cleanup_policy is None else ",".join(sorted(shape.cleanup_policy))
    return {
        "name": shape.name,
        "partitions": shape.partition_count,
        "replicas": shape.replication_factor,
        "cleanup_policy": policy,
        "made": report.made,
    }


def _as_table(reports: Sequence[TopicReport], bootstrap: str) -> Table:
    from rich.table import Table

    table = Table(title=f"topics at {bootstrap}")
    for heading in ("topic", "partitions", "replicas", "clean-up", ""):
        table.add_column(heading, justify="right" if heading in {"partitions", "replicas"} else "left")
    for row in map(_as_dict, reports):
        count, replicas = str(row["partitions"]), str(row["replicas"])
        table.add_row(
            str(row["name"]), count, replicas, str(row["cleanup_policy"] or "?"), "made" if row["made"] else "right"
        )
    return table
