"""`ebs tasks OBJECT_ID TASK`, against the application itself."""

from __future__ import annotations

import json

import pytest
from task_story import TaskStory

from app.errors import EbsError
from app.events import JOIN_SEQUENCE, SPLIT_SEQUENCE


@pytest.fixture
def _story(api) -> None:
    """Let there be an object with a split, a task that was retried, and one that died."""
    story = TaskStory(api, task_count=2)
    story.made(SPLIT_SEQUENCE, role="split")
    story.finish(SPLIT_SEQUENCE, 1, 20, b"null")
    story.made(count=2, at_ms=230)
    story.ask(0, b'{"sku":"[a]"}', story.partition, 230)
    story.fail(0, 1, 300, due_at_ms=1_300)
    story.finish(0, 2, 1_305, b'{"cents":500}')
    story.fail(1, 1, 400)


@pytest.mark.usefixtures("_story")
def test_one_task_is_shown_with_every_attempt(ebs):
    """What it is about, what it returned, each attempt, and the stack trace of the last one that failed."""
    told = ebs("tasks", "a1", "0")
    assert 0 == told.exit_code, told.output
    words = " ".join(told.stdout.replace("│", " ").split())
    assert "task a1-0" in words
    assert 'content {"sku": "[a]"} result {"cents": 500}' in words
    assert "1 FAILED w-1" in words
    assert "0.010 s 0.050 s" in words
    assert "ValueError: no 1" in words
    assert "2 FINISHED w-2" in words
    assert words.endswith("stack trace of attempt 1 (--json has those of all attempts): Traceback 1")


@pytest.mark.usefixtures("_story")
def test_stack_trace_is_shown_line_by_line(ebs):
    """Its line breaks are line breaks in the terminal, too."""
    lines = ebs("tasks", "a1", "0").stdout.splitlines()
    assert ["stack trace of attempt 1 (--json has those of all attempts):", "Traceback 1"] == lines[-2:]
    assert not any("\\n" in line for line in lines)


@pytest.mark.usefixtures("_story")
def test_task_can_be_named_by_its_id(ebs):
    """As tables and logs name it; with --json it is the API's answer."""
    told = [json.loads(ebs("tasks", *named, "--json").stdout) for named in (("a1-1",), ("a1", "1"))]
    assert ["a1-1", "a1-1"] == [one["id"] for one in told]
    assert ["Traceback 1"] == [one["stack_trace"] for one in told[0]["attempt_history"]]
    assert "split" == json.loads(ebs("tasks", "a1-split", "--json").stdout)["role"]


@pytest.mark.usefixtures("_story")
@pytest.mark.parametrize(
    ("named", "said"),
    [
        (("a1", "7"), "there is no task a1-7: object a1 has 2 tasks, counted from 0"),
        (("a1", "join"), "there is no task a1-join: object a1 has no join"),
        (("a1-7",), "there is no task a1-7: object a1 has 2 tasks, counted from 0"),
        (("b-7",), "there is no object b"),
        (("unknown",), "there is no object unknown"),
    ],
)
def test_task_that_does_not_exist_is_a_sentence(ebs, named, said):
    """It says what is missing."""
    failed = ebs("tasks", *named)
    assert isinstance(failed.exception, EbsError)
    assert said == str(failed.exception)


def test_status_shows_what_the_join_returned(api, ebs):
    """Objects without a result do not speak of one."""
    story = TaskStory(api, task_count=1)
    story.made(joins=True)
    story.finish(0, 1, 20)
    assert "result " not in ebs("status", "a1").stdout.split("tasks of")[0]
    story.made(JOIN_SEQUENCE, at_ms=300, role="join")
    story.finish(JOIN_SEQUENCE, 1, 310, b'{"cents":700}')
    assert '{"cents": 700}' in ebs("status", "a1").stdout.split("tasks of")[0]
