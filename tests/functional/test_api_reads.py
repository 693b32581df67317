"""GET of objects, tasks, totals and windows, from the read view."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from fake_steps import no_rows
from histories import made_fact
from plain_names import OBJECTS, WORKERS

from api.objects import schemas
from api.statistics import schemas as statistics_schemas
from api.view.view import Progress
from app.events import (
    ObjectCreated,
    TaskFinished,
    TaskStarted,
    object_created_id,
    task_id_of,
)
from app.rules.counts import HOUR_MS, MINUTE_MS, TOTAL_SIZE_MS, WINDOW_MS, Counts, WindowKey
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally
from app.rules.worker_heartbeats import Heartbeat, RunningTask

START_MS = 1_795_489_270_000
NOW_MS = 1_795_489_276_303
NAMES = [
    "objects_created",
    "objects_finished",
    "tasks_created",
    "tasks_started",
    "tasks_in_progress",
    "tasks_finished",
    "time_spent_ms",
]


def created(object_id: str = "a1", **changes) -> ObjectCreated:
    """Return an object as an outside producer writes it."""
    fields = {"object_id": object_id, "name": "n", "content": "c", "at_ms": START_MS}
    return ObjectCreated(id=object_created_id(object_id), **(fields | changes))


def row_of(event: ObjectCreated, finished: int, result: bytes = b"null", results: Results | None = None) -> ObjectRow:
    """Return the ledger row of an object of two tasks, of which `finished` are done and the others under way."""
    row, tally = ObjectRow(), Tally()
    apply_object_created(row, event, tally)
    for sequence in range(2):
        common = (event.object_id, task_id_of(event.object_id, sequence), 0, event.kind, sequence, 2, 1)
        apply_task_event(row, made_fact("c", *common, START_MS + 10), tally)
        apply_task_event(row, TaskStarted("s", *common, START_MS + 30, "w", 20), tally)
        if sequence < finished:
            outcome = msgspec.Raw(result)
            apply_task_event(row, TaskFinished("f", *common, START_MS + 90, "w", 20, 60, outcome), tally, results)
    return row


def test_object_is_described_from_its_record_and_its_ledger_row(api):
    """State, tasks done of total and times come from the ledger, name and content from the object itself."""
    event = created()
    api.topics.write_object(event)
    api.topics.write_row("a1", row_of(event, finished=1))
    answer = api.get("/api/objects/a1")
    described = msgspec.convert(answer.json(), schemas.ObjectDetail)
    assert 200 == answer.status_code
    assert ("n", "c", "PROCESSING", 2, 1) == (
        described.name,
        described.content,
        described.state,
        described.tasks_total,
        described.tasks_done,
    )
    assert (START_MS, START_MS + 10, None) == (
        described.created_at_ms,
        described.distributed_at_ms,
        described.finished_at_ms,
    )
    assert answer.json() == api.get("/objects/a1").json()


def test_object_nobody_has_counted_yet_is_created(api):
    """Without a ledger row the record alone tells: state CREATED, nothing done."""
    answer = api.post(json={"name": "n", "tasks": 4})
    described = api.get(answer.headers["location"]).json()
    assert ("n", "CREATED", 4, 0) == (
        described["name"],
        described["state"],
        described["tasks_total"],
        described["tasks_done"],
    )


def test_object_whose_record_is_gone_is_still_described(api):
    """Retention took the record: the ledger row answers, name and content are null."""
    api.topics.write_row("a1", row_of(created(), finished=2))
    described = api.get("/api/objects/a1").json()
    assert (None, None, "FINISHED", START_MS + 90) == (
        described["name"],
        described["content"],
        described["state"],
        described["finished_at_ms"],
    )


def test_tasks_are_listed_with_their_results(api):
    """Each task has its state, times and the JSON that its handler returned, not a string of it."""
    event = created()
    api.topics.write_object(event)
    results = Results(no_rows)
    row = row_of(event, finished=1, result=b'{"pages":[1,2]}', results=results)
    api.topics.write_row("a1", row, results=results)
    listed = msgspec.convert(api.get("/api/objects/a1/tasks").json(), schemas.TaskPage)
    assert [("a1-0", "FINISHED", {"pages": [1, 2]}), ("a1-1", "IN_PROGRESS", None)] == [
        (task.id, task.state, task.result) for task in listed.tasks
    ]
    assert (20, 60, START_MS + 90) == (listed.tasks[0].wait_ms, listed.tasks[0].spent_ms, listed.tasks[0].ended_at_ms)


def test_page_of_tasks_ends_early_where_results_are_large(api):
    """A thousand tasks may have returned a gigabyte: each page has some 4 MiB and names the next."""
    event = created(task_count=12)
    row, results = ObjectRow(), Results(no_rows)
    large = msgspec.Raw(b'"' + b"r" * 1_000_000 + b'"')
    for sequence in range(12):
        common = ("a1", task_id_of("a1", sequence), 0, "default", sequence, 12, 1)
        apply_task_event(row, TaskFinished("f", *common, START_MS, "w", 0, 0, large), Tally(), results)
    api.topics.write_object(event)
    api.topics.write_row("a1", row, results=results)
    path: str | None = "/api/objects/a1/tasks?limit=1000"
    sizes = []
    sequences = []
    while path is not None:
        answer = api.get(path)
        sizes.append(len(answer.content))
        page = answer.json()
        sequences += [task["sequence"] for task in page["tasks"] if len(task["result"]) == 1_000_000]
        path = page["links"]["next"]
    assert list(range(12)) == sequences
    assert max(sizes) < 6_000_000


def test_result_that_the_view_has_not_read_yet_is_waited_for(make_api):
    """The ledger's row and the result's come from two topics: FINISHED is never shown with a result of null."""
    api = make_api(view_wait_s=30)
    event = created()
    api.topics.write_object(event)
    results = Results(no_rows)
    row = row_of(event, finished=2, result=b"7", results=results)
    api.topics.write_row("a1", row)
    api.topics.deliver_at_once = False
    api.topics.write_row("a1", row, results=results)

    async def scenario():
        reading = asyncio.create_task(api.client.get("/api/objects/a1/tasks"))
        await asyncio.wait([reading], timeout=0.01)
        assert not reading.done()
        api.topics.deliver()
        return await reading

    assert [7, 7] == [task["result"] for task in api.run(scenario()).json()["tasks"]]


def test_tasks_come_page_by_page(api):
    """1,000 tasks are asked for piece by piece, and by state; a page names the next one."""
    event = created(task_count=1_000)
    row = ObjectRow()
    for sequence in range(1_000):
        common = ("a1", task_id_of("a1", sequence), 0, "default", sequence, 1_000, 1)
        apply_task_event(row, made_fact("c", *common, START_MS), Tally())
        if sequence % 100 == 7:
            apply_task_event(row, TaskStarted("s", *common, START_MS, "w", 0), Tally())
    api.topics.write_object(event)
    api.topics.write_row("a1", row)

    def read(path: str) -> tuple[list[int], str | None]:
        page = msgspec.convert(api.get(path).json(), schemas.TaskPage)
        return [task.sequence for task in page.tasks], page.links.next

    sequences, following = read("/api/objects/a1/tasks?limit=400")
    while following is not None:
        more, following = read(following)
        sequences += more
    assert list(range(1_000)) == sequences
    assert (list(range(100)), "/api/objects/a1/tasks?cursor=100") == read("/api/objects/a1/tasks")
    found, following = read("/api/objects/a1/tasks?state=IN_PROGRESS&limit=6")
    assert ([7, 107, 207, 307, 407, 507], [607, 707, 807, 907]) == (found, read(following)[0])


def test_running_task_has_the_progress_that_its_worker_reported(api):
    """What a worker's last heartbeat says of a task is shown with it, of other tasks nothing."""
    api.topics.write_object(created())
    api.topics.write_row("a1", row_of(created(), finished=1))
    figures = {"running": [RunningTask("a1-1", 5, 0.4, "page 2"), RunningTask("a1-x", 1), RunningTask("b1-0", 1, 0.9)]}
    beat = Heartbeat("w-1", "processing", NOW_MS, 0, **figures)
    api.topics.write(WORKERS, 0, b"processing/w-1", msgspec.json.encode(beat))
    tasks = api.get("/api/objects/a1/tasks").json()["tasks"]
    assert [(None, None, None), (0.4, "page 2", "w-1")] == [
        (task["progress"], task["message"], task["worker"]) for task in tasks
    ]


def test_longer_windows_hold_what_is_merged_and_what_will_be(api):
    """A minute and an hour have the shorter windows in them, of all partitions; each kind is its own, newest first."""
    hour_ms = START_MS - START_MS % HOUR_MS
    for start_ms in (hour_ms, hour_ms + 50_000, hour_ms + 60_000):
        for partition in (0, 3):
            counts = Counts(tasks_created=1, spent_ms=5, spent_histogram={3: 1})
            api.topics.write_window(WindowKey(WINDOW_MS, start_ms, "mail"), counts, partition)
    api.topics.write_window(WindowKey(MINUTE_MS, hour_ms, "mail"), Counts(tasks_created=10))
    api.topics.write_window(WindowKey(MINUTE_MS, hour_ms - MINUTE_MS, "other"), Counts(tasks_created=100))
    api.topics.write_window(WindowKey(HOUR_MS, hour_ms - HOUR_MS, "mail"), Counts(tasks_created=1_000))

    def read(query: str) -> list[tuple[int, str, int]]:
        answer = api.get(f"/api/statistics/windows?{query}")
        windows = msgspec.convert(answer.json(), statistics_schemas.WindowList).windows
        assert all(window.end_ms - window.start_ms == window.size_s * 1_000 for window in windows)
        return [((window.start_ms - hour_ms) // 60_000, window.kind, window.tasks_created) for window in windows]

    minutes = [(1, "mail", 2), (0, "mail", 14), (-1, "other", 100)]
    assert minutes == read("size=60")
    assert minutes[:2] == read("size=60&kind=mail")
    assert minutes[:1] == read("size=60&limit=1")
    assert [(0, "mail", 16), (-60, "other", 100), (-60, "mail", 1_000)] == read("size=3600")


def test_longer_windows_are_read_in_turns(api):
    """More rows than one turn takes: none is lost or counted twice."""
    start_ms = START_MS - START_MS % HOUR_MS
    for step in range(360):
        for partition in (0, 1, 2):
            key = WindowKey(WINDOW_MS, start_ms + step * WINDOW_MS, "mail")
            api.topics.write_window(key, Counts(tasks_created=1), partition)
    answer = api.get("/api/statistics/windows?size=60").json()["windows"]
    assert [18] * 60 == [window["tasks_created"] for window in answer]
    (hour,) = api.get("/api/statistics/windows?size=3600").json()["windows"]
    assert 1_080 == hour["tasks_created"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "cursor=x", "cursor=-1", "state=DONE"])
def test_wrong_task_query_is_a_422(api, query):
    """The wrong parameter is named."""
    answer = api.get(f"/api/objects/{api.post().json()['id']}/tasks?{query}")
    assert (422, query.split("=")[0]) == (answer.status_code, answer.json()["errors"][0]["parameter"])


@pytest.mark.parametrize(
    "path",
    [
        "/api/objects",
        "/api/objects/{id}",
        "/api/objects/{id}/tasks",
        "/api/objects/{id}/events",
        "/api/workers",
        "/api/statistics",
        "/api/statistics/windows",
        "/api/dead-letters",
        "/api/objects/unknown",
        "/livez",
    ],
)
def test_every_answer_says_how_far_behind_the_view_is(api, path):
    """The headers are there on every answer, errors among them; bodies that come from the view say the same."""
    object_id = api.post().json()["id"]
    api.view.note_progress(Progress(7, NOW_MS - 250, NOW_MS - 20), api.view.offsets())
    answer = api.get(path.format(id=object_id))
    assert ("7", "250") == (answer.headers["ebs-view-lag-records"], answer.headers["ebs-view-lag-ms"])
    if answer.status_code == 200 and path != "/livez":
        assert {"lag_records": 7, "lag_ms": 250, "as_of_ms": NOW_MS - 250} == answer.json()["view"]


def test_view_that_does_not_know_how_far_behind_it_is_says_nothing(make_api):
    """Before the broker was there nobody knows."""
    headers = make_api(attached=False).get("/api/statistics").headers
    assert not [name for name in headers if name.startswith("ebs-view")]


def test_tasks_of_an_object_that_is_not_distributed_yet(api):
    """An object without tasks is not an error."""
    object_id = api.post().json()["id"]
    page = msgspec.convert(api.get(f"/objects/{object_id}/tasks").json(), schemas.TaskPage)
    assert (object_id, "CREATED", [], None) == (page.object_id, page.state, page.tasks, page.next_cursor)


@pytest.mark.parametrize("path", ["/api/objects/unknown", "/objects/unknown/tasks", "/api/objects/%00%ff"])
def test_unknown_object_is_a_404(api, path):
    """An id that nobody wrote is 404, once the view has read all that there is."""
    answer = api.get(path)
    assert (404, "urn:ebs:problem:not-found") == (answer.status_code, answer.json()["type"])


def test_removed_object_is_a_404(api):
    """The ledger row's tombstone removes the object, record and all."""
    event = created()
    api.topics.write_object(event)
    api.topics.write_row("a1", row_of(event, finished=2))
    api.topics.write_row("a1", None)
    assert 404 == api.get("/api/objects/a1").status_code


def test_get_after_post_waits_for_the_view(make_api):
    """A view that is behind makes the GET wait, not say 404."""
    api = make_api(view_wait_s=30)
    api.topics.deliver_at_once = False
    location = api.post().headers["location"]

    async def scenario():
        reading = asyncio.create_task(api.client.get(location))
        while reading not in (await asyncio.wait([reading], timeout=0.01))[0]:
            api.topics.deliver()
        return await reading

    assert 200 == api.run(scenario()).status_code


def test_object_of_another_process_is_waited_for_too(make_api):
    """What another API process wrote is waited for as well: the broker says where the topic ends."""
    api = make_api(view_wait_s=30)
    api.topics.deliver_at_once = False
    api.topics.write_object(created())

    async def scenario():
        reading = asyncio.create_task(api.client.get("/api/objects/a1"))
        await asyncio.wait([reading], timeout=0.01)
        assert not reading.done()
        api.topics.deliver()
        return await reading

    assert 200 == api.run(scenario()).status_code


def test_view_that_stays_behind_is_a_503_not_a_404(api):
    """When the view does not catch up in time nobody knows whether the object exists."""
    api.topics.deliver_at_once = False
    answer = api.get(api.post().headers["location"])
    assert (503, "urn:ebs:problem:view-behind") == (answer.status_code, answer.json()["type"])
    assert "retry-after" in answer.headers


def test_broker_away_makes_an_unknown_object_a_503(api):
    """Nobody can say how far the topic goes; what the view has is still answered."""
    object_id = api.post().json()["id"]
    api.topics.failure = RuntimeError("away")
    assert 503 == api.get("/api/objects/unknown").status_code
    assert 200 == api.get(f"/api/objects/{object_id}").status_code


@pytest.mark.parametrize("path", ["/objects/a1", "/objects/a1/tasks", "/api/statistics", "/api/statistics/windows"])
def test_without_a_view_reads_are_a_503(make_api, path):
    """Before the broker was there once, nothing can be read."""
    answer = make_api(attached=False).get(path)
    assert (503, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


def test_totals_add_up_partitions_and_kinds(api):
    """A kind's total is the sum over partitions, the top level the sum over kinds; the names are the promised ones."""
    total = WindowKey(TOTAL_SIZE_MS, 0, "default")
    api.topics.write_window(total, Counts(objects_created=2, tasks_created=6, queued_now=6), partition=0)
    api.topics.write_window(total, Counts(objects_created=1, tasks_created=3, queued_now=1), partition=1)
    api.topics.write_window(
        total, Counts(objects_created=1, tasks_created=3, tasks_finished=2, spent_ms=10, finished_now=3), partition=1
    )
    api.topics.write_window(total._replace(kind="mail"), Counts(objects_created=5, tasks_started=1, in_progress_now=1))
    answer = api.get("/api/statistics").json()
    statistics = msgspec.convert(answer, statistics_schemas.StatisticsAnswer)
    assert (8, 9, 2, 1, 10) == (
        statistics.objects_created,
        statistics.tasks_created,
        statistics.tasks_finished,
        statistics.tasks_in_progress,
        statistics.time_spent_ms,
    )
    assert (1, {"default": 0, "mail": -1}) == (
        statistics.imbalance,
        {kind: figures.imbalance for kind, figures in statistics.kinds.items()},
    )
    assert 3 == statistics.kinds["default"].objects_created
    assert 0 == statistics.view.lag_records
    assert set(NAMES) <= answer.keys()


def test_totals_of_nothing_are_zero(api):
    """A system that has not done anything answers with zeros."""
    answer = api.get("/statistics").json()
    assert [0] * len(NAMES) == [answer[name] for name in NAMES]
    assert {} == answer["kinds"]


def test_windows_are_newest_first_and_filtered(api):
    """Windows come by start, newest first, each kind its own; `kind` and `limit` narrow them, totals are none."""
    for step in range(3):
        for kind in ("mail", "mail.b"):
            key = WindowKey(WINDOW_MS, START_MS + step * WINDOW_MS, kind)
            api.topics.write_window(key, Counts(tasks_created=step), partition=0)
            api.topics.write_window(key, Counts(tasks_created=10), partition=3)
    api.topics.write_window(WindowKey(TOTAL_SIZE_MS, 0, "mail"), Counts(tasks_created=33))

    def read(query: str = "") -> list[tuple[int, str, int]]:
        windows = msgspec.convert(
            api.get(f"/api/statistics/windows{query}").json(), statistics_schemas.WindowList
        ).windows
        assert {(WINDOW_MS, 10)} >= {(window.end_ms - window.start_ms, window.size_s) for window in windows}
        return [((window.start_ms - START_MS) // WINDOW_MS, window.kind, window.tasks_created) for window in windows]

    everything = [(step, kind, 10 + step) for step in (2, 1, 0) for kind in ("mail.b", "mail")]
    assert everything == read()
    assert everything[:3] == read("?limit=3")
    assert [window for window in everything if window[1] == "mail"] == read("?kind=mail&size=10")
    assert [] == read("?kind=other")


def test_expired_window_is_gone(api):
    """A tombstone in every partition removes a window."""
    key = WindowKey(WINDOW_MS, START_MS, "mail")
    for counts in (Counts(tasks_created=1), None):
        for partition in (0, 1):
            api.topics.write_window(key, counts, partition)
    assert [] == api.get("/api/statistics/windows").json()["windows"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "size=7", "size=x", "kind=a%20b", "kind="])
def test_wrong_window_query_is_a_422(api, query):
    """The wrong parameter is named."""
    answer = api.get(f"/api/statistics/windows?{query}")
    assert (422, [query.split("=")[0]]) == (
        answer.status_code,
        [error["parameter"] for error in answer.json()["errors"]],
    )


@pytest.mark.parametrize("value", [b"no json", b'{"type":"OBJECT_CREATED"}', None])
def test_record_that_is_no_object_is_passed_over(api, value):
    """Garbage on the topic neither stops the view nor becomes an object."""
    api.topics.write(OBJECTS, 0, b"a1", value)
    api.topics.write_object(created("a2"))
    assert [404, 200] == [api.get(f"/api/objects/{object_id}").status_code for object_id in ("a1", "a2")]
