"""An object of seven different items, on a real broker: each task gets its own content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api_process import until
from broker_site import running_site
from fleet import PATIENT

if TYPE_CHECKING:
    from pathlib import Path

    from shared_broker import SharedBroker

BEYOND_64_BITS = 123456789012345678901234567890
CONTENTS = [{"sku": "a", "lines": [1, 2.5]}, "text", None, [], BEYOND_64_BITS, {"é": "\U0001f600"}, True]


def test_each_item_reaches_its_handler(shared_broker: SharedBroker, tmp_path: Path) -> None:
    """By HTTP in, through both topics and the handler, and out again as the task's result."""
    items = [{"content": content} for content in CONTENTS]
    items[1]["name"] = "second"
    with (
        running_site(shared_broker, tmp_path) as site,
        site.api() as api,
        site.workers(EBS_HANDLER="echo_handler:echo", **PATIENT) as fleet,
    ):
        object_id = api.client.post("/api/objects", json={"name": "order", "tasks": items}).json()["id"]
        path = f"/api/objects/{object_id}"
        until(lambda: api.client.get(path).json()["state"] == "FINISHED", fleet.last_words)
        results = [task["result"] for task in api.client.get(f"{path}/tasks").json()["tasks"]]
    names = ["second" if number == 1 else "order" for number in range(len(CONTENTS))]
    assert [list(one) for one in zip(CONTENTS, names, strict=True)] == results
