"""Two redrives of one dead letter at the same time make one run: the first request of each generation is recorded.

Table `redriven`: `app.rules.distribution.SeenKeys` (a bucket of stream time, then the task's identity) to the offset of
that request. Rows expire after a day of stream time, in the store and (by tombstones) in the changelog. A day is more
than enough: two redrives of one letter are only seconds apart, as far as the API's views of `dead-letters` differ.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agents.engine.event_fields import task_identity_of
from app.names import REDRIVEN_TABLE
from app.rules.distribution import SeenKeys, expired_keys

if TYPE_CHECKING:
    from agents.engine.lane import Lane, Ready
    from agents.engine.worker_lanes import WorkerLanes

log = logging.getLogger(__name__)

RETENTION_MS = 86_400_000
_EXPIRE_AT_ONCE = 2_000
"""Rows that go with one commit, so that the end of a bucket does not make one giant transaction."""


class RedrivenTasks:
    """Knows which redriven tasks have had their first request."""

    def __init__(self, lanes: WorkerLanes, retention_ms: int = RETENTION_MS) -> None:
        self._lanes = lanes
        self._keys = SeenKeys(retention_ms)

    def open(self, lane: Lane) -> None:
        """Go on with a lane's stream time where it was: if it went back, rows would be looked for in the past."""
        store = lane.partition.stores.get(REDRIVEN_TABLE)
        newest = store.last_key() if store is not None else None
        lane.stream_time_ms = self._keys.written_at_ms(newest) if newest else 0

    def is_repeated(self, ready: Ready) -> bool:
        """Return whether another record redrove this task in the same generation; the first one of each is noted."""
        lane, record, task, _ = ready
        if task.attempt > 1:
            return False
        identity = task_identity_of(task)
        mine = str(record.offset).encode()
        first = self._first(lane, identity)
        if first is None:
            key = self._keys.write_key(identity, lane.stream_time_ms)
            self._lanes.put(lane, REDRIVEN_TABLE, key, mine)
            return False
        if first != mine:
            log.info("%s was redriven twice: only one run counts", task.task_id)
        return first != mine

    def expire(self, lane: Lane) -> None:
        """Let go of rows whose time is over, some at a time; called now and then, cheap when there is nothing to do."""
        store = lane.partition.stores.get(REDRIVEN_TABLE)
        if store is None or lane.stream_time_ms < lane.expires_at_ms or lane.rows.changed(REDRIVEN_TABLE):
            return
        expired = expired_keys(store.keys(), self._keys, lane.stream_time_ms, _EXPIRE_AT_ONCE)
        for key in expired:
            self._lanes.put(lane, REDRIVEN_TABLE, key, None)
        if len(expired) < _EXPIRE_AT_ONCE:
            lane.expires_at_ms = self._keys.next_bucket_at_ms(lane.stream_time_ms)

    def _first(self, lane: Lane, identity: str) -> bytes | None:
        for key in self._keys.look_up_keys(identity, lane.stream_time_ms):
            first = lane.rows.get(REDRIVEN_TABLE, key)
            if first is not None:
                return first
        return None
