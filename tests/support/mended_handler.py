"""A handler for tests with real workers: whatever it depends on is down until a file says that it is mended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ebs import Project


def at_once(_task: Any, _context: Any) -> None:
    """Finish."""


def mended(task: Any, _context: Any) -> str:
    """Finish if the file of MENDED_FILE is there."""
    if not Path(os.environ["MENDED_FILE"]).exists():
        raise ConnectionError(f"no connection for {task.task_id}")
    return "done"


project = Project()
project.task("*")(mended)

only_mails = Project()
"""Only mails need what is down."""
only_mails.task("*")(at_once)
only_mails.task("mail")(mended)
