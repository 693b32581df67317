"""A project with a split and a join, over HTTP: an object of words, its tasks, and what comes of them together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker_site import running_site
from fleet import PATIENT
from joined_project import JOINED, KIND

if TYPE_CHECKING:
    from pathlib import Path

    from shared_broker import SharedBroker


def test_object_is_split_worked_and_joined(shared_broker: SharedBroker, tmp_path: Path) -> None:
    """The object has the join's result; its tasks are listed with their roles; none at all is joined, too."""
    with (
        running_site(shared_broker, tmp_path) as site,
        site.workers(**PATIENT, **JOINED),
        site.api(**JOINED) as api,
    ):
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
            name: api.client.get(f"/api/objects/{object_id}/tasks/{name}").json()
            for name in ("split", "1", "2", "join")
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
