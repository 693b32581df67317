"""The processors: competing workers that run a handler on each task.

Reads: `task-requests`. Writes: `task-events` (TASK_STARTED, TASK_FINISHED, TASK_FAILED, TASK_DEAD), `dead-letters`.
Key: events go to the partition of their object, as the request says.
Guarantee: a handler runs at least once, its result counts exactly once. A crash runs the unfinished tasks again, and
only those; a task that had started says so once. A request that cannot be read goes to the dead letters.
"""

from __future__ import annotations

from typing import Any

from agents.engine import Engine
from agents.handlers import default_handler
from app.topics import PROCESSING_APP, TASK_REQUESTS
from app.worker import create_worker_app, load_settings

_settings = load_settings()
app = create_worker_app(PROCESSING_APP, _settings, input_topics=[TASK_REQUESTS])


@app.agent(app.input)
async def processing(stream: Any) -> None:
    """Work tasks off."""
    engine = Engine(
        app.transactions,
        default_handler(_settings.process_time),
        topic=TASK_REQUESTS,
        partition_count=_settings.partitions,
        concurrency=_settings.concurrency,
        commit_interval_s=_settings.commit_interval_ms / 1000,
        worker=app.worker_name,
    )

    async def drain() -> None:
        await engine.drain(_settings.drain_s)

    app.drain = drain
    await engine.run(stream)
