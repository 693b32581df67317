"""Says whether a processing worker that starts here could import its handlers: run by `ebs doctor`, on its own.

Importing a handler runs the user's code, so it happens in a process of its own: `ebs.start.command`.
"""

from __future__ import annotations

import sys

from app.settings.settings.settings import load

from agents.execution.loading import load_handlers
from app.errors import SettingsError

if __name__ == "__main__":
    try:
        load_handlers(load())
    except SettingsError as error:
        sys.exit(f"doctor: {error}")
