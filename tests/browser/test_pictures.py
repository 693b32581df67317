"""The pictures of the documentation: `make pictures` draws them again, every other run only checks that it could."""

from __future__ import annotations

import os
from pathlib import Path

from api_process import until
from playwright.sync_api import expect

FOLDER = os.environ.get("PICTURES")
OBJECT_COUNT = 400 if FOLDER else 4
TASK_COUNT = 6
DESK = {"viewport": {"width": 1180, "height": 820}}


def test_pictures_of_the_documentation(system, visitor, tmp_path):
    """The overview while tasks run, and the timeline of an object with split, join and a task that was retried."""
    folder = Path(FOLDER) if FOLDER else tmp_path
    reports = [
        system.submit(name=f"report-{number}", kind="report", tasks=TASK_COUNT) for number in range(OBJECT_COUNT)
    ]
    lines = [{"sku": sku, "count": 1} for sku in ("apple", "pear", "plum", "fig", "kiwi")]
    wanted = {"kind": "order", "content": {"customer": "ann", "lines": lines}}
    system.submit(name="order-16", **wanted)
    system.submit(name="no-template", kind="letter", tasks=1)
    # Half of the tasks have ended, the others wait or run.
    half = OBJECT_COUNT * TASK_COUNT // 2
    until(lambda: system.api.client.get("/api/statistics").json()["tasks_finished"] >= half, system.fleet.last_words)
    overview = visitor.visit(system.api.url, "/", **DESK)
    expect(overview.locator("#live")).to_contain_text("tasks created")
    overview.screenshot(path=folder / "overview.png")
    # What waits for others would be all that its timeline shows.
    system.reaches(reports[-1], "FINISHED")
    order = system.submit(name="order-17", **wanted)
    system.reaches(order, "FINISHED")
    timeline = visitor.visit(system.api.url, f"/objects/{order}", **DESK)
    expect(timeline.locator(".retry-part").first).to_be_attached()
    timeline.screenshot(path=folder / "object.png")
