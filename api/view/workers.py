"""The workers, as the view knows them: the last heartbeat of each, in memory and in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from app.rules.worker_heartbeats import Heartbeat, decode_heartbeat, is_gone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.view.store import ViewStore
    from api.view.write import Write

HEARTBEAT_PREFIX = b"h"
_FORGOTTEN_AFTER_MS = 3_600_000
"""As long as the topic keeps the last word of a worker that was killed."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, bytes]).decode


class HeardWorker(NamedTuple):
    """The last heartbeat of a worker, and its timestamp from the broker (epoch ms)."""

    at_ms: int
    heartbeat: Heartbeat


class Workers:
    """The last word of each worker; fed by `View`."""

    def __init__(self) -> None:
        self._heard: dict[bytes, HeardWorker] = {}
        self._newest_at_ms = 0

    def load(self, store: ViewStore) -> None:
        """Start with the rows of a store."""
        self._heard.clear()
        self._newest_at_ms = 0
        for key, row in store.newest_first(HEARTBEAT_PREFIX):
            self._hear(key[len(HEARTBEAT_PREFIX) :], *_decode(row))

    def add(self, write: Write, _partition: int, records: Sequence[Any]) -> None:
        """Take in records, and put them into the write that moves the view's offset."""
        for record in records:
            key = record.key
            if key is None:
                continue
            if record.value is None:
                self._heard.pop(key, None)
                write.set(HEARTBEAT_PREFIX + key, None)
            elif self._hear(key, record.timestamp, record.value):
                write.set(HEARTBEAT_PREFIX + key, _encode((record.timestamp, record.value)))
        self._forget(write)

    def alive(self, now_ms: int) -> list[HeardWorker]:
        """Return the workers that are not gone, by role and name."""
        alive = [heard for heard in self._heard.values() if not is_gone(heard.at_ms, now_ms)]
        return sorted(alive, key=lambda heard: (heard.heartbeat.role, heard.heartbeat.worker))

    def _hear(self, key: bytes, at_ms: int, value: bytes) -> bool:
        heartbeat = decode_heartbeat(value)
        if heartbeat is None:
            return False
        self._heard[key] = HeardWorker(at_ms, heartbeat)
        self._newest_at_ms = max(self._newest_at_ms, at_ms)
        return True

    def _forget(self, write: Write) -> None:
        """Drop workers that were killed long ago: without EBS_WORKER_ID each start of a worker has a new name."""
        oldest_at_ms = self._newest_at_ms - _FORGOTTEN_AFTER_MS
        for key in [key for key, heard in self._heard.items() if heard.at_ms < oldest_at_ms]:
            del self._heard[key]
            write.set(HEARTBEAT_PREFIX + key, None)
