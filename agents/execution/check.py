"""Says whether a processing worker that starts here could import its handlers: run by `ebs doctor`, on its own.

Importing a handler runs the user's code, so it happens in a process of its own: `ebs.start.command`. Its last line is
what there are functions for, as JSON: pairs of role and kind.
"""

from __future__ import annotations

import json
import sys

from agents.execution.loading import load_handlers
from app.errors import SettingsError
from app.settings.project import project_of
from app.settings.settings import load

if __name__ == "__main__":
    settings = load()
    try:
        load_handlers(settings)
    except SettingsError as error:
        sys.exit(f"doctor: {error}")
    project = project_of(settings)
    print(json.dumps(sorted((one.role, one.kind) for one in project or ())))  # noqa: T201  # its answer
