"""A project over HTTP: objects that it splits into tasks and joins again, and objects that come with their items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from api_process import until
from broker_site import running_site
from fleet import PATIENT
from joined_project import ECHO, JOINED, KIND

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api_process import ApiProcess
    from fleet import Fleet
    from shared_broker import SharedBroker

BEYOND_64_BITS = 123456789012345678901234567890
CONTENTS = [{"sku": "a", "lines": [1, 2.5]}, "text", None, [], BEYOND_64_BITS, {"é": "\U0001f600"}, True]


@pytest.fixture(scope="module")
def system(shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ApiProcess, Fleet]]:
    """Return an API and workers that have the project."""
    with (
        running_site(shared_broker, tmp_path_factory.mktemp("system")) as site,
        site.workers(**PATIENT, **JOINED) as fleet,
        site.api(**JOINED) as api,
    ):
        yield api, fleet


def test_each_item_reaches_its_handler(system: tuple[ApiProcess, Fleet]) -> None:
    """By HTTP in, through both topics and the handler, and out again as the task's result."""
    api, fleet = system
    items = [{"content": content} for content in CONTENTS]
    items[1]["name"] = "second"
    body = {"kind": ECHO, "name": "order", "tasks": items}
    path = f"/api/objects/{api.client.post('/api/objects', json=body).json()['id']}"
    until(lambda: api.client.get(path).json()["state"] == "FINISHED", fleet.last_words)
    results = [task["result"] for task in api.client.get(f"{path}/tasks").json()["tasks"]]
    names = ["second" if number == 1 else "order" for number in range(len(CONTENTS))]
    assert [list(one) for one in zip(CONTENTS, names, strict=True)] == results


def test_object_is_split_worked_and_joined(system: tuple[ApiProcess, Fleet]) -> None:
    """The object has the join's result; its tasks are listed with their roles; none at all is joined, too."""
    api, _ = system
    body = {"kind": KIND, "name": "a bb ccc"}
    object_id = api.client.post("/api/objects", json=body).json()["id"]
    empty_id = api.client.post("/api/objects", json=body | {"name": ""}).json()["id"]
    poisoned_id = api.client.post("/api/objects", json=body | {"name": "a poison"}).json()["id"]
    params = {"wait": 60, "until": "end"}
    told = api.client.get(f"/api/objects/{object_id}", params=params, timeout=90).json()
    assert ("FINISHED", 3, {"text": "a bb ccc", "letters": 6}) == (
        told["state"],
        told["tasks_total"],
        told["result"],
    )
    tasks = api.client.get(f"/api/objects/{object_id}/tasks").json()["tasks"]
    expected = [("task", f"{object_id}-{number}") for number in range(3)]
    expected += [(role, f"{object_id}-{role}") for role in ("split", "join")]
    assert expected == [(task["role"], task["id"]) for task in tasks]
    assert {"word": "bb", "letters": 2} == tasks[1]["result"]
    page = api.client.get(f"/api/objects/{object_id}/tasks", params={"limit": 3}).json()
    rest = api.client.get(f"/api/objects/{object_id}/tasks", params={"cursor": page["next_cursor"]}).json()["tasks"]
    assert ["split", "join"] == [task["role"] for task in rest]
    one = {
        name: api.client.get(f"/api/objects/{object_id}/tasks/{name}").json() for name in ("split", "1", "2", "join")
    }
    assert [("a bb ccc", None), ("bb", {"word": "bb"}), ("ccc", {"word": "ccc"})] == [
        (one[name]["name"], one[name]["content"]) for name in ("split", "1", "2")
    ]
    assert {"word": "bb", "letters": 2} == one["join"]["content"][1]
    assert [(True, "FINISHED", ["queue wait", "work"])] * 4 == [
        (
            task["history_complete"],
            task["attempt_history"][0]["outcome"],
            [span["what"] for span in task["timeline"]],
        )
        for task in one.values()
    ]
    none = api.client.get(f"/api/objects/{empty_id}", params=params, timeout=90).json()
    assert ("FINISHED", 0, {"text": "", "letters": 0}) == (none["state"], none["tasks_total"], none["result"])
    failed = api.client.get(f"/api/objects/{poisoned_id}", params=params, timeout=90).json()
    assert ("FAILED", 1, None) == (failed["state"], failed["tasks_dead"], failed["result"])
    dead = api.client.get(f"/api/objects/{poisoned_id}/tasks/1").json()
    history = dead["attempt_history"]
    assert [1, 2, 3] == [attempt["number"] for attempt in history]
    assert [True, True, False] == [attempt["next_attempt_at_ms"] is not None for attempt in history]
    assert all('raise ValueError("a poisonous word")' in attempt["stack_trace"] for attempt in history)
