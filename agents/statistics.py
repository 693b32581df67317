"""The statistics: an object ledger and tumbling windows, in one step.

Reads: `objects`, `task-events` (co-partitioned: an object's records meet in one partition). Writes: the tables
`ledger`, `results`, `windows` and `expiry`, `dead-letters` (bad task events; the distributor buries bad objects). Key:
object id; a window's rows are one for each partition, readers add them up.
Guarantee: a window counts transitions of the ledger, not events, so neither a duplicate nor any order of events
changes a figure. A crash repeats the step: rows, windows and offsets commit together. An object is forgotten
EBS_LEDGER_RETENTION_H after its end, by stream time; an event that comes later is counted as that and changes nothing.
"""

from __future__ import annotations

from typing import Any

from agents.counting.bookkeeper import Bookkeeper
from agents.counting.pages import register_pages
from agents.health import register_health
from agents.heartbeat import attach_heartbeat
from agents.metrics import register_metrics
from agents.worker import create_worker_app, load_settings, tracing_of
from app.names import EXPIRY_TABLE, LEDGER_TABLE, RESULTS_TABLE, STATISTICS, WINDOWS_TABLE

_RECENT_OBJECTS = 3_000
"""Objects in the middle of their events, of each partition; a row of three tasks and its key take 700 bytes."""

_settings = load_settings()
app = create_worker_app(STATISTICS, _settings)
app.Table(
    LEDGER_TABLE,
    partitions=_settings.partitions,
    help="one row per object: what happened to it and its tasks",
    recent_rows=_RECENT_OBJECTS,
)
app.Table(RESULTS_TABLE, partitions=_settings.partitions, help="one row per task that has a result or an error")
app.Table(WINDOWS_TABLE, partitions=_settings.partitions, help="10 s tumbling windows by kind, and the totals")
app.Table(EXPIRY_TABLE, partitions=_settings.partitions, help="which ledger rows to look at when, to forget them")
register_pages(app)
attach_heartbeat(app, _settings.names.workers)
register_health(app)
register_metrics(app)
_bookkeeper = Bookkeeper(_settings)
_tracing = tracing_of(_settings, STATISTICS)


@app.agent(app.input)
async def statistics(stream: Any) -> None:
    """Count everything, once."""
    async for step in app.transactions.steps(stream):
        async with step:
            _bookkeeper.record(step)
            if _tracing is not None:
                for batch in step.batches:
                    _tracing.observe(batch.records, app.conf.id, step.began_at_ms)
