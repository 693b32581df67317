"""GET /api/objects/{id}/tasks/{task}: one task, what it is about, and every attempt."""

from __future__ import annotations

import msgspec
import pytest
from plain_names import TASK_EVENTS
from task_story import AT_MS, PARTITIONS, TaskStory

from app.events import JOIN_SEQUENCE, SPLIT_SEQUENCE, ItemRecord, TaskCancelled


@pytest.fixture
def story(api) -> TaskStory:
    """Return an object of two tasks with a content each."""
    items = [ItemRecord(content=msgspec.Raw(b'{"sku":"a"}')), ItemRecord(content=msgspec.Raw(b"2"), name="second")]
    return TaskStory(api, items=items)


def test_task_has_its_subject_its_result_and_every_attempt(story):
    """With the error, the stack trace, the worker, the times, and when the next attempt was due."""
    story.made(count=2)
    story.fail(1, 1, 100, due_at_ms=1_000)
    story.finish(1, 2, 1_005)
    told = story.get(1)
    names = ("id", "object_id", "sequence", "role", "kind", "name", "content", "content_deleted", "state", "result")
    assert ("a1-1", "a1", 1, "task", "mail", "second", 2, False, "FINISHED", 7) == tuple(told[name] for name in names)
    failed, finished = told["attempt_history"]
    assert {
        "redrive": 0,
        "number": 1,
        "outcome": "FAILED",
        "worker": "w-1",
        "started_at_ms": AT_MS + 100,
        "ended_at_ms": AT_MS + 150,
        "waited_ms": 10,
        "worked_ms": 50,
        "error_type": "ValueError",
        "error": "ValueError: no 1",
        "stack_trace": "Traceback 1",
        "next_attempt_at_ms": AT_MS + 1_000,
    } == failed
    assert ("FINISHED", "w-2", 200, None, None) == tuple(
        finished[name] for name in ("outcome", "worker", "worked_ms", "error", "next_attempt_at_ms")
    )
    spans = [(span["what"], span["to_ms"] - span["from_ms"]) for span in told["timeline"]]
    assert [("queue wait", 90), ("work", 50), ("retry wait", 850), ("queue wait", 5), ("work", 200)] == spans
    assert (2, 0, True) == (told["attempts"], told["redrives"], told["history_complete"])
    assert ("a1-0", {"sku": "a"}, "report", []) == tuple(
        story.get(0)[name] for name in ("id", "content", "name", "attempt_history")
    )


def test_links_lead_to_what_belongs_to_it(story):
    """To itself by the name that people use."""
    story.made(SPLIT_SEQUENCE, role="split")
    links = story.get(SPLIT_SEQUENCE)["links"]
    assert "/api/objects/a1/tasks/split" == links["self"]
    assert all(story.api.get(path).status_code == 200 for path in links.values())


def test_split_and_join_have_names_and_the_tasks_of_a_split_their_contents(api):
    """What a split made, and what a join gets, is in the requests, which nobody else tells."""
    story = TaskStory(api, content=msgspec.Raw(b'{"lines":["x","y"]}'))
    story.task_count = 2
    story.made(SPLIT_SEQUENCE, role="split")
    story.finish(SPLIT_SEQUENCE, 1, 20, b"null")
    story.made(count=2, at_ms=230, joins=True)
    other = (story.partition + 1) % PARTITIONS
    story.ask(0, b'"x"', story.partition, 230)
    story.ask(1, b'"y"', other, 230)
    for sequence in (0, 1):
        story.finish(sequence, 1, 300)
    story.ask(JOIN_SEQUENCE, b"[7,7]", story.partition, 600)
    story.made(JOIN_SEQUENCE, at_ms=600, role="join")
    names = ("sequence", "role", "content", "name", "content_deleted")
    told = [tuple(story.get(task)[name] for name in names) for task in ("split", 0, 1, "join")]
    assert [
        (SPLIT_SEQUENCE, "split", {"lines": ["x", "y"]}, "report", False),
        (0, "task", "x", "report", False),
        (1, "task", "y", "report", False),
        (JOIN_SEQUENCE, "join", [7, 7], "report", False),
    ] == told


@pytest.mark.parametrize("topic", ["task-requests-gpu", "task-requests"])
def test_content_of_a_task_is_found_in_the_queue_of_its_kind_or_in_an_earlier_one(make_api, topic):
    """A kind may have got its queue after the task was made."""
    story = TaskStory(make_api(project="queued_project"), kind="embed", content=msgspec.Raw(b"[1]"))
    story.made(SPLIT_SEQUENCE, role="split")
    story.finish(SPLIT_SEQUENCE, 1, 20, b"null")
    story.made(at_ms=230)
    story.ask(0, b'"x"', story.partition, 230, topic=topic)
    assert "x" == story.get(0)["content"]


def test_events_of_an_object_begin_with_its_split_and_end_with_its_join(api):
    """However long the split and the join took: the tasks between them do not say where the events lie."""
    story = TaskStory(api, task_count=1)
    story.made(SPLIT_SEQUENCE, role="split")
    story.finish(SPLIT_SEQUENCE, 1, 20, b"null")
    story.made(at_ms=60_000, joins=True)
    story.finish(0, 1, 60_100)
    story.made(JOIN_SEQUENCE, at_ms=60_400, role="join")
    story.finish(JOIN_SEQUENCE, 1, 2_000_000)
    page = api.get("/api/objects/a1/events").json()
    times = [event["at_ms"] - AT_MS for event in page["events"]]
    assert [0, 10, 20, 220, 60_000, 60_100, 60_300, 60_400, 2_000_000, 2_000_200] == times


def test_redriven_task_shows_all_generations_and_the_edited_content(story):
    """Somebody mended its content: the object does not say it any more."""
    story.made(count=2)
    story.fail(0, 1, 100)
    assert ({"sku": "a"}, "DEAD") == tuple(story.get(0)[name] for name in ("content", "state"))
    story.ask(0, b'{"sku":"b"}', story.partition, 5_000, redrive=1, name="mended")
    story.made(0, at_ms=5_000, redrive=1, id="c0-r1")
    story.fail(0, 1, 5_010, redrive=1)
    told = story.get(0)
    assert [(0, 1, "FAILED"), (1, 1, "FAILED")] == [
        (one["redrive"], one["number"], one["outcome"]) for one in told["attempt_history"]
    ]
    assert ({"sku": "b"}, "mended", 1) == (told["content"], told["name"], told["redrives"])


def test_what_the_topics_have_deleted_is_said(story):
    """The ledger knows more than the events that are left."""
    story.made(count=2)
    story.fail(0, 1, 100, due_at_ms=1_000)
    story.api.topics.records[TASK_EVENTS, story.partition].clear()
    told = story.get(0)
    assert ([], False, "RETRYING", 1, "ValueError: no 1") == (
        told["attempt_history"],
        told["history_complete"],
        told["state"],
        told["attempts"],
        told["error"],
    )
    fresh = TaskStory(story.api, "a2", content=msgspec.Raw(b"1"), task_count=1)
    fresh.made(JOIN_SEQUENCE, role="join")
    assert (None, None, True) == tuple(fresh.get("join")[name] for name in ("name", "content", "content_deleted"))


def test_waiting_task_that_is_cancelled_has_no_attempt(story):
    """Nothing has begun."""
    story.made(count=2)
    story.write(TaskCancelled("k", *story.common(0, 1, 90)))
    assert ("CANCELLED", [], True) == tuple(
        story.get(0)[name] for name in ("state", "attempt_history", "history_complete")
    )


def test_history_is_read_again_only_when_the_task_has_changed(story):
    """A page that somebody looks at asks every second."""
    story.made(count=2)
    story.fail(0, 1, 100, due_at_ms=1_000)
    story.get(0)
    read_count = story.api.events.read_count
    assert 1 == len(story.get(0)["attempt_history"])
    assert read_count == story.api.events.read_count
    story.finish(0, 2, 1_000)
    assert 2 == len(story.get(0)["attempt_history"])


@pytest.mark.parametrize(
    ("task", "detail"),
    [
        ("2", "there is no task a1-2: object a1 has 2 tasks, counted from 0"),
        ("split", "there is no task a1-split: object a1 was not split by a function"),
        ("join", "there is no task a1-join: object a1 has no join"),
        ("10002", "there is no task a1-callback1: object a1 has no such callback"),
        ("01", "a task is named by its sequence (0 is the first one), split, join or callback1, not '01'"),
        ("a1-1", "a task is named by its sequence (0 is the first one), split, join or callback1, not 'a1-1'"),
        ("%2F", "a task is named by its sequence (0 is the first one), split, join or callback1, not '/'"),
    ],
)
def test_task_that_does_not_exist_is_a_404_that_says_what_is_missing(story, task, detail):
    """And what there is."""
    story.made(count=2)
    assert ("urn:ebs:problem:not-found", detail) == tuple(story.get(task, 404)[name] for name in ("type", "detail"))


def test_task_that_is_still_to_come_is_recognised(story):
    """Whoever submits an object and asks for its first task is too early, not wrong."""
    assert "task a1-1 does not exist yet: object a1 is CREATED" == story.get(1, 404)["detail"]
    answer = story.api.get("/api/objects/a2/tasks/0")
    assert (404, "there is no object a2") == (answer.status_code, answer.json()["detail"])


def test_object_that_is_named_like_a_task_is_not_mistaken(api):
    """`a-1-split` is the split of `a-1`, never a task `1-split` of `a`."""
    TaskStory(api, "a", task_count=3).made(count=3)
    odd = TaskStory(api, "a-1", task_count=1)
    odd.made(SPLIT_SEQUENCE, role="split")
    assert "a-1-split" == odd.get("split")["id"]
    assert 404 == api.get("/api/objects/a/tasks/1-split").status_code


def test_broker_that_is_away_is_a_503(story):
    """Attempts are read from it."""
    story.made(count=2)
    story.api.events.failure = "cannot read task-events from the Kafka broker"
    assert ("urn:ebs:problem:events-unavailable", story.api.events.failure) == tuple(
        story.get(0, 503)[name] for name in ("type", "detail")
    )


def test_methods_are_those_of_its_siblings(story):
    """HEAD is GET without a body; the others are named in Allow."""
    story.made(count=2)
    path = "/api/objects/a1/tasks/0"
    assert (200, b"") == (story.api.request("HEAD", path).status_code, story.api.request("HEAD", path).content)
    refused = story.api.request("DELETE", path)
    assert (405, "GET, HEAD") == (refused.status_code, refused.headers["allow"])
    assert 422 == story.api.get(f"{path}?attempt=1").status_code
    assert 200 == story.api.get("/objects/a1/tasks/0").status_code
