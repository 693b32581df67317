"""How records become rows of the view's store: keys, and what each topic's records do (see `api.view.store`)."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from api.view.object_index import partition_bytes
from app.events import DECODE_ERRORS, ObjectCreated, decode_object
from app.rules.clocks import event_time_ms
from app.rules.counts import TOTAL_SIZE_MS
from app.rules.placement import is_misplaced
from app.streaming.offset_notes import NOTE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from api.view.forgotten import Forgotten
    from api.view.object_index import Changes, GetMany
    from app.names import Names

RECORD_PREFIX = b"o"
ROW_PREFIX = b"l"
RESULT_PREFIX = b"r"
_WINDOW_PREFIX = b"w"
_PARTITION_BYTES = 4
_SIZE_BYTES = 4

_Candidate = tuple[bytes, ObjectCreated, int]
"""A record that may be an object: as it is, decoded, and when it was written (epoch ms)."""

_log = logging.getLogger(__name__)


def read_topics(names: Names) -> tuple[str, ...]:
    """Return what the view reads."""
    return (names.objects, *compacted_topics(names), names.dead_letters, names.workers)


def compacted_topics(names: Names) -> tuple[str, ...]:
    """Return the topics whose tombstones take rows away that nothing else would.

    Workers that were killed are forgotten by time.
    """
    return (names.ledger_changelog, names.results_changelog, names.windows_changelog, names.control)


def window_prefix(size_ms: int | None = None) -> bytes:
    """Return how the keys of all windows begin, or of those of one size."""
    return _WINDOW_PREFIX if size_ms is None else _WINDOW_PREFIX + size_ms.to_bytes(_SIZE_BYTES, "big")


TOTALS_PREFIX = window_prefix(TOTAL_SIZE_MS)


def window_key_of(key: bytes) -> bytes:
    """Return the window's key (`encode_window_key`) of a stored row's."""
    return key[len(_WINDOW_PREFIX) : -_PARTITION_BYTES]


def rows_of(records: Sequence[Any]) -> list[Any]:
    """Return the records of a changelog that are rows; workers leave a note in it, too."""
    return [record for record in records if record.key != NOTE_KEY]


def decode_object_or_none(value: bytes | None) -> ObjectCreated | None:
    """Return an object's record, if there is one."""
    return None if value is None else decode_object(value)


def add_records(
    batch: Any,
    changes: Changes,
    topic: str,
    partition: int,
    records: Sequence[Any],
    *,
    names: Names,
    get_many: GetMany,
    forgotten: Forgotten,
    object_partitions: int,
) -> None:
    """Put what one topic's records say into a write batch, where no module of its own does; objects into `changes`.

    `get_many` reads the store; objects that are `forgotten` are left out, and records that are not in the one of the
    `object_partitions` that their id belongs into (0: not known).
    """
    if topic == names.objects:
        place = Place(partition, object_partitions)
        _add_objects(batch, changes, place, records, get_many=get_many, forgotten=forgotten)
    else:
        _adders(names)[topic](batch, changes, partition, rows_of(records))


class Place(NamedTuple):
    """A partition of `objects`, and how many there are (0: not known)."""

    partition: int
    partition_count: int


def _add_objects(
    batch: Any, changes: Changes, place: Place, records: Sequence[Any], *, get_many: GetMany, forgotten: Forgotten
) -> None:
    # The first record of an id is the object, as for distribution. A later one is a repetition or a conflict, which
    # the API that took it finds out by reading this row.
    first: dict[bytes, _Candidate] = {}
    doubtful: dict[bytes, _Candidate] = {}
    partition, partition_count = place
    counted_end = forgotten.counted.get(partition, 0)
    for record in records:
        value = record.value
        try:
            # The id inside counts: it is what every later event goes by, and an outside producer may forget the key.
            event = decode_object(value)
        except DECODE_ERRORS:
            continue  # distribution sends it to the dead letters, where people find it
        if partition_count and is_misplaced(event.object_id, partition, partition_count):
            continue  # distribution moves it to its partition, where it comes again
        of = doubtful if record.offset < counted_end else first
        of.setdefault(event.object_id.encode(), (value, event, record.timestamp))
    if doubtful:
        # What is left out leaves a later record of the same id to be an object again.
        first |= _not_forgotten(doubtful, changes, forgotten)
    put, add_created = batch.put, changes.add_created
    ids = list(first)
    # Whatever is known of an object gives it a place, which is read anyway: of most there is none, and so no record.
    met = [
        object_id
        for object_id, place in zip(ids, changes.places(ids), strict=True)
        if place is not None and object_id not in changes.buried
    ]
    known = {
        object_id
        for object_id, stored in zip(met, get_many([RECORD_PREFIX + one for one in met]) if met else (), strict=True)
        if stored is not None
    }
    for object_id, (value, event, written_at_ms) in first.items():
        if object_id not in known:
            put(RECORD_PREFIX + object_id, value)
            add_created(object_id, partition, event_time_ms(event.at_ms, written_at_ms), event.kind)


def _not_forgotten(
    doubtful: dict[bytes, _Candidate], changes: Changes, forgotten: Forgotten
) -> dict[bytes, _Candidate]:
    """Return those of the records of counted objects that are of an object still.

    Their rows, if they have any, were read before. Of an outside producer's clock and the one that stamped the record
    the one that is behind counts: an object from the future would be one for ever.
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


def _add_ledger_rows(batch: Any, changes: Changes, partition: int, records: Sequence[Any]) -> None:
    put, delete, add_row = batch.put, batch.delete, changes.add_row
    packed = partition_bytes(partition)
    for record in records:
        key, value = record.key, record.value
        if value is None:
            delete(ROW_PREFIX + key)
            # Nothing else would ever remove the object itself: its topic drops records without a word.
            delete(RECORD_PREFIX + key)
        else:
            put(ROW_PREFIX + key, value)
        add_row(key, packed, value)


def _add_results(batch: Any, _changes: Changes, _partition: int, records: Sequence[Any]) -> None:
    for record in records:
        if record.value is None:
            batch.delete(RESULT_PREFIX + record.key)
        else:
            batch.put(RESULT_PREFIX + record.key, record.value)


def _add_windows(batch: Any, _changes: Changes, partition: int, records: Sequence[Any]) -> None:
    suffix = partition.to_bytes(_PARTITION_BYTES, "big")
    for record in records:
        key = _WINDOW_PREFIX + record.key + suffix
        if record.value is None:
            batch.delete(key)
        else:
            batch.put(key, record.value)


@cache
def _adders(names: Names) -> dict[str, Callable[[Any, Changes, int, Sequence[Any]], None]]:
    return {
        names.ledger_changelog: _add_ledger_rows,
        names.results_changelog: _add_results,
        names.windows_changelog: _add_windows,
    }
