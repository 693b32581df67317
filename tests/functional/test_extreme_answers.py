"""Figures at the limits of their types in every answer: JSON, pages, metrics, commands."""

from __future__ import annotations

import pytest
from fake_steps import no_rows
from histories import made_fact
from plain_names import DEAD_LETTERS, WORKERS

from app.events import (
    MAX_INSTANT_MS,
    ObjectCreated,
    TaskFailed,
    TaskFinished,
    TaskStarted,
    task_id_of,
)
from app.rules.counts import MAX_SUM, TOTAL_SIZE_MS, WINDOW_MS, Counts, WindowKey
from app.rules.dead_letters import Origin, dead_letter_headers
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally
from app.rules.worker_heartbeats import RunningTask, WorkerFigures, WorkerIdentity, heartbeat_of

NOW_MS = 1_795_489_276_303
HIGHEST = Counts(
    **{name: {348: MAX_SUM} if name.endswith("histogram") else MAX_SUM for name in Counts.__struct_fields__}
)


@pytest.fixture
def world(api):
    """Fill an API with the highest figures that records may carry."""
    event = ObjectCreated(object_id="a1", kind="mail", name="n", content="c", at_ms=MAX_INSTANT_MS)
    row, results = ObjectRow(), Results(no_rows)
    apply_object_created(row, event, Tally())
    for sequence in range(3):
        common = ("a1", task_id_of("a1", sequence), 0, "mail", sequence, 3, 1)
        top = MAX_INSTANT_MS
        for one in (
            made_fact("c", *common, 0 if sequence else top),
            TaskStarted("s", *common, top, "w", top),
            TaskFailed("x", *common, top, "w", top, top, "no"),
            TaskFinished("f", *common, top, "w", top, top),
        ):
            apply_task_event(row, one, Tally(), results)
    api.topics.write_object(event)
    api.topics.write_row("a1", row, results=results)
    last_ms = MAX_INSTANT_MS - MAX_INSTANT_MS % WINDOW_MS
    for key in (
        WindowKey(TOTAL_SIZE_MS, 0, "mail"),
        WindowKey(WINDOW_MS, last_ms, "mail"),
        WindowKey(WINDOW_MS, 0, "mail"),
    ):
        for partition in (0, 1):
            api.topics.write_window(key, HIGHEST, partition)
    for timestamp_ms in (-1, 0, 2**63 - 1):
        headers = dead_letter_headers(Origin("objects", 0, 2**63 - 1, timestamp_ms), ValueError("x"), attempts=2**31)
        api.topics.write(DEAD_LETTERS, 0, b"k", b"{}", headers=tuple(headers), timestamp_ms=timestamp_ms)
    top = MAX_INSTANT_MS
    identity = WorkerIdentity("w-1", "processing", "1", "host", top, top)
    running = [RunningTask("a1-0", top, 1.0, "almost")]
    figures = WorkerFigures([0], top, top, top, running=running, abandoned=top)
    api.topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, figures, top), timestamp_ms=NOW_MS)
    return api


PATHS = (
    "/api/objects",
    "/api/objects?created_before=253402300799999",
    "/api/objects/a1",
    "/api/objects/a1/tasks",
    "/api/statistics",
    "/api/statistics/windows",
    "/api/statistics/windows?size=60",
    "/api/statistics/audit",
    "/api/dead-letters",
    "/api/dead-letters?group_by=fingerprint",
    "/api/dead-letters?before_ms=253402300799999",
    "/api/workers",
    "/metrics",
)
PAGES = ("/", "/objects", "/objects/a1", "/statistics/windows", "/dead-letters", "/waiting", "/workers")


@pytest.mark.parametrize("path", PATHS)
def test_answer_works_with_the_highest_figures(world, path):
    """Programs get numbers, never a 500."""
    answer = world.get(path)
    assert 200 == answer.status_code, answer.text[:500]


@pytest.mark.parametrize("path", PAGES)
def test_page_works_with_the_highest_figures(world, path):
    """People get words."""
    answer = world.request("GET", path, headers={"accept": "text/html"})
    assert 200 == answer.status_code, answer.text[:500]
    assert "text/html" in answer.headers["content-type"]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "a1"],
        ["tasks", "a1"],
        ["stats"],
        ["dead-letters", "groups"],
        ["workers"],
    ],
)
def test_command_works_with_the_highest_figures(ebs, arguments):
    """Tables and JSON alike."""
    for more in ([], ["--json"]):
        result = ebs(*arguments, *more)
        assert 0 == result.exit_code, (result.output, result.exception)


@pytest.mark.parametrize("cursor", ["999999999999999-0-5", "281474976710656-0-5"])
def test_place_beyond_all_instants_is_no_error_of_ours(world, cursor):
    """A cursor that somebody made up."""
    assert world.get(f"/api/dead-letters?cursor={cursor}").status_code in {200, 422}
