"""The client's results of an object: those of its tasks, whatever else is listed with them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from ebs import Client
from ebs.client.errors import ObjectFailed

SPECIAL = [(10_000, "split", None), (10_001, "join", {"total": 3}), (10_002, "callback", {"status": 204})]


def client_of(state: str, tasks: list[dict[str, Any]]) -> Client:
    """Return a client whose API has one object, `a`."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/tasks"):
            return httpx.Response(200, json={"tasks": tasks, "next_cursor": None})
        told = {"id": "a", "state": state, "kind": "order", "tasks_total": 2, "tasks_done": 2, "result": None}
        return httpx.Response(200, json=told)

    return Client("http://api", transport=httpx.MockTransport(answer))


def listed(*tasks: tuple[int, str, Any], state: str = "FINISHED") -> list[dict[str, Any]]:
    """Return tasks as the API lists them."""
    return [
        {"id": f"a-{role if role != 'task' else sequence}", "sequence": sequence, "role": role, "state": state}
        | ({"error": "gone"} if state == "DEAD" else {"result": result})
        for sequence, role, result in tasks
    ]


def test_results_are_those_of_tasks() -> None:
    """Split, join and callbacks are listed as well, and have results of another sort."""
    with client_of("FINISHED", listed((0, "task", 1), (1, "task", 2), *SPECIAL)) as client:
        assert [1, 2] == client.results("a")
        assert ["task", "task", "split", "join", "callback"] == [task.role for task in client.tasks("a")]


def test_dead_split_is_named_and_a_dead_callback_is_no_cause() -> None:
    """By the end of its id: 10000 says nothing to anybody."""
    with (
        client_of("FAILED", listed(SPECIAL[0], SPECIAL[2], state="DEAD")) as client,
        pytest.raises(ObjectFailed, match=r"1 task is dead \(task split: gone\)"),
    ):
        client.results("a")
