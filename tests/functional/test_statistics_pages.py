"""A statistics worker's pages: bounded lists, and HTML that shows everything as text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fake_steps import FakeStore, no_rows
from histories import BASE_MS, object_created, task_event

from agents.counting.listing import list_objects, list_windows, show_object, totals_of
from agents.counting.page_html import render_page
from agents.counting.pages import register_pages
from app.events import TaskFailed, TaskFinished, TasksCreated, TaskStarted
from app.rules.counts import TOTAL_SIZE_MS, WINDOW_MS, Counts, WindowKey, encode_counts, encode_window_key
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow, TaskRow, encode_row
from app.rules.results import Results
from app.rules.tally import Tally


class PageStore(FakeStore):
    """A store that iterates as rocksdb does."""

    def items(self) -> Any:
        """Iterate over rows in key order."""
        return iter(sorted(self.rows.items()))


NO_RESULTS: Any = {2: PageStore(), 5: PageStore()}


def finished_row() -> bytes:
    """Return the row of an object with one finished task."""
    row = ObjectRow()
    apply_object_created(row, object_created("x", at_ms=BASE_MS), Tally())
    for kind in (TasksCreated, TaskStarted, TaskFinished):
        apply_task_event(row, task_event(kind, "x", 0, at_ms=BASE_MS), Tally())
    return encode_row(row)


@pytest.fixture
def ledgers() -> Any:
    """Return the ledgers of two partitions, eleven objects."""
    row = finished_row()
    return {
        5: PageStore({f"b{number}".encode(): row for number in range(6)}),
        2: PageStore({f"a{number}".encode(): row for number in range(5)}),
    }


ALL_IDS = [f"a{number}" for number in range(5)] + [f"b{number}" for number in range(6)]


@pytest.mark.parametrize("max_rows", [1, 5, 6, 10, 11, 12])
def test_list_of_objects_is_bounded_and_says_whether_it_is_complete(ledgers, max_rows):
    """In order of partition and id; a list that was cut says so."""
    objects, is_complete = list_objects(ledgers, max_rows)
    assert ALL_IDS[:max_rows] == [one["id"] for one in objects]
    assert (max_rows >= 11) == is_complete


def test_object_is_shown_with_its_tasks(ledgers):
    """From the partition that has it; None where none has it."""
    told = show_object(ledgers, NO_RESULTS, "b3", 100)
    assert told is not None
    assert (5, "b3", "FINISHED", 1, True) == (
        *(told[name] for name in ("partition", "id", "state")),
        len(told["tasks"]),
        told["is_complete"],
    )
    assert show_object(ledgers, NO_RESULTS, "b9", 100) is None


def test_first_tasks_of_an_object_are_shown_with_their_errors():
    """An object may have ten thousand tasks. Errors stand in rows of their own table."""
    row, results = ObjectRow(), Results(no_rows)
    for sequence in range(25):
        event = task_event(TaskFailed, "a", sequence, at_ms=BASE_MS, task_count=25, error=f"no {sequence}")
        apply_task_event(row, event, Tally(), results)
    ledgers: Any = {3: PageStore({b"a": encode_row(row)})}
    stores: Any = {3: PageStore(dict(results.changed()))}
    for max_tasks, is_complete in ((10, False), (24, False), (25, True)):
        told = show_object(ledgers, stores, "a", max_tasks)
        assert told is not None
        assert [f"no {sequence}" for sequence in range(max_tasks)] == [task["error"] for task in told["tasks"]]
        assert is_complete == told["is_complete"]


def test_list_of_objects_ends_early_where_rows_are_large():
    """A row may have ten thousand tasks: decoding hundreds of them would stop the agent for seconds."""
    row = ObjectRow("default", 10_000, BASE_MS, tasks=[TaskRow(started_at_ms=BASE_MS, spent_ms=BASE_MS)] * 10_000)
    ledgers: Any = {0: PageStore({f"a{number:02}".encode(): encode_row(row) for number in range(40)})}
    objects, is_complete = list_objects(ledgers, 1_000)
    assert 0 < len(objects) < 20
    assert not is_complete


@pytest.fixture
def windows() -> Any:
    """Return windows of two partitions: ten 10 s windows in both, one of a minute in one of them, and totals."""
    starts = [BASE_MS // WINDOW_MS * WINDOW_MS - number * WINDOW_MS for number in range(10)]
    keys = [WindowKey(WINDOW_MS, start_ms, "default") for start_ms in starts]
    row = encode_counts(Counts(tasks_started=1))
    total = encode_window_key(WindowKey(TOTAL_SIZE_MS, 0, "default"))
    rows = {encode_window_key(key): row for key in keys} | {total: encode_counts(Counts(tasks_created=3, dead_now=3))}
    minute = encode_window_key(WindowKey(60_000, 60_000, "mail"))
    return {0: PageStore(rows), 1: PageStore({**rows, minute: row})}


@pytest.mark.parametrize("max_rows", [1, 4, 10, 11, 100])
def test_windows_are_listed_newest_first(windows, max_rows):
    """Each once, added up over the worker's partitions; totals are no windows; a list that was cut says so."""
    listed, is_complete = list_windows(windows, max_rows)
    assert min(max_rows, 11) == len(listed)
    assert (max_rows >= 11) == is_complete
    assert sorted((one["end_ms"] for one in listed), reverse=True) == [one["end_ms"] for one in listed]
    assert ([2] * 10 + [1])[:max_rows] == [one["tasks_started"] for one in listed]


def test_totals_add_up_over_the_partitions_with_their_audit(windows):
    """States are there, percentiles too, and whether the law holds."""
    told = totals_of(windows)["default"]
    assert (6, 6, True) == (told["tasks_created"], told["tasks_dead"], told["audit"]["holds"])
    assert "p95" in told["queue_wait_ms"]


ABOUT = {"worker": "<b>", "partitions": [0, 3]}


def test_html_says_what_the_json_says(windows):
    """A table of plain values and one for each list, with percentiles, and instants that people can read."""
    listed, is_complete = list_windows(windows, 3)
    told = {"totals": totals_of(windows), "windows": listed, "is_complete": is_complete}
    html = render_page("windows", ABOUT | told)
    facts, totals, rows = 3, 1 + 1, 1 + 3
    assert facts + totals + rows == html.count("<tr>")
    for text in ("queue_wait p95", "audit holds", "<td>no</td>", "<td>0, 3</td>", "UTC"):
        assert text in html, text


def test_html_shows_whatever_is_in_a_row_as_text():
    """Names, ids and errors are anybody's text: none of it becomes markup, in a link neither."""
    bad = "<script>alert(1)</script>"
    told = {"error": bad, "objects": [{"id": f'"{bad}', "kind": bad}], "tasks": [{"error": f'"{bad}'}]}
    html = render_page(bad, ABOUT | told)
    assert "<script" not in html
    assert 'href="/ledger/%22%3Cscript' in html


class FakeWorker:
    """A worker's app as far as its pages look at it: tables, names, and the routes that were registered."""

    worker_name = "statistics-1"
    options = SimpleNamespace(namespace="")

    def __init__(self, **stores: Any) -> None:
        self.tables = {name: SimpleNamespace(stores=one) for name, one in stores.items()}
        self.routes: dict[str, Any] = {}

    def page(self, path: str) -> Any:
        """Keep a page's function under its path."""
        return lambda function: self.routes.setdefault(path, function)

    async def get(self, path: str, accept: str = "application/json", **parts: str) -> tuple[str, Any, int, Any]:
        """Return how a page answers: format, body, status, headers."""
        as_json = lambda body, status, headers: ("json", body, status, headers)  # noqa: E731
        as_html = lambda body, status, headers: ("html", body, status, headers)  # noqa: E731
        web = SimpleNamespace(json=as_json, html=as_html)
        return await self.routes[path](web, SimpleNamespace(headers={"Accept": accept}), **parts)


@pytest.fixture
def worker(ledgers, windows) -> FakeWorker:
    """Return a worker with its pages."""
    fake = FakeWorker(ledger=ledgers, results=NO_RESULTS, windows=windows)
    register_pages(fake)
    return fake


@pytest.mark.parametrize(("path", "name", "count"), [("/windows/", "windows", 11), ("/ledger/", "objects", 11)])
async def test_pages_show_what_this_worker_has(worker, path, name, count):
    """As JSON with the worker's partitions; as HTML for a browser; caches keep the two apart."""
    form, told, status, headers = await worker.get(path)
    assert ("json", 200, {"Vary": "Accept"}) == (form, status, headers)
    assert ("statistics-1", [2, 5], count, True) == (
        told["worker"],
        told["partitions"],
        len(told[name]),
        told["is_complete"],
    )
    form, html, status, headers = await worker.get(path, "text/html,*/*")
    assert ("html", 200, {"Vary": "Accept"}) == (form, status, headers)
    assert f"<caption>{name}</caption>" in html


async def test_object_of_another_worker_is_not_found_here(worker):
    """The answer says where else to ask."""
    assert 200 == (await worker.get("/ledger/{object_id}/", object_id="b3"))[2]
    _, told, status, _ = await worker.get("/ledger/{object_id}/", object_id="other")
    assert (404, [2, 5]) == (status, told["partitions"])
    assert "ask the other statistics workers, or the API" in told["error"]
