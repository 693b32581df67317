"""`ebs recount`: ledger and windows once more from the topics, compared with the tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from app.errors import EbsError
from app.telemetry.plain_text import plain, plain_json, plain_lines
from ebs.cli.bars import RecordBar
from ebs.cli.options import Broker, settings_of

if TYPE_CHECKING:
    from app.settings.settings import Settings
    from ebs.recount.findings import Difference, Findings

EXIT_NOT_COUNTED = 2
_PATIENCE_S = 5.0


def recount(
    broker: Broker = None,
    partition: Annotated[
        list[int] | None,
        typer.Option("--partition", metavar="N", min=0, help="Only this one; repeatable. Default: all."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Recount the topics and compare with the statistics.

    Prints every difference in ledger, results and windows. You can run it while the system runs.

    Exit code 0: everything that can be compared is equal; 1: there are differences; 2: counting was not possible.
    """
    import asyncio

    def tell(difference: Difference) -> None:
        if not as_json:
            typer.echo(plain(str(difference)))

    try:
        settings = settings_of(broker=broker)
        findings = asyncio.run(_recount(settings, tell, partition or []))
    except EbsError as error:
        typer.secho(f"ebs: {plain_lines(str(error))}", fg=typer.colors.RED, err=True)
        raise typer.Exit(EXIT_NOT_COUNTED) from None
    if as_json:
        typer.echo(plain_json(json.dumps(_as_dict(findings))))
    else:
        for line in summary_of(findings):
            typer.echo(plain(line))
    raise typer.Exit(1 if findings.differences else 0)


async def _recount(settings: Settings, tell: Any, only: list[int]) -> Findings:
    from app.kafka.cluster import cluster_of
    from app.kafka.waiting import wait_for_broker
    from ebs.recount.reading import open_topics
    from ebs.recount.run import Recount

    cluster = cluster_of(settings)
    await wait_for_broker(cluster, timeout_s=_PATIENCE_S, say=lambda _why: None)
    async with open_topics(cluster, settings.names) as reader:
        with RecordBar(Console(stderr=True)) as bar:
            return await Recount(reader, settings, advance=bar).run(tell, only)


def summary_of(findings: Findings) -> list[str]:
    """Return what was compared, what could not be and why, and the verdict."""
    lines = [f"compared: {findings.objects:,} objects, {findings.windows:,} windows, {findings.totals:,} totals"]
    if findings.forgotten:
        lines.append(f"expired, as expected: {findings.forgotten:,} objects")
    if any(findings.incomparable.values()):
        counts = ", ".join(f"{count:,} {what}" for what, count in findings.incomparable.items() if count)
        reasons = "; ".join(f"{count:,} because {reason}" for reason, count in sorted(findings.reasons.items()))
        lines.append(f"cannot be compared: {counts} ({reasons})")
    count = len(findings.differences)
    lines.append(f"{count:,} differences" if count else "equal: the tables match the topics")
    return lines


def _as_dict(findings: Findings) -> dict[str, Any]:
    return {
        "equal": not findings.differences,
        "differences": [one._asdict() for one in findings.differences],
        "compared": {"objects": findings.objects, "windows": findings.windows, "totals": findings.totals},
        "cannot_be_compared": {**findings.incomparable, "reasons": findings.reasons},
        "forgotten_objects": findings.forgotten,
        "read_to": findings.read_to,
    }
