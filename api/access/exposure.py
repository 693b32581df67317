"""Whether other machines can reach this process, according to its command line."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ebs.client.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

_HOST_OPTIONS = ("--host", "--bind", "-b")
"""Of uvicorn, and of gunicorn and hypercorn, which take HOST:PORT."""


def host_of(arguments: Sequence[str], default: str) -> str:
    """Return the host that the server's arguments (or uvicorn's UVICORN_HOST) say."""
    for number, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name not in _HOST_OPTIONS:
            continue
        if not value and argument == name and number + 1 < len(arguments):
            value = arguments[number + 1]
        if value or argument != name:
            return value if name == "--host" else _without_port(value)
    return os.environ.get("UVICORN_HOST") or default


def refusal_of(host: str, *, published_on: str, has_keys: bool, is_open: bool) -> str | None:
    """Return why an API must not start, None if it may: without keys only this machine may reach it.

    `published_on` is where a container's port is published, "" where the API is reached at `host`, as it listens.
    """
    reached_at = published_on or host
    if has_keys or is_open or is_loopback(reached_at):
        return None
    return (
        f"the API would be reachable on {reached_at or 'every address'} without keys: anyone there could submit, "
        "cancel and redrive. Set EBS_API_KEYS_WRITE (docs/how-to/secure-the-api.md), listen on 127.0.0.1, or set "
        "EBS_API_OPEN=true if something else keeps strangers out"
    )


def _without_port(address: str) -> str:
    host, colon, port = address.rpartition(":")
    return (host if colon and port.isdecimal() else address).strip("[]")
