"""Says whether a processing worker that starts here could import its handlers (`ebs.local.project_check` asks).

Importing a handler runs the user's code, so it happens in a process of its own: `ebs.start.command`. It writes one JSON
object: why the project is refused (or null), what there are functions for, as pairs of role and kind, which files
that look like tests are part of the project after all, and the queue of each kind.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from agents.execution.loading import load_handlers
from app.errors import SettingsError
from app.process.test_files import imported_tests
from app.settings.project import project_of
from app.settings.settings import load

if __name__ == "__main__":
    # What a user's code prints, as late as at the exit of this process, must not get into the answer.
    answer, sys.stdout = sys.stdout, sys.stderr
    refusal, project, queues = None, None, {}
    try:
        settings = load()
        load_handlers(settings)
        project = project_of(settings)
        queues = {} if project is None else project.queues
    except SettingsError as error:
        refusal = str(error)
    functions = sorted((one.role, one.kind) for one in project or ())
    tests = imported_tests(Path.cwd())
    json.dump({"refusal": refusal, "functions": functions, "imported_tests": tests, "queues": queues}, answer)
