"""Dead letters as the workers write them, and what the API says of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec
from plain_names import DEAD_LETTERS, TASK_REQUESTS

from api.dead_letters import schemas
from app.events import TaskCreated, encode
from app.rules.dead_letters import Origin, dead_letter_headers

if TYPE_CHECKING:
    from collections.abc import Callable

NOW_MS = 1_795_489_276_303
"""What the application's clock says."""
PATH = "/api/dead-letters"
LIMIT_S = 60
"""For a run that takes moments on a quiet machine."""


def request_of(number: int, **changes) -> TaskCreated:
    """Return the request of the only task of an object."""
    object_id = f"o{number}"
    request = TaskCreated("c", object_id, f"{object_id}-0", number % 4, "mail", 0, 1, 5, NOW_MS - 90, "n", "c")
    return msgspec.structs.replace(request, **changes)


class Grave:
    """Writes dead letters as the workers do, and remembers their ids."""

    def __init__(self, topics) -> None:
        self.topics = topics
        self.ids: list[str] = []

    def bury(
        self,
        value: bytes | None,
        error: Exception,
        *,
        topic=TASK_REQUESTS,
        partition=1,
        at_ms=NOW_MS,
        task=None,
        headers=(),
    ) -> str:
        """Bury a record of a topic; returns the letter's id."""
        told = dead_letter_headers(Origin(topic, partition, 7, 5), error, attempts=5, task=task, headers=headers)
        offset = self.topics.write(DEAD_LETTERS, partition, b"k", value, headers=tuple(told), timestamp_ms=at_ms)
        self.ids.append(f"{partition}-{offset}")
        return self.ids[-1]

    def bury_task(
        self, number: int = 0, error: Exception | None = None, *, at_ms=NOW_MS, partition=1, **changes
    ) -> str:
        """Bury a task of an object of its own."""
        request = request_of(number, **changes)
        error = error or ValueError(f"no user {number}")
        return self.bury(encode(request), error, partition=partition, at_ms=at_ms, task=request)

    def commits(self) -> list[list[str]]:
        """Return the topics of each commit of the letter writer."""
        return [[record.topic for record in together] for together in self.topics.commits]

    def written(self, topic: str) -> list:
        """Return the records of a topic, by partition."""
        places = sorted(place for place in self.topics.records if place[0] == topic)
        return [record for place in places for record in self.topics.records[place]]


def listed_ids(api, query: str = "") -> list[str]:
    """Return the ids of a page, which must be as documented."""
    answer = api.get(f"{PATH}{query}")
    assert 200 == answer.status_code, answer.text
    return [letter.id for letter in msgspec.convert(answer.json(), schemas.LetterList).dead_letters]


def state_of(api, letter_id: str) -> str:
    """Return a letter's state."""
    return api.get(f"{PATH}/{letter_id}").json()["state"]


def refusal_of(answer) -> tuple[int, str]:
    """Return status and name of a problem."""
    assert "application/problem+json" == answer.headers["content-type"]
    return answer.status_code, answer.json()["type"].removeprefix("urn:ebs:problem:")


def run_to_end(api, answer) -> dict:
    """Return a run once it has ended."""
    assert 202 == answer.status_code, answer.text
    return until_ended(api, answer.headers["location"])


def until_ended(api, path: str) -> dict:
    """Return the run at a path once it has ended."""
    run = until_shown(api, path, lambda run: run["state"] != "RUNNING")
    msgspec.convert(run, schemas.RunAnswer)
    return run


def wait_for_count(api, answer, count: int) -> None:
    """Wait until a run has redriven so many."""
    until_shown(api, answer.headers["location"], lambda run: run["redriven_count"] >= count)


def until_shown(api, path: str, wanted: Callable[[dict], bool]) -> dict:
    """Return the run at a path once it is as wanted."""
    give_up_at_s = time.monotonic() + LIMIT_S
    while not wanted(run := api.get(path).json()):
        assert time.monotonic() < give_up_at_s, f"the run does not get there within {LIMIT_S} s: {run}"
    return run


def raised(error: Exception) -> Exception:
    """Return an error that has a stack trace."""
    try:
        raise error
    except type(error) as caught:
        return caught
