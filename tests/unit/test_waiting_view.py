"""Waiting tasks in the view: order, pages, counts, tombstones, restarts, odd rows; without Kafka and without HTTP."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
import pytest
from engine_bench import request
from view_records import Record

from api.view.store import Layout, Slot
from api.view.view import View
from api.view.waiting_rows import WaitingRows
from api.view.waiting_tasks import WaitingGroup, parse_position, position_text
from app.events import decode_task_request, encode
from app.names import BARE, PROCESSING, WAITING_TABLE
from app.rules.counts import OTHERS
from app.rules.waiting_rows import STARTED_VALUE, WaitingRow, encode_row, key_in_line, line_of, start_key, timed_key
from app.rules.waiting_summaries import WaitingFilter
from ebs.queues import DEFAULT_QUEUE, MAX_QUEUE_CHARS
from ebs.task import MAX_KEY_CHARS

NOW_MS = 1_795_489_276_303
ALL = WaitingFilter()


class Changelog:
    """The changelog of the table, and a view that reads it."""

    def __init__(self, view: View, queue: str = DEFAULT_QUEUE) -> None:
        self.view = view
        self.name = BARE.changelog(PROCESSING, WAITING_TABLE, queue)
        self.ends: dict[int, int] = {}

    def write(self, *rows: tuple[bytes, bytes | None], partition: int = 0) -> None:
        """Let the view read some records in one go."""
        start = self.ends.get(partition, 0)
        records = [Record(start + number, *row) for number, row in enumerate(rows)]
        self.ends[partition] = start + len(rows)
        self.view.apply({(self.name, partition): records})


def row(
    name: str, in_s: float, *, offset: int = 0, attempt: int = 1, kind: str = "mail", error: str = ""
) -> tuple[bytes, bytes]:
    """Return the row of an object's only task."""
    task = decode_task_request(request(name, attempt=attempt, kind=kind))
    value = encode_row(WaitingRow(NOW_MS, name.encode(), encode(task), [], NOW_MS - 5, error))
    return timed_key(NOW_MS + round(in_s * 1_000), offset, attempt), value


def read(page: Any) -> Any:
    """Wait for an answer."""
    return asyncio.run(page)


def ids(view: View, limit: int = 50, **wanted: Any) -> list[str]:
    """Return the tasks of all pages."""
    found: list[str] = []
    after = None
    while True:
        tasks, after = read(view.waiting.page(WaitingFilter(**wanted), limit, after))
        assert len(tasks) <= limit
        found += [one.task.task_id for one in tasks]
        if after is None:
            return found
        assert parse_position(position_text(after)) == after


@pytest.fixture
def view(tmp_path):
    """Return a view with an empty store."""
    slot, view = Slot(tmp_path), View(0)
    view.attach(slot.open(Layout("c", {})), None)
    yield view
    view.detach()
    slot.close()


@pytest.fixture
def changelog(view):
    """Return the changelog that the view reads."""
    return Changelog(view)


@pytest.mark.parametrize("limit", [1, 2, 50])
def test_tasks_of_all_partitions_kinds_and_reasons_come_in_the_order_in_which_they_are_due(view, changelog, limit):
    """Page by page, whatever the size of the pages."""
    changelog.write(row("c", 30), row("a", 10, offset=1, kind="other"))
    changelog.write(row("b", 20, attempt=2, error="OSError: no"), row("d", 30, offset=1), partition=1)
    assert ["a-0", "b-0", "c-0", "d-0"] == ids(view, limit)
    assert ["b-0"] == ids(view, limit, reason="retry")
    assert ["a-0"] == ids(view, limit, kind="other")
    assert [] == ids(view, limit, kind="other", reason="retry")
    assert ["c-0"] == ids(view, limit, object_id="c")
    groups = read(view.waiting.groups(ALL))
    assert groups == [
        WaitingGroup("other", "delay", 1, NOW_MS + 10_000),
        WaitingGroup("mail", "retry", 1, NOW_MS + 20_000),
        WaitingGroup("mail", "delay", 2, NOW_MS + 30_000),
    ]
    found = view.waiting.task("b-0")
    assert (found.task.reason, found.task.error, found.task.since_ms) == ("retry", "OSError: no", NOW_MS - 5)
    assert (found.partition, found.row, found.has_started) == (1, row("b", 20, attempt=2)[0], False)


def test_tombstone_takes_a_row_away_and_its_start_with_it(view, changelog):
    """Also one in the fetch that has the row; what was never there is passed over."""
    key, value = row("a", 10)
    changelog.write((key, value), (start_key(key), STARTED_VALUE))
    assert view.waiting.task("a-0").has_started
    changelog.write((key, None), (start_key(key), None), row("b", 1, offset=2), (row("b", 1, offset=2)[0], None))
    changelog.write((row("never", 5)[0], None))
    assert [] == ids(view)
    assert [] == read(view.waiting.groups(ALL))
    assert view.waiting.task("a-0") is None
    assert not any(view._store.oldest_first(b"t", b"t"))


def test_row_that_moves_counts_once(view, changelog):
    """A start deletes a key and puts another in one commit; a row may be read twice after a restart."""
    key, value = row("a", 3_600)
    changelog.write((key, value))
    changelog.write((key, None), (row("a", 0)[0], value))
    changelog.write((row("a", 0)[0], value))
    assert [WaitingGroup("mail", "delay", 1, NOW_MS)] == read(view.waiting.groups(ALL))


def test_counts_survive_a_restart(tmp_path):
    """They are in the store, with the rows."""
    slot, view = Slot(tmp_path), View(0)
    view.attach(slot.open(Layout("c", {})), None)
    Changelog(view).write(row("a", 10), row("b", 20, offset=1))
    view.detach()
    view.attach(slot.open(Layout("c", {})), None)
    assert [WaitingGroup("mail", "delay", 2, NOW_MS + 10_000)] == read(view.waiting.groups(ALL))
    assert ["a-0", "b-0"] == ids(view)
    view.detach()
    slot.close()


def test_rows_of_two_queues_under_one_key_are_two_tasks(tmp_path):
    """Also after a restart with other queues in another order; each tombstone takes the row of its own queue."""
    slot, key = Slot(tmp_path), row("a", 10)[0]
    view = View(0, queues=("default", "gpu"))
    view.attach(slot.open(Layout("c", {})), None)
    Changelog(view).write(row("a", 10))
    Changelog(view, "gpu").write((key, row("b", 10)[1]), (start_key(key), STARTED_VALUE))
    assert ["a-0", "b-0"] == ids(view, 1)
    assert [WaitingGroup("mail", "delay", 2, NOW_MS + 10_000)] == read(view.waiting.groups(ALL))
    found = [view.waiting.task(task_id) for task_id in ("a-0", "b-0")]
    assert [("default", 0, key, False), ("gpu", 0, key, True)] == [one[1:] for one in found]
    view.detach()
    view = View(0, queues=("default", "cpu", "gpu"))
    view.attach(slot.open(Layout("c", {})), None)
    Changelog(view, "cpu").write((key, row("c", 10)[1]))
    assert ["c-0", "a-0", "b-0"] == ids(view, 2)
    Changelog(view, "gpu").write((key, None), (start_key(key), None))
    assert ["c-0", "a-0"] == ids(view)
    Changelog(view).write((key, None))
    Changelog(view, "cpu").write((key, None))
    assert not any(view._store.oldest_first(b"t", b"t"))
    view.detach()
    slot.close()


def test_page_may_end_at_the_longest_row(tmp_path):
    """A row that waits for a key has the key in it: 200 characters of 4 bytes each."""
    slot, queue, kind = Slot(tmp_path), "q" * MAX_QUEUE_CHARS, "\N{GRINNING FACE}" * 64
    view = View(0, queues=("default", queue))
    view.attach(slot.open(Layout("c", {})), None)
    line = line_of(kind, "\N{GRINNING FACE}" * MAX_KEY_CHARS)
    rows = [(key_in_line(line, offset, 1), row(name, 0, kind=kind)[1]) for offset, name in enumerate("abc")]
    Changelog(view, queue).write(*rows)
    assert ["a-0", "b-0", "c-0"] == ids(view, 1)
    view.detach()
    slot.close()


def test_request_that_cannot_be_read_is_left_out(view, changelog):
    """The worker sends it to the dead letters when it is due."""
    changelog.write((timed_key(NOW_MS, 0, 1), encode_row(WaitingRow(NOW_MS, None, b"{}", []))), row("a", 1, offset=1))
    assert ["a-0"] == ids(view)


def test_objects_with_alike_ids_are_told_apart(view, changelog):
    """An object may be called as another one's task."""
    changelog.write(row("a", 10), row("a-0", 20, offset=1), row("a-0-0", 30, offset=2), row("b", 5, offset=3))
    assert ["a-0"] == ids(view, object_id="a")
    assert ["a-0-0"] == ids(view, object_id="a-0")


def test_kinds_beyond_the_limit_share_a_name(view, changelog):
    """A filter still finds them: clients choose kinds freely."""
    view._waiting_rows._max_kinds = 1
    changelog.write(row("a", 10, kind="one"), row("b", 20, offset=1, kind="two"))
    changelog.write(row("c", 5, offset=2, kind="three"))
    assert {"one", OTHERS} == {one.kind for one in read(view.waiting.groups(ALL))}
    assert ["b-0"] == ids(view, 1, kind="two")
    changelog.write((row("b", 20, offset=1)[0], None), (row("c", 5, offset=2)[0], None))
    assert ["a-0"] == ids(view)
    assert {"one"} == {one.kind for one in read(view.waiting.groups(ALL))}


def test_any_changes_leave_what_is_there(view, changelog):
    """Rows come and go; counts, order and first due times are those of the rows that are left."""
    draw = random.Random(7)
    left: dict[bytes, tuple[str, int]] = {}
    for number in range(400):
        if left and draw.random() < 0.45:
            key = draw.choice(list(left))
            del left[key]
            changelog.write((key, None))
        else:
            kind, in_s = draw.choice("xy"), draw.randrange(50)
            key, value = row(f"o{number}", in_s, offset=number, kind=kind)
            left[key] = (kind, in_s)
            changelog.write((key, value))
        if number % 20 == 0:
            groups = {one.kind: one for one in read(view.waiting.groups(ALL))}
            for kind in {kind for kind, _ in left.values()}:
                of_kind = [in_s for one, in_s in left.values() if one == kind]
                assert len(of_kind) == groups[kind].waiting_count
                assert NOW_MS + min(of_kind) * 1_000 == groups[kind].next_due_at_ms
            assert len(left) == len(ids(view, 7))


@pytest.mark.parametrize("text", ["", "?", "AAAA", position_text(b"x" * 3_000), "\N{SNOWMAN}"])
def test_other_text_is_no_cursor(text):
    """Whatever a client sends."""
    assert parse_position(text) is None


def test_floor_is_never_above_a_row(view, changelog):
    """After a page was read, a row that is due sooner comes first in the next one."""
    changelog.write(row("a", 100))
    assert ["a-0"] == ids(view)
    changelog.write(row("b", 1, offset=1))
    assert ["b-0", "a-0"] == ids(view)
    assert isinstance(view._waiting_rows, WaitingRows)


def test_content_is_not_kept(view, changelog):
    """A request may be a megabyte: the view has what it shows."""
    task = msgspec.structs.replace(decode_task_request(request("a")), content=msgspec.Raw(b'"' + b"x" * 100_000 + b'"'))
    changelog.write((timed_key(NOW_MS, 0, 1), encode_row(WaitingRow(NOW_MS, None, encode(task), [], 0, "e" * 9))))
    stored = view._store.get(next(view._store.oldest_first(b"tr", b"tr")))
    assert len(stored) < 300
