"""`ebs submit --wait` requests many objects by lists, and each object that is in no list by its id."""

from __future__ import annotations

from urllib.parse import unquote

import httpx
import pytest

from ebs.cli.client import ApiClient, ApiError
from ebs.cli.object_waits import Ends, wait_for_all

MANY = 2_000
BEGUN_MS = 1_000_000
ENDED = "FINISHED,FAILED,CANCELLED"


class FakeApi:
    """Stands for an API. Objects that are `hidden` are in no list; the first `busy` answers are 503.

    A long poll is answered at once. The `slow` object ends when the command knows the end of all others.
    """

    def __init__(self, count: int, state: str = "FINISHED") -> None:
        self.ids = [f"o{number:05}" for number in range(count)]
        self.states = dict.fromkeys(self.ids, state)
        self.created_ms: dict[str, int | None] = {one: BEGUN_MS + n // 7 for n, one in enumerate(self.ids)}
        self.hidden: set[str] = set()
        self.busy = 0
        self.slow = ""
        self.asked: list[httpx.URL] = []
        self.progress: list[tuple[int, int]] = []

    @property
    def list_count(self) -> int:
        """How many lists were requested."""
        return sum(url.path == "/api/objects" for url in self.asked)

    def wait(self, timeout_s: float | None = None) -> Ends:
        """Call the function under test."""
        with ApiClient("http://api", transport=httpx.MockTransport(self._answer)) as client:
            return wait_for_all(
                client, self.ids, timeout_s, on_progress=lambda done, total: self.progress.append((done, total))
            )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url)
        if self.busy:
            self.busy -= 1
            return httpx.Response(503, json={"status": 503, "detail": "behind"}, headers={"retry-after": "0"})
        query = request.url.params
        if request.url.path == "/api/objects":
            return httpx.Response(200, json=self._page(query))
        one = unquote(request.url.path.rpartition("/")[2])
        if one == self.slow and self.progress[-1][0] == len(self.ids) - 1:
            self.states[one] = "FINISHED"
        outcome = "reached" if self.states[one] in ENDED else "timed-out"
        return httpx.Response(200, json={**self._of(one), "wait": {"outcome": outcome}})

    def _of(self, one: str) -> dict[str, object]:
        return {"id": one, "state": self.states[one], "created_at_ms": self.created_ms[one]}

    def _page(self, query: httpx.QueryParams) -> dict[str, object]:
        after_ms, before_ms, limit = (int(query[name]) for name in ("created_after", "created_before", "limit"))
        wanted = [
            one
            for one in reversed(self.ids)
            if one not in self.hidden
            and after_ms <= (self.created_ms[one] or 0) < before_ms
            and ("state" not in query or self.states[one] in query["state"].split(","))
        ]
        start = int(query.get("cursor", "0"))
        end = start + limit
        found = [self._of(one) for one in wanted[start:end]]
        return {"objects": found, "next_cursor": str(end) if end < len(wanted) else None}


def test_many_objects_are_a_few_lists():
    """Each object is told with how it ended, and the questions are fewer by far than the objects."""
    api = FakeApi(MANY)
    failed, cancelled = api.ids[3], api.ids[-1]
    api.states |= {failed: "FAILED", cancelled: "CANCELLED"}
    assert Ends(MANY - 2, [failed], [cancelled], []) == api.wait()
    assert [(0, MANY), (MANY, MANY)] == [api.progress[0], api.progress[-1]]
    assert 10 > len(api.asked)


@pytest.mark.parametrize("created", ["unknown", "long ago"])
def test_object_that_no_list_tells_of_is_asked_for(created):
    """Another process may be behind, and an object of any time: in the end each one is asked for by its id."""
    api = FakeApi(100)
    strange = api.ids[::2]
    api.hidden = set(strange)
    api.created_ms |= dict.fromkeys(strange, None if created == "unknown" else 5)
    assert Ends(100, [], [], []) == api.wait()


def test_progress_continues_after_an_object_that_takes_long():
    """A task that waits for its retry does not hide that all others are done."""
    api = FakeApi(MANY)
    api.slow = api.ids[0]
    api.states[api.slow] = "PROCESSING"
    assert Ends(MANY, [], [], []) == api.wait()
    assert (MANY - 1, MANY) in api.progress


def test_deadline_tells_what_is_open_by_lists():
    """Neither an object that ended nor one that did not is asked for by itself where a list tells of it."""
    api = FakeApi(MANY, "PROCESSING")
    done = api.ids[1000:]
    api.states |= dict.fromkeys(done, "FINISHED")
    assert Ends(len(done), [], [], api.ids[:1000]) == api.wait(timeout_s=0)
    assert 10 > len(api.asked)


def test_deadline_does_not_take_an_unlisted_object_for_open():
    """What no list tells of is asked for at the deadline, too."""
    api = FakeApi(50)
    api.hidden = set(api.ids)
    assert Ends(50, [], [], []) == api.wait(timeout_s=0)


def test_view_that_is_behind_is_asked_again():
    """A 503 is no end of the wait, before the deadline."""
    api = FakeApi(100)
    api.busy = 1
    assert Ends(100, [], [], []) == api.wait()
    api.busy = 1
    with pytest.raises(ApiError):
        api.wait(timeout_s=0)


def test_few_objects_need_no_lists():
    """One of them is asked for by a question of its own."""
    api = FakeApi(5)
    assert Ends(5, [], [], []) == api.wait()
    assert (5, 0) == (len(api.asked), api.list_count)


def test_object_that_was_submitted_twice_counts_twice():
    """A file may name an id again; none at all is nothing to wait for."""
    api = FakeApi(1)
    api.ids *= 2
    assert Ends(2, [], [], []) == api.wait()
    assert Ends(0, [], [], []) == FakeApi(0).wait()
