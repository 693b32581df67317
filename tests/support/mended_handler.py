"""A handler for tests with real workers: whatever it depends on is down until a file says that it is mended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ebs import Context, Project


def at_once(_task: Any, _context: Any) -> None:
    """Finish."""


def mended(task: Any, _context: Any) -> str:
    """Finish if the file of MENDED_FILE is there."""
    if not Path(os.environ["MENDED_FILE"]).exists():
        raise ConnectionError(f"no connection for {task.task_id}")
    return "done"


def mended_producer(task: Any, context: Context) -> str:
    """Finish likewise, and submit an object and send a record."""
    done = mended(task, context)
    context.submit("leaf", tasks=1)
    context.send("sales", task.task_id, done)
    return done


project = Project()
project.task("*")(mended)

only_mails = Project()
"""Only mails need what is down."""
only_mails.task("*")(at_once)
only_mails.task("mail")(mended)

producing = Project()
"""Whatever is no leaf produces one."""
producing.task("*")(mended_producer)
producing.task("leaf", queue="side")(at_once)
