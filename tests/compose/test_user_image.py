"""An image of a user's, made FROM ours with dependencies of its own: its handler works, and ours stays as it is."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from api_process import until
from compose_stack import IMAGE, docker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from compose_stack import Stack

SHOP = Path(__file__).parent / "shop"
TAG = "shop:test"


@pytest.fixture(scope="module")
def shop(stack: Stack) -> Iterator[Stack]:
    """Return the stack with the user's image as its processor, until these tests are over."""
    stack.build(TAG, SHOP, "Dockerfile")
    stack.set(EBS_IMAGE=TAG, EBS_PROJECT="shop.work")
    stack.up("--no-deps", "processing")
    yield stack
    stack.set(EBS_IMAGE=IMAGE, EBS_PROJECT="")
    stack.up("--no-deps", "processing")


def test_handler_uses_what_pip_and_uv_installed(shop: Stack) -> None:
    """Both install into the environment that the workers run in, without a word about where it is."""
    wanted = {"name": "order_lines", "content": "1234567"}
    answer = shop.http.post("/api/objects", json=wanted)
    assert 202 == answer.status_code, answer.text
    path = f"/api/objects/{answer.json()['id']}"
    until(lambda: shop.http.get(path).json().get("state") == "FINISHED", lambda: f"it is finished\n{shop.logs()}", 60)
    tasks = shop.http.get(f"{path}/tasks").json()["tasks"]
    assert ["Order Lines: 1,234,567"] * 3 == [task["result"] for task in tasks]


@pytest.mark.parametrize("installer", ["pip install", "uv pip install"])
def test_what_ebs_was_tested_with_cannot_change(shop: Stack, installer: str) -> None:  # noqa: ARG001  # it has the image
    """A dependency that wants another version of one of ours ends the build, instead of a worker some night."""
    argv = ["docker", "run", "--rm", "--network", "host", "--user", "root", TAG, *installer.split(), "aiokafka==0.12.0"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert 0 != done.returncode, done.stdout
    assert "0.14" in done.stdout + done.stderr, done.stderr


def test_user_of_the_image_is_not_root(shop: Stack) -> None:
    """And can change neither our code nor its own; uv leaves a lock that anybody may take."""
    (container,) = shop.containers("processing")
    assert "10001:10001" == shop.state(container)["Config"]["User"]
    argv = ["find", "/app", "/opt/ebs", "-writable", "-not", "-type", "l", "-not", "-path", "/opt/ebs/.lock"]
    assert "" == docker("run", "--rm", TAG, *argv)
