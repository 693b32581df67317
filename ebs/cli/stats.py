"""`ebs stats`: totals, durations with percentiles, and the newest windows."""

from __future__ import annotations

from typing import Annotated

import typer

from ebs.cli.client import path_of
from ebs.cli.object_tables import spreads_table, totals_table, windows_table
from ebs.cli.remote import Api, AsJson, open_api, show


def stats(
    context: typer.Context,
    *,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only this kind. Default: all.")] = None,
    windows: Annotated[
        int, typer.Option("--windows", metavar="N", min=0, max=1_000, help="How many of the newest windows.")
    ] = 12,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Show totals, durations and windows.

    Totals by kind, percentiles of the durations, and the newest windows of 10 s.
    """
    with open_api(context, api) as client:
        answer = client.get(path_of("statistics"))
        newest = client.get(path_of("statistics", "windows"), kind=kind, limit=windows)["windows"] if windows else []
    if kind is not None:
        answer = {**answer, "kinds": {name: one for name, one in answer["kinds"].items() if name == kind}}
    tables = [totals_table(answer), spreads_table(answer)]
    if newest:
        tables.append(windows_table(newest))
    shown = tables if answer["kinds"] else [f"nothing is counted for {kind}" if kind else "nothing is counted yet"]
    show({**answer, "windows": newest}, *shown, as_json=as_json)
