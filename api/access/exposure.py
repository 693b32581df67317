"""Whether strangers can reach this process, as far as its command line tells."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from api.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOST = "--host"


def host_of(arguments: Sequence[str], default: str) -> str:
    """Return the host that uvicorn's arguments (or its UVICORN_HOST) say."""
    for number, argument in enumerate(arguments):
        if argument == _HOST and number + 1 < len(arguments):
            return arguments[number + 1]
        if argument.startswith(f"{_HOST}="):
            return argument.partition("=")[2]
    return os.environ.get("UVICORN_HOST") or default


def warning_of(host: str, *, has_keys: bool) -> str | None:
    """Return what is to be said of an API that others can reach, None if nothing is."""
    if has_keys or is_loopback(host):
        return None
    return (
        f"the API listens on {host} without keys: whoever reaches it may submit, cancel and redrive. Set "
        "EBS_API_KEYS_WRITE (README, Security), or listen on 127.0.0.1"
    )
