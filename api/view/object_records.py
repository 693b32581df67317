"""How records of `objects` become rows of the view: the first record of an id is the object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.view.children import child_key
from api.view.forgotten import Forgotten
from api.view.rows import RECORD_PREFIX
from app.events import DECODE_ERRORS, ObjectCreated, decode_object
from app.rules.clocks import event_time_ms
from app.rules.placement import is_misplaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api.view.forgotten import Counted
    from api.view.object_index import Changes
    from api.view.store import ViewStore
    from api.view.write import Write

_Candidate = tuple[bytes, ObjectCreated, int]
"""A record that may be an object: as it is, decoded, and when it was written (epoch ms)."""


class ObjectRecords:
    """Takes in objects; fed by `View`.

    It leaves out objects that the ledger has forgotten, and records that are not in the partition of their id.
    """

    def __init__(self, topic: str, forgotten_before_ms: Callable[[], int]) -> None:
        self._topic = topic
        self._forgotten = Forgotten({}, forgotten_before_ms)
        self._partition_count = 0
        """How many partitions the topic has; 0: not known."""

    def load(self, store: ViewStore) -> None:
        """Start with the rows of a store."""
        layout = store.layout()
        self._partition_count = 0 if layout is None else layout.topics.get(self._topic, ("", 0))[1]
        self.leave_out(store.counted())

    def leave_out(self, counted: Counted) -> None:
        """From now on, leave out objects that are counted and have no row."""
        self._forgotten = self._forgotten._replace(counted=counted)

    def add(self, write: Write, partition: int, records: Sequence[Any]) -> None:
        """Take in records of a partition in the order of their offsets."""
        changes = write.changes
        first = self._candidates(changes, partition, records)
        put, add_created = write.batch.put, changes.add_created
        ids = list(first)
        # Whatever is known of an object gives it a place, which is read anyway: of most there is none, and so no
        # record.
        met = [
            object_id
            for object_id, place in zip(ids, changes.places(ids), strict=True)
            if place is not None and object_id not in changes.buried
        ]
        stored = write.get_many([RECORD_PREFIX + one for one in met]) if met else ()
        known = {object_id for object_id, record in zip(met, stored, strict=True) if record is not None}
        for object_id, (value, event, written_at_ms) in first.items():
            if object_id not in known:
                put(RECORD_PREFIX + object_id, value)
                key = child_key(event)
                if key is not None:
                    put(key, b"")
                add_created(object_id, partition, event_time_ms(event.at_ms, written_at_ms), event.kind)

    def _candidates(self, changes: Changes, partition: int, records: Sequence[Any]) -> dict[bytes, _Candidate]:
        """Return by id the first of these records that may be the object."""
        # The first record of an id is the object, as for distribution. A later one is a repetition or a conflict, which
        # the API that took it finds out by reading this row.
        first: dict[bytes, _Candidate] = {}
        doubtful: dict[bytes, _Candidate] = {}
        partition_count = self._partition_count
        counted_end = self._forgotten.counted.get(partition, 0)
        for record in records:
            value = record.value
            try:
                # The id inside counts: it is what every later event goes by, and an outside producer may forget the
                # key.
                event = decode_object(value)
            except DECODE_ERRORS:
                continue  # distribution sends it to the dead letters, where people find it
            if partition_count and is_misplaced(event.object_id, partition, partition_count):
                continue  # distribution moves it to its partition, where it comes again
            of = doubtful if record.offset < counted_end else first
            of.setdefault(event.object_id.encode(), (value, event, record.timestamp))
        if doubtful:
            # What is left out leaves a later record of the same id to be an object again.
            first |= _not_forgotten(doubtful, changes, self._forgotten)
        return first


def _not_forgotten(
    doubtful: dict[bytes, _Candidate], changes: Changes, forgotten: Forgotten
) -> dict[bytes, _Candidate]:
    """Return the records of counted objects that have not expired.

    Their rows, if they have any, were read before. Of the producer's `at_ms` and the record's timestamp the earlier one
    counts: an object from the future would never expire.
    """
    ids = list(doubtful)
    buried = changes.buried
    suspects = [
        (one, place) for one, place in zip(ids, changes.places(ids), strict=True) if place is None or one in buried
    ]
    before_ms = forgotten.before_ms()
    for object_id, place in suspects:
        _, event, written_at_ms = doubtful[object_id]
        is_due = object_id in buried or min(event.at_ms, written_at_ms) < before_ms
        if is_due and not changes.has_row(object_id, place):
            del doubtful[object_id]
    return doubtful
