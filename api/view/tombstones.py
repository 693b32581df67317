"""Whether a view can have missed tombstones: compaction takes them away a while after they were written.

A store that nobody read on for longer would keep the rows of forgotten objects, of expired windows and of revoked
commands for ever: nothing in the topics tells any more that they are gone. So a store remembers the last instant of
which it held everything, and one that has fallen too far behind that is built anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.kafka.admin import read_topic_configs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.view.store import ViewStore

_NAME = "delete.retention.ms"
_KAFKA_DEFAULT_MS = 86_400_000
_SAFE_SHARE = 0.9  # what is behind still has to be read, and tombstones go on being taken away meanwhile
_NOTES_PER_PERIOD = 1_000
_FLUSHES_PER_PERIOD = 24
_HICCUP_MS = 60_000


class TombstonesMissed(Exception):
    """The view stood still for longer than tombstones are kept."""


async def read_tombstones_kept_ms(admin: Any, topics: Sequence[str]) -> int:
    """Return how long compacted topics surely keep tombstones, of these the one that keeps them the shortest.

    Kafka's default counts for a topic whose configuration our user may not read.
    """
    configs = await read_topic_configs(admin, topics, (_NAME,))
    kept_ms = [int(configs.get(name, {}).get(_NAME, _KAFKA_DEFAULT_MS)) for name in topics]
    return int(min(kept_ms, default=_KAFKA_DEFAULT_MS) * _SAFE_SHARE)


class Continuity:
    """Notes in the store of which instant it holds everything, as long as no tombstone can have been missed.

    `kept_ms` is how long tombstones are kept.
    """

    def __init__(self, store: ViewStore, kept_ms: int) -> None:
        self._store = store
        self._kept_ms = max(kept_ms, _HICCUP_MS)
        self._noted_ms = self._flushed_ms = self._whole_ms = store.whole_ms()
        self._has_caught_up = False

    def note(self, whole_ms: int | None) -> None:
        """Take in an instant (epoch ms) of which the view holds everything, if there is news of one.

        Raises `TombstonesMissed` if the one before is too long ago: this process, or the broker, was away meanwhile.
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
