"""An API whose view stops fetching as soon as a file says so, while the broker is fine. For tests only.

It runs as `uvicorn stalled_api:http_app`; STALLED_MARKER is the path of the file.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer

MARKER = Path(os.environ["STALLED_MARKER"])

_start = AIOKafkaConsumer.start


async def start(self: Any) -> None:
    """Start, and let the view's consumer be watched."""
    await _start(self)
    if self._client._client_id == "ebs-api-view":
        freeze_when_told(self)


def freeze_when_told(consumer: Any) -> None:
    """End the consumer's fetch loop once the file is there."""
    if MARKER.exists():
        consumer._fetcher._fetch_task.cancel()
    else:
        asyncio.get_running_loop().call_later(0.05, freeze_when_told, consumer)


AIOKafkaConsumer.start = start

from api.main import http_app  # noqa: E402  # made at import, so after the sabotage

__all__ = ["http_app"]
