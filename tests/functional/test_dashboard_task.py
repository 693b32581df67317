"""The page of a task, and what leads to it: the timeline of its object, and its dead letter."""

from __future__ import annotations

import pytest
from browsing import browse
from grave import Grave
from task_story import TaskStory

from app.events import JOIN_SEQUENCE, SPLIT_SEQUENCE


@pytest.fixture
def story(api) -> TaskStory:
    """Return an object that was split into two tasks, of which one was retried, and a join that waits."""
    story = TaskStory(api, task_count=2)
    story.made(SPLIT_SEQUENCE, role="split")
    story.finish(SPLIT_SEQUENCE, 1, 20, b"null")
    story.made(count=2, at_ms=230, joins=True)
    story.ask(0, b'{"sku":"a"}', story.partition, 230)
    story.fail(0, 1, 300, due_at_ms=1_300)
    story.finish(0, 2, 1_305)
    story.finish(1, 1, 400)
    story.made(JOIN_SEQUENCE, at_ms=1_600, role="join")
    return story


def links_in(seen, element_id: str) -> list[str]:
    """Return where the links of an element lead."""
    return [one.get("href") for one in seen.element(element_id).iter() if one.get("href")]


@pytest.mark.usefixtures("story")
def test_timeline_of_an_object_draws_split_tasks_and_join_in_their_order(api):
    """By name, set apart, and each one leads to its page."""
    seen = browse(api, "/objects/a1")
    rows = [one for one in seen.all("tr") if (one.get("id") or "").startswith("t-")]
    assert ["t-split", "t-0", "t-1", "t-join"] == [one.get("id") for one in rows]
    assert ["with-role", None, None, "with-role"] == [one.get("class") for one in rows]
    names = ("split", "0", "1", "join")
    assert [f"/objects/a1/tasks/{name}" for name in names] == [links_in(seen, row.get("id"))[0] for row in rows]
    assert [200] * 4 == [browse(api, f"/objects/a1/tasks/{name}").status for name in names]
    events = seen.text_of("event-rows")
    assert "TASKS_CREATED split" in events
    assert str(SPLIT_SEQUENCE) not in events


def test_split_and_join_of_many_tasks_are_on_the_first_page(api):
    """They come after all others in the list of the API."""
    story = TaskStory(api, task_count=120)
    story.made(SPLIT_SEQUENCE, role="split")
    story.made(count=120)
    story.made(JOIN_SEQUENCE, role="join")
    seen = browse(api, "/objects/a1")
    rows = [one.get("id") for one in seen.all("tr") if (one.get("id") or "").startswith("t-")]
    assert (["t-split", "t-0"], ["t-99", "t-join"], 102) == (rows[:2], rows[-2:], len(rows))
    assert "Show 20 more tasks" in seen.text_of("timeline")
    assert "Show" not in browse(api, "/objects/a1?tasks=all").text_of("timeline")


@pytest.mark.usefixtures("story")
def test_task_has_a_page_with_every_attempt(api):
    """The last one first, with the error, the stack trace, the worker, the times and the next attempt."""
    seen = browse(api, "/objects/a1/tasks/0")
    assert (200, "Task 0") == (seen.status, " ".join(seen.all("h1")[0].itertext()))
    assert "FINISHED" in seen.text_of("task-state")
    failed, finished = seen.text_of("a-0-1"), seen.text_of("a-0-2")
    assert "ValueError: no 1 Stack trace Traceback 1 w-1" in failed
    assert "10 ms 50 ms" in failed
    assert "w-2" in finished
    ids = [one.get("id") for one in seen.all("tr") if one.get("id")]
    assert ["a-0-2", "a-0-1"] == ids
    assert '{ "sku": "a" }' == seen.text_of("content").removeprefix("Content ")
    assert "7" in seen.text_of("result")
    parts = [one.get("class") for one in seen.element("task").iter() if (one.get("class") or "").endswith("-part")]
    drawn = ["rest-part", "queued-part", "failed-part", "retry-part", "queued-part", "finished-part"]
    assert drawn == parts[: len(drawn)]


@pytest.mark.usefixtures("story")
def test_page_of_a_split_says_what_it_is(api):
    """Its heading is its name."""
    seen = browse(api, "/objects/a1/tasks/split")
    assert "Split" == " ".join(seen.all("h1")[0].itertext())
    assert ["/objects/a1"] == links_in(seen, "task")


@pytest.mark.usefixtures("story")
def test_page_without_the_broker_shows_what_the_view_knows(api):
    """The attempts are missing, and it says so."""
    api.events.failure = "cannot read task-events from the Kafka broker"
    seen = browse(api, "/objects/a1/tasks/0")
    assert (200, True) == (seen.status, "FINISHED" in seen.text_of("task-state"))
    assert "Not available right now: cannot read task-events" in seen.text_of("attempts")
    assert "Deleted" not in seen.text


@pytest.mark.usefixtures("story")
def test_task_that_does_not_exist_is_a_404_page(api):
    """It says which tasks there are."""
    seen = browse(api, "/objects/a1/tasks/7")
    assert (404, True) == (seen.status, "object a1 has 2 tasks" in seen.text)


def test_dead_letter_and_task_lead_to_each_other(api):
    """From the letter, from the list, and back."""
    story = TaskStory(api, "o0", task_count=1)
    story.made()
    story.fail(0, 1, 20)
    Grave(api.topics).bury_task(0, partition=0)
    assert "/objects/o0/tasks/0" in links_in(browse(api, "/dead-letters/0-0"), "letter")
    assert "/objects/o0/tasks/0" in links_in(browse(api, "/dead-letters?kind=mail"), "letters")
    assert "/api/objects/o0/tasks/0" == api.get("/api/dead-letters/0-0").json()["links"]["task"]
    assert ["/dead-letters/0-0"] == links_in(browse(api, "/objects/o0/tasks/0"), "letters")
