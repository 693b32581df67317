"""The keys of the view's rows (see `api.view.store`), and what ledger rows and results do to them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from api.view.children import child_keys_of
from api.view.object_index import partition_bytes
from app.events import decode_object
from app.names import PROCESSING, STATISTICS, WAITING_TABLE
from app.rules.counts import TOTAL_SIZE_MS
from app.rules.table_rows import why_no_row
from app.streaming.offset_notes import NOTE_KEY
from app.telemetry.quiet_log import Alike, alike_before
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from api.view.write import Write
    from app.events import ObjectCreated
    from app.names import Names

Fold = Callable[["Write", int, "Sequence[Any]"], None]
"""Takes the records of one topic and partition into a write, in the order of their offsets."""

RECORD_PREFIX = b"o"
ROW_PREFIX = b"l"
RESULT_PREFIX = b"r"
_WINDOW_PREFIX = b"w"
_PARTITION_BYTES = 4
_SIZE_BYTES = 4
_SILENCE_S = 60.0

_log = logging.getLogger(__name__)
_alike = Alike(_SILENCE_S)


def waiting_changelogs(names: Names, queues: Iterable[str]) -> dict[str, str]:
    """Return by queue the changelog of its table of waiting tasks."""
    return {queue: names.changelog(PROCESSING, WAITING_TABLE, queue) for queue in queues}


def read_topics(names: Names, queues: Iterable[str] = (DEFAULT_QUEUE,)) -> tuple[str, ...]:
    """Return the topics that the view of a system with these queues reads."""
    return (names.objects, *compacted_topics(names, queues), names.dead_letters, names.workers)


def compacted_topics(names: Names, queues: Iterable[str] = (DEFAULT_QUEUE,)) -> tuple[str, ...]:
    """Return the topics whose tombstones take rows away that nothing else would.

    Workers that were killed are forgotten by time.
    """
    rows = (names.ledger_changelog, names.results_changelog, names.windows_changelog, names.schedules_changelog)
    return (*rows, *waiting_changelogs(names, queues).values(), names.control, names.schedules)


def window_prefix(size_ms: int | None = None) -> bytes:
    """Return the prefix of the keys of all windows, or of the windows of one size."""
    return _WINDOW_PREFIX if size_ms is None else _WINDOW_PREFIX + size_ms.to_bytes(_SIZE_BYTES, "big")


TOTALS_PREFIX = window_prefix(TOTAL_SIZE_MS)


def window_row_key(window_key: bytes, partition: int) -> bytes:
    """Return the key of a stored row: that of its window (`encode_window_key`), and the partition."""
    return _WINDOW_PREFIX + window_key + partition.to_bytes(_PARTITION_BYTES, "big")


def window_key_of(key: bytes) -> bytes:
    """Return the window's key of a stored row's."""
    return key[len(_WINDOW_PREFIX) : -_PARTITION_BYTES]


def of_rows(topic: str, table: str, fold: Fold) -> Fold:
    """Return the fold of a table's changelog, from that of its rows.

    Workers leave a note in it, too. What is no row, as another program writes it, is passed over: the view shows the
    row that was there before.
    """

    def is_row(partition: int, record: Any) -> bool:
        why = why_no_row(table, record.key, record.value)
        if why:
            _tell(f"{topic}-{partition}", record.offset, why)
        return not why

    def fold_rows(write: Write, partition: int, records: Sequence[Any]) -> None:
        fold(write, partition, [record for record in records if record.key != NOTE_KEY and is_row(partition, record)])

    return fold_rows


def _tell(place: str, offset: int, why: str) -> None:
    untold_count = _alike.untold_before(place, time.monotonic())
    if untold_count is not None:
        text = (
            "%s@%d is no row (%s) and is passed over. Another program has written it, and %s refuses to start with it "
            "(docs/how-to/lost-offsets.md)%s"
        )
        _log.error(text, place, offset, why, STATISTICS, alike_before(untold_count))


def decode_object_or_none(value: bytes | None) -> ObjectCreated | None:
    """Return an object's record, if there is one."""
    return None if value is None else decode_object(value)


def add_ledger_rows(write: Write, partition: int, records: Sequence[Any]) -> None:
    """Take in rows of the ledger, and tombstones."""
    put, delete, add_row = write.batch.put, write.batch.delete, write.changes.add_row
    forgotten = [RECORD_PREFIX + record.key for record in records if record.value is None]
    for key in child_keys_of(write.get_many(forgotten)) if forgotten else ():
        delete(key)
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


def add_results(write: Write, _partition: int, records: Sequence[Any]) -> None:
    """Take in results and errors of tasks, and tombstones."""
    for record in records:
        write.set(RESULT_PREFIX + record.key, record.value)


def add_letters(write: Write, partition: int, records: Sequence[Any]) -> None:
    """Apply records of dead letters, and of acts on them."""
    write.letters.add(partition, records)
