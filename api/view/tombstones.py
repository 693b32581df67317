"""Whether a view can have missed tombstones: compaction removes them some time after they were written.

A store that was not used for longer than that would keep the rows of expired objects, expired windows and undone
commands for ever, because the topics no longer say that they are gone. So a store records the last instant at which it
was complete. If that instant is too long ago, the store is rebuilt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.kafka.admin import read_topic_configs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.view.store import ViewStore

_NAME = "delete.retention.ms"
_KAFKA_DEFAULT_MS = 86_400_000
_SAFE_SHARE = 0.9  # the store still has to catch up, and compaction continues meanwhile
_NOTES_PER_PERIOD = 1_000
_FLUSHES_PER_PERIOD = 24
_HICCUP_MS = 60_000


class TombstonesMissed(Exception):
    """The view was not up to date for longer than tombstones are kept."""


async def read_tombstones_kept_ms(admin: Any, topics: Sequence[str]) -> int:
    """Return the shortest time for which one of these compacted topics keeps tombstones.

    If our user may not read the configuration of a topic, Kafka's default counts.
    """
    configs = await read_topic_configs(admin, topics, (_NAME,))
    kept_ms = [int(configs.get(name, {}).get(_NAME, _KAFKA_DEFAULT_MS)) for name in topics]
    return int(min(kept_ms, default=_KAFKA_DEFAULT_MS) * _SAFE_SHARE)


class Continuity:
    """Records in the store the instant at which it was complete, as long as it cannot have missed a tombstone.

    `kept_ms` is how long tombstones are kept.
    """

    def __init__(self, store: ViewStore, kept_ms: int) -> None:
        self._store = store
        self._kept_ms = max(kept_ms, _HICCUP_MS)
        self._noted_ms = self._flushed_ms = self._whole_ms = store.whole_ms()
        self._has_caught_up = False

    def note(self, whole_ms: int | None) -> None:
        """Record a newer instant (epoch ms) at which the view was complete, if there is one.

        Raises `TombstonesMissed` if the previous one is too long ago: this process or the broker was away meanwhile.
        """
        if whole_ms is None or whole_ms <= self._whole_ms:
            return
        # Not while a store is read for the first time, or on: however long that takes, once more would take as long.
        if self._has_caught_up and whole_ms - self._whole_ms > self._kept_ms:
            raise TombstonesMissed
        self._has_caught_up = True
        self._whole_ms = whole_ms
        if whole_ms - self._noted_ms >= self._kept_ms / _NOTES_PER_PERIOD:
            # Now and then is enough: it only has to be much less than the period.
            self._store.keep_whole(whole_ms)
            self._noted_ms = whole_ms
        if whole_ms - self._flushed_ms >= self._kept_ms / _FLUSHES_PER_PERIOD:
            # Without a write-ahead log a kill would throw a system of little traffic back by days.
            self._store.keep_whole(whole_ms)
            self._store.flush()
            self._flushed_ms = whole_ms
