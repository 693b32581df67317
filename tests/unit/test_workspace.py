"""The directory of a process's stores: its own while it lives, however many start at once."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from app.errors import StoreFailed
from app.streaming.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 8
ROUNDS = 50


def test_those_who_start_at_once_leave_each_other_alone(tmp_path):
    """Nobody sweeps a directory between the moment it is made and the moment it is locked."""
    together = Barrier(WORKERS, timeout=60)

    def start(number: int) -> list[Path]:
        made = []
        for turn in range(ROUNDS):
            workspace = Workspace(tmp_path / str(turn), f"worker-{number}")
            together.wait()
            made.append(workspace.path)
            made[-1].joinpath("row").touch()
        return made

    with ThreadPoolExecutor(WORKERS) as pool:
        paths = [path for made in pool.map(start, range(WORKERS)) for path in made]
    assert [] == [path for path in paths if not path.joinpath("row").exists()]


def test_what_a_dead_process_left_is_swept(tmp_path):
    """What a living one has, or what is no directory, is not."""
    dead = tmp_path / "worker-1"
    dead.mkdir()
    (dead / "row").touch()
    (tmp_path / "file").touch()
    first, second = Workspace(tmp_path, "first"), Workspace(tmp_path, "second")
    assert [f"first-{os.getpid()}", f"second-{os.getpid()}"] == [first.path.name, second.path.name]
    assert {first.path, second.path, tmp_path / "file"} == set(tmp_path.iterdir())


def test_folder_that_cannot_be_made_names_the_setting(tmp_path):
    """A file in its way here; a disk that cannot be written ends a worker in the same way."""
    (tmp_path / "data").touch()
    with pytest.raises(StoreFailed, match=r"tables cannot be kept in .*/data/stores .*EBS_DATA_DIR"):
        _ = Workspace(tmp_path / "data" / "stores", "worker-1").path
