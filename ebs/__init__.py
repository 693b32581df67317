"""What the users of ebs import: everything that a handler is made of.

The names come from `agents.handlers` at their first use. Every Python of the environment imports this file at its start
(`ebs/start.py`), so it imports nothing itself.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agents.handlers import Context, Reject, Retry, Task, cpu_bound, inline

__all__ = ["Context", "Reject", "Retry", "Task", "cpu_bound", "inline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("agents.handlers"), name)
