"""What a record of a changelog must look like to be a row of its table.

Only workers write to changelogs. A record that is no row comes from another program, or from another version of this
one. A worker that met it in a step would end again and again, and a key from the future would move a table's time. So
a restore checks each record, the read view and the recount pass over what is no row, and
`ebs offsets reset --to committed` puts back the row that was there before.
"""

from __future__ import annotations

import msgspec

from app.errors import DecodeError
from app.names import (
    EXPIRY_TABLE,
    LEDGER_TABLE,
    REDRIVEN_TABLE,
    RESULTS_TABLE,
    SCHEDULES_TABLE,
    SEEN_TABLE,
    WAITING_TABLE,
    WINDOWS_TABLE,
)
from app.rules import schedule_rows
from app.rules.counts import HOUR_MS, MINUTE_MS, TOTAL_SIZE_MS, WINDOW_MS, decode_counts, decode_window_key
from app.rules.distribution import SeenKeys
from app.rules.ledger_expiry import (
    ENTRIES_FROM,
    TIMES_KEY,
    TOLD_TO_KEY,
    decode_ids,
    decode_times,
    decode_told_to,
    encode_told_to,
    entry_key,
)
from app.rules.ledger_rows import decode_row
from app.rules.results import decode_result_row, result_key, unpack_result_key
from app.rules.waiting_rows import is_row

_WINDOW_SIZES_MS = {TOTAL_SIZE_MS, WINDOW_MS, MINUTE_MS, HOUR_MS}


def why_no_row(table: str, key: bytes | None, value: bytes | None) -> str:
    """Return why a record of a table's changelog is no row of it, "" if it is one; a tombstone always is."""
    if not key:
        return "it has no key"
    if value is None:
        return ""
    try:
        _CHECKS[table](key, value)
    except (ValueError, OverflowError, RecursionError, DecodeError, msgspec.DecodeError) as error:
        return str(error)
    return ""


def _check_seen(key: bytes, value: bytes) -> None:
    if value != b"1":
        raise ValueError("its value is not 1")
    _check_key(SeenKeys.has_id(key))


def _check_redriven(key: bytes, value: bytes) -> None:
    if not value.isdigit():
        raise ValueError("its value is no offset")
    _check_key(SeenKeys.has_id(key))


def _check_waiting(key: bytes, value: bytes) -> None:
    _check_key(is_row(key, value))


def _check_schedules(key: bytes, value: bytes) -> None:
    _check_key(schedule_rows.is_row(key, value))


def _check_ledger(key: bytes, value: bytes) -> None:
    key.decode()
    decode_row(value)


def _check_results(key: bytes, value: bytes) -> None:
    _check_key(key == result_key(*unpack_result_key(key)))
    decode_result_row(value)


def _check_windows(key: bytes, value: bytes) -> None:
    _check_key(decode_window_key(key).size_ms in _WINDOW_SIZES_MS)
    decode_counts(value)


def _check_expiry(key: bytes, value: bytes) -> None:
    if key == TIMES_KEY:
        decode_times(value)
    elif key == TOLD_TO_KEY:
        _check_key(encode_told_to(decode_told_to(value)) == value)
    else:
        _check_key(key.startswith(ENTRIES_FROM) and len(key) == len(entry_key(0, (0, 0), 0)))
        decode_ids(value)


def _check_key(is_right: bool) -> None:  # noqa: FBT001  # the one thing that it asks
    if not is_right:
        raise ValueError("its key is none of the table's")


_CHECKS = {
    SEEN_TABLE: _check_seen,
    REDRIVEN_TABLE: _check_redriven,
    WAITING_TABLE: _check_waiting,
    SCHEDULES_TABLE: _check_schedules,
    LEDGER_TABLE: _check_ledger,
    RESULTS_TABLE: _check_results,
    WINDOWS_TABLE: _check_windows,
    EXPIRY_TABLE: _check_expiry,
}
