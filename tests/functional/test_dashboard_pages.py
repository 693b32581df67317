"""Every page of the dashboard without JavaScript: strict HTML, what it shows, what it shows instead."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest
from browsing import browse
from fake_steps import no_rows
from grave import Grave
from histories import made_fact
from plain_names import CONTROL, TASK_EVENTS, WORKERS
from waiting_rows import put_waiting

from api.dashboard.drawing import STATIC
from api.pages import PAGES
from app.errors import BrokerUnavailable
from app.events import (
    ObjectCreated,
    Parent,
    TaskEvent,
    TaskFinished,
    TaskStarted,
    encode,
    object_created_id,
    task_id_of,
)
from app.rules.commands import CommandKey, Family, Pause, encode_command
from app.rules.counts import TOTAL_SIZE_MS, WINDOW_MS, Counts, WindowKey
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally
from app.rules.worker_heartbeats import RunningTask, WorkerFigures, WorkerIdentity, heartbeat_of

NOW_MS = 1_795_489_276_303
EVIL = "<script>alert('x')</script>"


def put_object(
    api,
    object_id: str = "a1",
    *,
    name: str = "report",
    finished: int = 1,
    tasks: int = 2,
    result: bytes = b'{"pages":7}',
) -> None:
    """Write an object with its ledger row: `finished` tasks are done, the others at work."""
    at_ms = NOW_MS - 5_000
    event = ObjectCreated(
        id=object_created_id(object_id),
        object_id=object_id,
        at_ms=at_ms,
        name=name,
        content="content",
        kind="mail",
        task_count=tasks,
    )
    row, tally, results = ObjectRow(), Tally(), Results(no_rows)
    apply_object_created(row, event, tally)
    for sequence in range(tasks):
        common = (object_id, task_id_of(object_id, sequence), 0, "mail", sequence, tasks, 1)
        apply_task_event(row, made_fact("c", *common, at_ms + 10), tally)
        apply_task_event(row, TaskStarted("s", *common, at_ms + 1_010, "w", 1_000), tally)
        if sequence < finished:
            finish = TaskFinished("f", *common, at_ms + 3_010, "w", 1_000, 2_000, msgspec.Raw(result))
            apply_task_event(row, finish, tally, results)
    api.topics.write_object(event)
    api.topics.write_row(object_id, row, results=results)


def put_counts(api, **counts: int) -> None:
    """Write a total and one window of the kind `mail`."""
    for key in (WindowKey(TOTAL_SIZE_MS, 0, "mail"), WindowKey(WINDOW_MS, NOW_MS - NOW_MS % WINDOW_MS, "mail")):
        api.topics.write_window(key, Counts(**counts))


def put_worker(api, worker: str = "p-1", role: str = "processing", **figures) -> None:
    """Write a heartbeat of now."""
    identity = WorkerIdentity(worker, role, "0.1.0", "host", 42, NOW_MS - 60_000)
    value = heartbeat_of(identity, WorkerFigures(**figures), NOW_MS)
    api.topics.write(WORKERS, 0, identity.key(), value, timestamp_ms=NOW_MS)


def put_pause(api, kind: str = "", reason: str = "") -> None:
    """Write a pause."""
    api.topics.write(
        CONTROL, 0, CommandKey(Family.PAUSE, kind).encoded(), encode_command(Pause(NOW_MS - 60_000, reason))
    )


def address_of(page) -> str:
    """Return where a page is, with ids that exist nowhere."""
    return page.path_format.format(object_id="a1", letter_id="0-0", task="0")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_page_is_strict_html_that_fetches_nothing_from_elsewhere(api, page):
    """Strictly parsed; scripts, styles and images of its own only, no inline ones, which the policy forbids too."""
    api.topics.deliver()
    put_object(api)
    Grave(api.topics).bury_task(0, partition=0)
    seen = browse(api, address_of(page))
    assert (200, "text/html; charset=utf-8", "Accept") == (
        seen.status,
        seen.headers["content-type"],
        seen.headers["vary"],
    )
    sources = [one.get("src") or one.get("href") or "" for tag in ("script", "link", "img") for one in seen.all(tag)]
    assert sources
    assert [] == [source for source in sources if not source.startswith("/static/")]
    assert [] == [one for one in seen.tree.iter() if one.get("style") or one.tag == "style"]
    assert [] == [one for one in seen.tree.iter() for name in one.attrib if name.startswith("on")]
    policy = seen.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_page_can_be_found_ones_way_in(api, page):
    """A skip link, one h1, one main, each field with a label, the shown page marked in the navigation."""
    put_object(api)
    Grave(api.topics).bury_task(0, partition=0)
    seen = browse(api, address_of(page))
    labelled = {one.get("for") for one in seen.all("label")}
    fields = [one for tag in ("input", "select", "textarea") for one in seen.all(tag) if one.get("type") != "hidden"]
    assert [] == [one.get("name") for one in fields if one.get("id") not in labelled]
    assert (1, 1, "#main") == (len(seen.all("h1")), len(seen.all("main")), seen.all("a")[0].get("href"))
    ids = [one.get("id") for one in seen.tree.iter() if one.get("id")]
    assert sorted(set(ids)) == sorted(ids)
    assert 1 == len([one for one in seen.all("a") if one.get("aria-current") == "page"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_live_part_is_what_the_page_shows(api, page):
    """The address of the live part is in the page; without a view both say so instead of failing."""
    seen = browse(api, address_of(page))
    live = seen.element("live")
    assert live is not None
    assert f"/live{address_of(page)}" == live.get("data-live")


@pytest.mark.parametrize(
    ("path", "element_id"),
    [
        ("/", "no-objects"),
        ("/objects", "no-objects"),
        ("/objects?state=FAILED", "no-match"),
        ("/statistics/windows", "no-windows"),
        ("/workers", "no-workers"),
        ("/waiting", "no-worker"),
        ("/waiting", "nothing-waits"),
        ("/waiting?kind=mail", "no-match"),
        ("/dead-letters", "no-letters"),
        ("/dead-letters?kind=mail", "no-match"),
    ],
)
def test_nothing_yet_is_drawn(api, path, element_id):
    """A system that has not done anything says so, and what to do."""
    seen = browse(api, path)
    assert (200, True) == (seen.status, bool(seen.text_of(element_id)))


@pytest.mark.parametrize("page", [page for page in PAGES if page.path != "/submit"], ids=lambda page: page.path)
def test_broker_that_was_never_there_is_drawn(make_api, page):
    """503 with Retry-After, the reason, and a reload for browsers without JavaScript."""
    api = make_api(attached=False)
    api.topics.failure = BrokerUnavailable("nobody answers at 127.0.0.1:9092")
    seen = browse(api, address_of(page))
    assert (503, "2") == (seen.status, seen.headers["retry-after"])
    assert "Nobody answers at 127.0.0.1:9092" in seen.text_of("broker-away")
    assert "Not available right now" in seen.text
    assert 'http-equiv="refresh"' in seen.html


def test_broker_away_leaves_the_totals(api):
    """What the view holds is shown, with the hour that it is of."""
    put_counts(api, tasks_created=12, queued_now=12, objects_created=4)
    api.topics.failure = BrokerUnavailable("nobody answers")
    seen = browse(api, "/")
    assert 200 == seen.status
    assert "12 tasks created" in seen.text
    assert "2026-11-24" in seen.text_of("broker-away")
    assert "Not known while the broker is unreachable" in seen.text_of("roles")


@pytest.mark.parametrize("path", ["/objects/nobody", "/dead-letters/9-9", "/nowhere", "/objects/a/b/c"])
def test_unknown_thing_is_a_404_page(api, path):
    """A page that says what is missing and leads back."""
    api.topics.deliver()
    seen = browse(api, path)
    assert 404 == seen.status
    assert "overview" in seen.text.lower()


@pytest.mark.parametrize(
    "path", ["/objects?limit=0", "/objects?cursor=x", "/statistics/windows?size=7", "/dead-letters?state=X"]
)
def test_wrong_query_is_drawn(api, path):
    """422 with what is wrong."""
    seen = browse(api, path)
    assert (422, True) == (seen.status, "Input should be" in seen.text)


def test_overview_tells_states_strips_and_what_holds_it_back(api):
    """Totals, the law, throughput of now, workers, and a pause that nobody can miss."""
    put_counts(
        api, objects_created=4, tasks_created=12, tasks_finished=9, queued_now=2, in_progress_now=1, finished_now=9
    )
    put_worker(api, in_flight=1)
    put_pause(api, reason="maintenance")
    seen = browse(api, "/")
    assert "12 tasks created every task is in exactly one state" in seen.text_of("law")
    (law,) = [one for one in seen.all("svg") if (one.get("aria-label") or "").startswith("Tasks by state")]
    assert "Tasks by state: 2 queued, 1 in progress, 0 waiting for retry, 9 finished, 0 dead, 0 cancelled" == law.get(
        "aria-label"
    )
    assert "all kinds, since 1 min ago (maintenance)" in seen.text_of("paused")
    assert "processing 1 1" in seen.text_of("roles")
    # 9 in the window that runs, 6.303 s old, and none in the 10 s before it.
    assert "0.6 tasks/s finished now" in seen.text_of("throughput")
    assert "2 waiting now" in seen.text_of("queue")


def test_overview_and_control_tell_which_kinds_are_paused_and_why(api):
    """Also where a breaker did it: its reason is shown as text, whatever the error says."""
    put_pause(api, "mail", "breaker of worker w1: 3 of 4 <b>died</b>")
    put_pause(api, "image")
    said = browse(api, "/").text_of("paused")
    assert "image, since 1 min ago" in said
    assert "mail, since 1 min ago (breaker of worker w1: 3 of 4 <b>died</b>)." in said
    assert "breaker of worker w1: 3 of 4 <b>died</b>" in browse(api, "/control").text_of("in-force")


def test_imbalance_is_said(api):
    """A task that is in no state is the audit's news."""
    put_counts(api, tasks_created=3, queued_now=1)
    seen = browse(api, "/")
    assert "2 unaccounted for" in seen.text_of("law")
    assert "Audit: 2 tasks unaccounted for" in seen.text


def test_objects_have_bars_tabs_and_pages(api):
    """Done of all in words for those who do not see the bar; tabs count states; a cursor leads to the older ones."""
    for number in range(51):
        put_object(api, f"a{number}", name=f"report {number}")
    seen = browse(api, "/objects")
    assert "report" in seen.text_of("o-a50")
    bars = [one.get("aria-label") for one in seen.all("svg") if "tasks done" in (one.get("aria-label") or "")]
    assert ["1 of 2 tasks done, 1 in progress"] * 50 == bars
    assert "processing 51" in seen.text
    (older,) = [one for one in seen.all("a") if one.get("rel") == "next"]
    second = browse(api, older.get("href"))
    assert 1 == len([one for one in second.tree.iter() if (one.get("id") or "").startswith("o-")])
    assert "Newest" in second.text


def test_who_submitted_whom_is_a_click_away(api):
    """From the parent to the list of its children, from there to a child, and back."""
    put_object(api, "parent")
    child = ObjectCreated(object_id="child", name="a child", at_ms=1, parent=Parent("parent", "parent-0"), depth=1)
    api.topics.write_object(child)
    (link,) = [one for one in browse(api, "/objects/parent").all("a") if one.text == "1 object"]
    listed = browse(api, link.get("href"))
    assert "a child" in listed.text_of("o-child")
    assert "Submitted by parent" in listed.text_of("parent")
    assert "report" not in listed.text
    links = [one.get("href") for one in browse(api, "/objects/child").all("a") if one.text == "parent-0"]
    assert ["/objects/parent"] == links


def test_object_has_a_timeline(api):
    """Each task's wait and work as stretches of a bar, its result, and a way to cancel what has not ended."""
    put_object(api)
    seen = browse(api, "/objects/a1")
    assert "PROCESSING" in seen.text_of("object-state")
    assert "1.0 s 2.0 s 1" in seen.text_of("t-0")
    assert '"pages": 7' in seen.text_of("t-0")
    assert "IN PROGRESS" in seen.text_of("t-1")
    assert "Cancel this object" in seen.text_of("cancel")
    put_object(api, finished=2)
    assert "" == browse(api, "/objects/a1").text_of("cancel")


def test_many_tasks_are_cut_off_until_asked_for(api):
    """A hundred are drawn; all of them by a link."""
    put_object(api, tasks=120)
    seen = browse(api, "/objects/a1")
    assert "Show 20 more tasks" in seen.text_of("timeline")
    assert "IN PROGRESS" in browse(api, "/objects/a1?tasks=all").text_of("t-119")


def test_page_of_all_tasks_has_an_end_where_results_are_large(api):
    """Ten thousand results of 64 KB would be 640 MB: what is too much for a page is said, and how to get it."""
    put_object(api, tasks=60, finished=60, result=b'"' + b"r" * 1_000_000 + b'"')
    seen = browse(api, "/objects/a1?tasks=all")
    assert "10 more tasks do not fit on the page: ebs tasks a1 lists them" in seen.text_of("timeline")
    assert len(seen.text_of("t-49")) < 10_000


def test_workers_and_what_waits_are_told(api):
    """State, in flight, progress of running tasks, drains; how many tasks wait by kind and reason, and until when."""
    running = [RunningTask("a-0", 1_500, 0.4, "half <b>")]
    put_worker(api, in_flight=1, running=running, last_progress_at_ms=NOW_MS - 3_000)
    put_worker(api, "p-2")
    put_waiting(api, "a", 0.4)
    put_waiting(api, "b", 0.09, attempt=2)
    put_waiting(api, "c", 7, attempt=2, offset=1)
    seen = browse(api, "/workers")
    assert "working" in seen.text_of("worker-processing-p-1")
    assert "a-0 for 1.5 s, 40 %: half <b>" in seen.text_of("worker-processing-p-1")
    assert "ready" in seen.text_of("worker-processing-p-2")
    page = browse(api, "/waiting")
    assert "mail retry 2 in 90 ms" in page.text_of("waiting-retry-mail")
    assert "mail delay 1 in 400 ms" in page.text_of("waiting-delay-mail")


def test_dead_letters_in_groups_and_one_by_one(api):
    """Groups with a redrive button; a group's letters; one letter with bytes, headers and stack trace."""
    grave = Grave(api.topics)
    for number in range(3):
        grave.bury_task(number, partition=0)
    grave.bury(b"\xff no json", ValueError("bad bytes"), partition=0)
    seen = browse(api, "/dead-letters")
    assert "Redrive 3" in seen.text_of("groups")
    letters = browse(api, "/dead-letters?kind=mail")
    assert "o2-0" in letters.text_of("l-0-2")
    letter = browse(api, "/dead-letters/0-2")
    assert "no user 2" in letter.text_of("letter")
    assert '"content": "c"' in letter.text_of("payload")
    assert "kafka_dlt-original-topic" in letter.text_of("headers")
    assert "ValueError" in letter.text_of("stack-trace")
    assert "no json" in browse(api, "/dead-letters/0-3").text_of("value")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/objects",
        "/objects/a1",
        "/objects/a1/tasks/0",
        "/dead-letters",
        "/dead-letters/0-0",
        "/workers",
        "/control",
    ],
)
def test_what_people_wrote_is_text(api, path):
    """Names, errors, reasons and progress that look like tags are shown, not obeyed."""
    put_object(api, name=EVIL)
    Grave(api.topics).bury_task(0, ValueError(EVIL), partition=0, name=EVIL)
    put_pause(api, reason=EVIL)
    put_worker(api, in_flight=1, running=[RunningTask(EVIL, 1, None, EVIL)])
    seen = browse(api, path)
    assert EVIL in seen.text
    assert [] == [one for one in seen.all("script") if not (one.get("src") or "").startswith("/static/")]
    assert EVIL not in seen.html


def test_id_that_needs_quoting_has_a_page(api):
    """An outside producer may use any id: links and live addresses lead to it."""
    put_object(api, "a?c#d <x>&")
    seen = browse(api, "/objects")
    (link,) = [one.get("href") for one in seen.all("a") if (one.get("href") or "").startswith("/objects/a")]
    assert 200 == browse(api, link).status


def test_events_of_an_object_are_listed(api):
    """In the order of the topics, with what each tells; a script goes on behind the last one."""
    put_object(api)
    common = ("a1", "a1-0", 0, "mail", 0, 2, 1)
    for told in (made_fact("c", *common, NOW_MS), TaskStarted("s", *common, NOW_MS + 7, "worker-7", 1_500)):
        api.topics.write(TASK_EVENTS, 0, b"a1", encode(told))
    seen = browse(api, "/objects/a1")
    assert "TASK_STARTED 0 1 worker-7, waited 1.5 s" in seen.text_of("event-rows")
    events = seen.element("events")
    assert events is not None
    assert ("/api/objects/a1/events", "task-events:0:1", "yes") == (
        events.get("data-events"),
        events.get("data-after"),
        events.get("data-open"),
    )


def test_events_that_cannot_be_had_leave_the_page(api):
    """The broker hands out none: the rest is there."""
    put_object(api)
    api.events.failure = "the broker is away"
    seen = browse(api, "/objects/a1")
    assert (200, True) == (seen.status, "Not available right now: the broker is away" in seen.text_of("events"))


def test_script_listens_to_every_event():
    """A browser gets a named Server-Sent Event only if a script listens to its name."""
    script = (STATIC / "events.js").read_text()
    listed = re.findall(r'"([A-Z_]+)"', script[script.index("TYPES") : script.index("];")])
    assert listed == [one.__struct_config__.tag for one in (ObjectCreated, *get_args(TaskEvent))]
