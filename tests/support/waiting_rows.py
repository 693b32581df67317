"""Rows of waiting tasks on the changelog of an API in memory."""

from __future__ import annotations

from typing import Any

from engine_bench import NOW_MS, request

from app.names import BARE, PROCESSING, WAITING_TABLE
from app.rules.waiting_rows import STARTED_VALUE, WaitingRow, encode_row, key_in_line, line_of, start_key, timed_key
from ebs.queues import DEFAULT_QUEUE


def put_waiting(
    api: Any,
    name: str,
    in_s: float,
    *,
    offset: int = 0,
    attempt: int = 1,
    kind: str = "mail",
    error: str = "",
    partition: int = 0,
    started: bool = False,
    in_line: bool = False,
    queue: str = DEFAULT_QUEUE,
) -> bytes:
    """Let the only task of an object wait for its time, or for its kind if `in_line`; returns the key of its row."""
    changelog = BARE.changelog(PROCESSING, WAITING_TABLE, queue)
    key = timed_key(NOW_MS + round(in_s * 1_000), offset, attempt)
    if in_line:
        key = key_in_line(line_of(kind), offset, attempt)
    value = request(name, attempt=attempt, kind=kind)
    row = encode_row(WaitingRow(NOW_MS, name.encode(), value, [], NOW_MS - 5_000, error))
    api.topics.write(changelog, partition, key, row)
    if started:
        api.topics.write(changelog, partition, start_key(key), STARTED_VALUE)
    return key
