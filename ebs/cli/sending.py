"""Sends objects to the API in pieces. Each object has an id or a key, so what fails is sent again and stored once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ebs.cli.client import path_of
from ebs.client.batches import BatchLine, Fates, pieces_of, send_piece
from ebs.client.bodies import new_object_id
from ebs.client.errors import ApiUnreachable
from ebs.client.operations import submit_body
from ebs.client.steps import CallPolicy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebs.cli.client import ApiClient

MAX_COUNT = 100_000
"""Objects that one `?count=` makes."""

POLICY = CallPolicy(retries=4, fatal=(ApiUnreachable,))
"""A busy or absent broker costs time only; an API that is not there is told to the person at once."""


class Sent(NamedTuple):
    """What became of all that was sent: ids that were accepted, and the results of what was not."""

    ids: list[str]
    refused: list[dict[str, Any]]


def send_one(client: ApiClient, fields: dict[str, Any], key: str | None) -> str:
    """Submit one object; returns its id. Raises `ApiError`."""
    object_id = new_object_id() if key is None else None
    body = fields if object_id is None else fields | {"id": object_id}
    return client.run(submit_body(POLICY, msgspec.json.encode(body), object_id, key)).id


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
    for piece in pieces_of(_named(lines, key)):
        fates = Fates()
        client.run(send_piece(POLICY, piece, fates))
        refused = [msgspec.to_builtins(one) | {"line": one.index + 1} for _, one in sorted(fates.refused.items())]
        yield Sent([object_id for _, object_id in sorted(fates.accepted.items())], refused)


def _named(lines: Iterable[bytes], key: str | None) -> Iterator[BatchLine]:
    """Yield the lines that are not empty, each with an id or a key; what is no object is left to the API."""
    for number, line in enumerate(lines):
        text = line.strip()
        if not text:
            continue
        try:
            fields = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield BatchLine(number, None, text + b"\n")
            continue
        if not {"id", "idempotency_key"} & fields.keys():
            name, value = ("id", new_object_id()) if key is None else ("idempotency_key", f"{key}/{number}")
            fields[name] = msgspec.Raw(msgspec.json.encode(value))
            text = msgspec.json.encode(fields)
        yield BatchLine(number, None, text + b"\n")


def _piece_of(key: str | None, number: int, *, whole: bool) -> str | None:
    return key if key is None or whole else f"{key}/{number}"
