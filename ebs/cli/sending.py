"""Sends objects to the API in pieces, and sends again what it did not take: a busy or absent broker costs time only."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ebs.cli.client import ApiError, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ebs.cli.client import ApiClient

LINES_PER_REQUEST = 1_000
MAX_COUNT = 100_000
"""Objects that one `?count=` makes."""

_TRIES = 5
_PAUSE_S = 2.0
_ACCEPTED = 202
_BUSY = frozenset({429, 503})
_UNKNOWN = "urn:ebs:problem:outcome-unknown"


class Sent(NamedTuple):
    """What became of all that was sent: ids that were accepted, and the results of what was not."""

    ids: list[str]
    refused: list[dict[str, Any]]


def send_one(client: ApiClient, fields: dict[str, Any], key: str | None) -> dict[str, Any]:
    """Submit one object; returns the answer. Raises `ApiError`."""
    answer: dict[str, Any] = _patiently(lambda named: client.post(path_of("objects"), fields | named, key=key))
    return answer


def send_count(client: ApiClient, fields: dict[str, Any], count: int, key: str | None) -> Iterator[list[str]]:
    """Submit many objects of one payload; yields their ids, call by call. Raises `ApiError`.

    A call that fails with objects stored is not sent again without a key: it would make others.
    """
    for number, start in enumerate(range(0, count, MAX_COUNT)):
        size = min(MAX_COUNT, count - start)
        piece_key = _piece_of(key, number, whole=count <= MAX_COUNT)
        yield client.post(path_of("objects"), fields, key=piece_key, count=size)["ids"]


def send_lines(client: ApiClient, lines: Iterable[bytes], key: str | None) -> Iterator[Sent]:
    """Submit lines of NDJSON; yields what became of them, request by request. Raises `ApiError`."""
    first_line = 1
    for number, piece in enumerate(_pieces(lines)):
        yield _send_piece(client, piece, None if key is None else f"{key}/{number}", first_line)
        first_line += len(piece)


def _send_piece(client: ApiClient, piece: list[bytes], key: str | None, first_line: int) -> Sent:
    """Send lines; those that the broker did not take once more, those of unknown outcome with the id they got."""
    ids: dict[int, str] = {}
    refused: list[dict[str, Any]] = []
    waiting = [(number, line) for number, line in enumerate(piece) if line.strip()]
    for tries_left in reversed(range(_TRIES)):
        body = b"".join(line.strip() + b"\n" for _, line in waiting)
        try:
            results = client.post_lines(path_of("objects", "batch"), body, key=key)[:-1]
        except ApiError as error:
            if error.problem.get("status") not in _BUSY or not tries_left:
                raise
            time.sleep(_PAUSE_S if error.retry_after_s is None else error.retry_after_s)
            continue
        again = []
        for (number, line), result in zip(waiting, results, strict=False):
            if result["status"] == _ACCEPTED:
                ids[number] = result["id"]
            elif result["status"] in _BUSY and tries_left:
                # With a key the API makes the id of a line's place in the request, which changes now.
                again.append((number, _with_id(line, result["id"]) if key or result["type"] == _UNKNOWN else line))
            else:
                refused.append({**result, "line": first_line + number})
        if not again:
            break
        waiting = again
        time.sleep(_PAUSE_S)
    return Sent([ids[number] for number in sorted(ids)], refused)


def _with_id(line: bytes, object_id: str) -> bytes:
    fields = json.loads(line)
    fields.setdefault("id", object_id)
    return json.dumps(fields).encode()


def _patiently(send: Callable[[dict[str, Any]], Any]) -> Any:
    """Send until it is taken or refused for good; an unknown outcome is repeated as the answer says."""
    named: dict[str, Any] = {}
    for tries_left in reversed(range(_TRIES)):
        try:
            return send(named)
        except ApiError as error:
            if error.problem.get("status") not in _BUSY or not tries_left:
                raise
            named = error.problem.get("retry_with") or named
            time.sleep(_PAUSE_S if error.retry_after_s is None else error.retry_after_s)
    raise AssertionError("the last try returns or raises")


def _pieces(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest = iter(lines)
    while piece := list(itertools.islice(rest, LINES_PER_REQUEST)):
        yield piece


def _piece_of(key: str | None, number: int, *, whole: bool) -> str | None:
    return key if key is None or whole else f"{key}/{number}"
