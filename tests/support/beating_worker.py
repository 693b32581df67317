"""A worker that does nothing but beat: the distribution role with `attach_heartbeat` and an agent that drops all."""

from __future__ import annotations

from typing import Any

from agents.heartbeat import attach_heartbeat
from agents.worker import create_worker_app, load_settings
from app.names import DISTRIBUTION, SEEN_TABLE

_settings = load_settings()
app = create_worker_app(DISTRIBUTION, _settings)
app.Table(SEEN_TABLE, partitions=_settings.partitions)
attach_heartbeat(app, _settings.names.workers)


@app.agent(app.input)
async def drop(stream: Any) -> None:
    """Take everything, do nothing."""
    async for step in app.transactions.steps(stream):
        async with step:
            pass
