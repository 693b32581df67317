"""`ebs doctor`: what is wrong with a system, why it matters, and the fix."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.errors import BrokerUnavailable, EbsError, SettingsError
from app.process.name_clashes import hidden_packages
from app.telemetry.plain_text import plain, plain_json, plain_lines
from ebs.cli.client import ApiClient, ApiError, path_of
from ebs.cli.options import Broker, settings_of
from ebs.cli.remote import all_pages, say
from ebs.doctor.facts import ScheduleFacts, Severity
from ebs.queues import queues_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from app.settings.settings import Settings
    from ebs.doctor.facts import Finding, SystemFacts

EXIT_ERRORS = 1
EXIT_NOT_LOOKED_AT = 2
_PATIENCE_S = 5.0
_READING_S = 60.0
_MOST_GROUPS = 1_000
_SCHEDULES_A_PAGE = 200
_WIDTH_WITHOUT_TERMINAL = 200
_COLORS = {Severity.OK: "green", Severity.INFO: "blue", Severity.WARNING: "yellow", Severity.ERROR: "red"}


def doctor(
    context: typer.Context,
    broker: Broker = None,
    api: Annotated[
        str | None,
        typer.Option("--api", envvar="EBS_API_URL", metavar="URL", help="Where the API is."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check topics, brokers, settings, workers and disk.

    It also checks consumer groups, clocks and schedules. It changes nothing.

    Exit code 0: no errors, perhaps warnings; 1: errors; 2: no broker, or settings that cannot be read.
    """
    import asyncio

    from ebs.doctor.diagnosis import diagnose
    from ebs.local.project_check import check_project

    try:
        settings = settings_of(broker=broker, api_url=api)
        look = asyncio.run(check_project(os.environ))
        facts = asyncio.run(_look(settings, queues_in(look.queues)))
    except EbsError as error:
        typer.secho(f"ebs: {plain_lines(str(error))}", fg=typer.colors.RED, err=True)
        raise typer.Exit(EXIT_NOT_LOOKED_AT) from None
    facts = dataclasses.replace(
        facts,
        project_error=look.refusal,
        kinds=_kinds_of(look.functions),
        schedules=_schedules(settings, context.obj),
        hidden_packages=hidden_packages(),
        waiting_letters=_waiting_letters(settings, context.obj),
    )
    findings = diagnose(settings, facts)
    if as_json:
        answer = [dataclasses.asdict(finding) for finding in findings]
        typer.echo(plain_json(json.dumps(answer, ensure_ascii=False)))
    else:
        _print(findings, settings)
    raise typer.Exit(EXIT_ERRORS if any(finding.severity is Severity.ERROR for finding in findings) else 0)


async def _look(settings: Settings, queues: Sequence[str]) -> SystemFacts:
    from app.kafka.cluster import cluster_of
    from app.kafka.waiting import wait_for_broker
    from ebs.doctor.reading import UNREADABLE, read_within

    cluster = cluster_of(settings)
    await wait_for_broker(cluster, timeout_s=_PATIENCE_S, say=lambda _line: None)
    try:
        return await read_within(settings, cluster, queues, _READING_S)
    except UNREADABLE as error:
        raise BrokerUnavailable(
            f"the Kafka broker at {settings.broker} did not answer all questions ({error!r}): is it overloaded, or may "
            "this user not Describe the cluster and the groups (docs/how-to/own-kafka.md)?"
        ) from error


def _waiting_letters(settings: Settings, transport: httpx.BaseTransport | None) -> int | None:
    try:
        key = settings.api_key.get_secret_value()
        with ApiClient(settings.api_url, key=key, transport=transport, say=say) as client:
            answer = client.get(path_of("dead-letters"), group_by="fingerprint", state="DEAD", limit=_MOST_GROUPS)
    except (ApiError, SettingsError):
        return None
    groups: list[dict[str, Any]] = answer["groups"]
    return sum(int(group["states"].get("DEAD", 0)) for group in groups)


def _kinds_of(functions: Sequence[Sequence[str]]) -> frozenset[str] | None:
    kinds = frozenset(kind for _, kind in functions)
    return None if not kinds or "*" in kinds else kinds


def _schedules(settings: Settings, transport: httpx.BaseTransport | None) -> list[ScheduleFacts] | None:
    try:
        key = settings.api_key.get_secret_value()
        with ApiClient(settings.api_url, key=key, transport=transport, say=say) as client:
            answer = all_pages(client, path_of("schedules"), "schedules", limit=_SCHEDULES_A_PAGE)
    except (ApiError, SettingsError):
        return None
    return [ScheduleFacts(one["name"], one["kind"], one["state"]) for one in answer["schedules"]]


def _print(findings: Sequence[Finding], settings: Settings) -> None:
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_WITHOUT_TERMINAL
    table = Table(
        title=" ".join(filter(None, ("the system", settings.namespace, "at", settings.broker))), show_lines=False
    )
    for heading in ("", "where", "what", "fix"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        what = finding.what + (f": {finding.why}" if finding.why else "")
        told = (plain(text) for text in (finding.subject, what, finding.fix))
        table.add_row(Text(finding.severity.value, _COLORS[finding.severity]), *told)
    console.print(table)
    counts = {severity: sum(finding.severity is severity for finding in findings) for severity in Severity}
    console.print(", ".join(f"{count} {severity.value}" for severity, count in counts.items() if count))
