"""What `ebs up` suggests when it is ready."""

from __future__ import annotations

import pytest

from app.settings.settings import Settings
from ebs.cli.up_run import _first_step


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        (Settings(), "curl -X POST http://h/api/objects makes an object"),
        (Settings(project="shop.work", generate=True), "curl -X POST http://h/api/objects makes an object"),
        (Settings(project="shop.work"), "ebs submit --api http://h --kind KIND --content TEXT submits an object"),
    ],
)
def test_first_step_is_one_that_works(settings: Settings, step: str) -> None:
    """With a project the API answers 422 to an empty request, so it is not what the line suggests."""
    assert step == _first_step(settings, "http://h")
