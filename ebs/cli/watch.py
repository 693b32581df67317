"""`ebs watch`: a table of the totals or of one object, drawn again once a second."""

from __future__ import annotations

import itertools
import json
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from app.rules.ledger_states import ENDED_OBJECT_STATES
from app.telemetry.plain_text import plain, plain_json
from ebs.cli.client import ApiError, path_of
from ebs.cli.control_tables import tasks_table
from ebs.cli.object_tables import object_table, totals_table
from ebs.cli.remote import Api, AsJson, open_api

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from ebs.cli.client import ApiClient

_TASKS_SHOWN = 100
_RATES = ("objects_created", "objects_finished", "tasks_finished", "tasks_failed")


def watch(
    context: typer.Context,
    object_id: Annotated[
        str | None,
        typer.Argument(metavar="OBJECT_ID", help="Watch this object until it has ended. Default: the totals."),
    ] = None,
    *,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.05, help="Pause between two updates.")
    ] = 1.0,
    looks: Annotated[
        int | None, typer.Option("--looks", metavar="N", min=1, help="Stop after this many updates. Default: never.")
    ] = None,
    as_json: AsJson = False,
    api: Api = None,
) -> None:
    """Watch the totals, or one object, live.

    Press Ctrl-C to stop. With --json it prints a line of JSON for each update.
    """
    with open_api(context, api) as client:
        look: Callable[[], Look] = _Totals(client) if object_id is None else _OneObject(client, object_id)
        first = look()  # a wrong id or URL is an error, and no picture of one
        try:
            _follow(first, look, every, looks, as_json=as_json)
        except KeyboardInterrupt:
            return


class Look:
    """What was seen at once: for programs, for people, and whether it will never change again."""

    def __init__(self, answer: dict[str, Any], shown: RenderableType, *, over: bool = False) -> None:
        self.answer = answer
        self.shown = shown
        self.over = over


class _Totals:
    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._before: tuple[float, dict[str, Any]] | None = None

    def __call__(self) -> Look:
        answer = self._client.get(path_of("statistics"))
        now_s = time.monotonic()
        rates: dict[str, float] = {}
        if self._before is not None:
            before_s, before = self._before
            rates = {name: max(0, answer[name] - before[name]) / (now_s - before_s) for name in _RATES}
        self._before = (now_s, answer)
        return Look({**answer, "rates_per_s": rates or None}, totals_table(answer, rates))


class _OneObject:
    def __init__(self, client: ApiClient, object_id: str) -> None:
        self._client = client
        self._path = path_of("objects", object_id)

    def __call__(self) -> Look:
        answer = self._client.get(self._path)
        tasks = self._client.get(self._path + "/tasks", limit=_TASKS_SHOWN)
        shown = Group(object_table(answer), tasks_table(tasks))
        return Look({**answer, "tasks": tasks["tasks"]}, shown, over=answer["state"] in ENDED_OBJECT_STATES)


def _follow(first: Look, look: Callable[[], Look], every_s: float, looks: int | None, *, as_json: bool) -> None:
    live = Live(console=Console(markup=False, emoji=False, highlight=False), auto_refresh=False)
    seen, trouble = first, ""
    with nullcontext() if as_json else live:
        for number in itertools.count(1):
            if as_json:
                typer.echo(plain_json(json.dumps({"trouble": trouble} if trouble else seen.answer, ensure_ascii=False)))
            else:
                # A moment without the API keeps the last picture, and says so.
                told = Text(plain(trouble), style="red")
                live.update(Group(seen.shown, told) if trouble else seen.shown, refresh=True)
            if (seen.over and not trouble) or number == looks:
                return
            time.sleep(every_s)
            try:
                seen, trouble = look(), ""
            except ApiError as error:
                trouble = str(error)
