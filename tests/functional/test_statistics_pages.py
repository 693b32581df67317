"""A statistics worker's pages: lists page by page, HTML that cannot be broken into, and who else is asked."""

from __future__ import annotations

import re
import socket
from typing import Any

import msgspec
import pytest
from fake_steps import FakeStore, no_rows
from histories import BASE_MS, object_created, task_event

from agents.counting.colleagues import Colleagues
from agents.counting.listing import list_objects, list_windows, show_object, totals_of
from agents.counting.page_html import render
from app.events import TaskCreated, TaskFailed, TaskFinished, TaskStarted
from app.rules.counts import TOTAL_SIZE_MS, WINDOW_MS, Counts, WindowKey, encode_counts, encode_window_key
from app.rules.ledger import ObjectRow, TaskRow, apply_object_created, apply_task_event, encode_row
from app.rules.results import Results
from app.rules.tally import Tally
from app.rules.worker_heartbeats import WorkerFigures, WorkerIdentity, heartbeat_of

NOW_MS = 1_795_489_276_303


class PageStore(FakeStore):
    """A store that iterates as rocksdb does."""

    def items(self, from_key: bytes | None = None) -> Any:
        """Iterate over rows in key order."""
        return iter(sorted((key, value) for key, value in self.rows.items() if key >= (from_key or b"")))


NO_RESULTS: Any = {2: PageStore(), 5: PageStore()}


def finished_row() -> bytes:
    """Return the row of an object with one finished task."""
    row = ObjectRow()
    apply_object_created(row, object_created("x", at_ms=BASE_MS), Tally())
    for kind in (TaskCreated, TaskStarted, TaskFinished):
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


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 11, 12])
def test_objects_come_page_by_page_each_once(ledgers, limit):
    """In order of partition and id, whatever the size of a page; the last page has no next."""
    ids: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = list_objects(ledgers, cursor, limit)
        assert 0 < len(page.items) <= limit
        ids += [one["id"] for one in page.items]
        cursor = page.next_cursor
    assert [f"a{number}" for number in range(5)] + [f"b{number}" for number in range(6)] == ids


def test_object_is_shown_with_its_tasks(ledgers):
    """From whichever partition has it; None where none has."""
    found = show_object(ledgers, NO_RESULTS, "b3", 0, 100)
    assert found is not None
    told, next_cursor = found
    assert next_cursor is None
    assert (5, "b3", "FINISHED", 1) == (told["partition"], told["id"], told["state"], len(told["tasks"]))
    assert show_object(ledgers, NO_RESULTS, "b9", 0, 100) is None


def test_tasks_of_an_object_come_page_by_page_with_their_errors():
    """Ten thousand tasks are no page; errors stand in rows of their own."""
    row, results = ObjectRow(), Results(no_rows)
    for sequence in range(25):
        event = task_event(TaskFailed, "a", sequence, at_ms=BASE_MS, task_count=25, error=f"no {sequence}")
        apply_task_event(row, event, Tally(), results)
    ledgers: Any = {3: PageStore({b"a": encode_row(row)})}
    stores: Any = {3: PageStore(dict(results.changed()))}
    errors: list[str] = []
    cursor: str | None = "0"
    while cursor is not None:
        found = show_object(ledgers, stores, "a", int(cursor), 10)
        assert found is not None
        assert len(found[0]["tasks"]) <= 10
        errors += [task["error"] for task in found[0]["tasks"]]
        cursor = found[1]
    assert [f"no {sequence}" for sequence in range(25)] == errors


def test_page_of_objects_ends_early_where_rows_are_large():
    """A row may have ten thousand tasks: decoding a thousand of those would stop the agent for seconds."""
    row = ObjectRow("default", 10_000, BASE_MS, tasks=[TaskRow(started_at_ms=BASE_MS, spent_ms=BASE_MS)] * 10_000)
    ledgers: Any = {0: PageStore({f"a{number:02}".encode(): encode_row(row) for number in range(40)})}
    pages = [list_objects(ledgers, "", 1_000)]
    while (cursor := pages[-1].next_cursor) is not None:
        pages.append(list_objects(ledgers, cursor, 1_000))
    assert [f"a{number:02}" for number in range(40)] == [one["id"] for page in pages for one in page.items]
    assert max(len(page.items) for page in pages) < 20


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


@pytest.mark.parametrize("limit", [1, 4, 10, 11, 100])
def test_windows_come_newest_first_page_by_page(windows, limit):
    """Each once, added up over the worker's partitions; totals are no windows."""
    listed: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = list_windows(windows, cursor, limit)
        listed += page.items
        cursor = page.next_cursor
    assert 11 == len(listed)
    assert sorted((one["end_ms"] for one in listed), reverse=True) == [one["end_ms"] for one in listed]
    assert [2] * 10 + [1] == [one["tasks_started"] for one in listed]
    assert (60, "mail") == (listed[-1]["size_s"], listed[-1]["kind"])


def test_totals_add_up_over_the_partitions_with_their_audit(windows):
    """States are there, percentiles too, and whether the law holds."""
    told = totals_of(windows)["default"]
    assert (6, 6, True) == (told["tasks_created"], told["tasks_dead"], told["audit"]["holds"])
    assert "p95" in told["queue_wait_ms"]


@pytest.mark.parametrize("cursor", ["x", "zz.zz", "1.x", "-"])
def test_cursor_that_is_none_is_an_error(ledgers, windows, cursor):
    """The page says so with 422; nothing is guessed."""
    with pytest.raises(ValueError):  # noqa: PT011  # whatever its words
        list_windows(windows, cursor, 5)
    with pytest.raises(ValueError):  # noqa: PT011  # whatever its words
        list_objects(ledgers, cursor, 5)


ABOUT = {
    "worker": "<b>",
    "partitions": [0],
    "others": [
        {"worker": "w2", "partitions": [1, 2], "url": "http://h:1/windows/"},
        {"worker": "w3", "partitions": [3], "url": None},
    ],
    "missing_partitions": [4],
}


def test_html_says_what_the_json_says(windows):
    """Tables with percentiles, links to the others and to the next page, instants that people can read."""
    page = list_windows(windows, "", 3)
    told = {"totals": totals_of(windows), "windows": page.items, "next": "/windows/?cursor=1"}
    html = render("windows", ABOUT | told)
    assert 3 + 1 + 1 + 1 == html.count("<tr>")
    for text in ("queue_wait p95", "audit holds", 'href="http://h:1/windows/"', "next page", "UTC", "w3: partitions 3"):
        assert text in html, text
    assert "nobody yet" in html


def test_html_shows_whatever_stands_in_a_row_as_text():
    """Names, ids and errors are anybody's text: none of it becomes markup."""
    bad = "<script>alert(1)</script>"
    told = {"error": bad, "objects": [{"id": bad, "kind": bad}], "tasks": [{"error": f'"{bad}'}], "url": f'"{bad}'}
    html = render(bad, ABOUT | told)
    assert "<script" not in html
    assert not re.search(r'href="[^"]*<', html)


def heard(worker: str, role: str = "statistics", *, host: str = "far", web_port: int = 6070) -> bytes:
    """Return a heartbeat."""
    identity = WorkerIdentity(worker, role, "0.1.0", host, 1, NOW_MS, web_port)
    return heartbeat_of(identity, WorkerFigures(partitions=[1, 2]), NOW_MS)


def test_colleagues_are_the_other_statistics_workers_that_live():
    """Not this worker, no other role, nobody who stopped or fell silent."""
    colleagues = Colleagues("me", "workers", lambda: NOW_MS)
    colleagues.hear(b"statistics/me", heard("me"), NOW_MS)
    colleagues.hear(b"processing/p", heard("p", "processing"), NOW_MS)
    colleagues.hear(b"statistics/old", heard("old"), NOW_MS - 60_000)
    colleagues.hear(b"statistics/gone", heard("gone"), NOW_MS)
    colleagues.hear(b"statistics/gone", None, NOW_MS)
    colleagues.hear(b"statistics/odd", b"odd", NOW_MS)
    colleagues.hear(None, heard("nameless"), NOW_MS)
    colleagues.hear(b"statistics/other", heard("other"), NOW_MS)
    assert [("other", [1, 2], "http://far:6070")] == [tuple(one) for one in colleagues.alive("localhost")]


def test_colleague_on_this_machine_is_reached_as_this_worker_was():
    """Its host name may mean nothing to who asks; one that tells no port has no link."""
    colleagues = Colleagues("me", "workers", lambda: NOW_MS)
    colleagues.hear(b"a", heard("a", host=socket.gethostname()), NOW_MS)
    colleagues.hear(b"b", heard("b", web_port=0), NOW_MS)
    assert ["http://localhost:6070", None] == [one.url for one in colleagues.alive("localhost")]
    assert "http://[::1]:6070" == colleagues.alive("::1")[0].url


def test_older_heartbeat_has_no_port():
    """A worker of an earlier version is known all the same."""
    value = msgspec.json.decode(heard("a"))
    del value["web_port"]
    colleagues = Colleagues("me", "workers", lambda: NOW_MS)
    colleagues.hear(b"a", msgspec.json.encode(value), NOW_MS)
    assert [("a", None)] == [(one.worker, one.url) for one in colleagues.alive("h")]
