"""Submits many objects, in pieces of NDJSON. Each object has an id, so what fails is sent again and stored once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ebs.client.answers import RefusedObject, Submitted
from ebs.client.bodies import NewObject, body_of, chosen_id
from ebs.client.errors import ApiError, SubmitFailed
from ebs.client.segments import api_path
from ebs.client.steps import ApiCall, PauseFor, call, pause_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ebs.client.steps import CallPolicy, Steps

_LINES_A_PIECE = 1_000
_BYTES_A_PIECE = 4 * 1_048_576
_NDJSON = {"Content-Type": "application/x-ndjson"}
_ACCEPTED = 202
_BUSY = frozenset({429, 503})


class BatchLine(NamedTuple):
    """An object as it is sent: its number among all, its id (None: its key makes it), its JSON."""

    number: int
    object_id: str | None
    body: bytes


class _Result(msgspec.Struct):
    """One line of the answer; the last one has a summary instead."""

    index: int = -1
    status: int = 0
    id: str | None = None
    type: str = ""
    detail: str = ""
    errors: list[dict[str, str]] = []


_BROKEN_OFF = _Result(status=503, detail="the answer broke off before it told of this object")
_decode_result = msgspec.json.Decoder(_Result).decode


def submit_many(policy: CallPolicy, wanted: Iterable[NewObject]) -> Steps[list[Submitted]]:
    """Submit objects; returns their ids in the same order. Raises `SubmitFailed` if some were not accepted."""
    fates = Fates()
    try:
        for piece in pieces_of(_lines(wanted)):
            yield from send_piece(policy, piece, fates)
    except Exception as error:
        if isinstance(error, ApiError) and fates.know_more_than(error):
            raise fates.failed() from error
        if fates.accepted:  # the caller's own iterator, or an object that cannot be sent
            error.add_note(f"{len(fates.accepted)} objects before it were accepted.")
        raise
    if fates.refused:
        raise fates.failed()
    return [Submitted(fates.accepted[number]) for number in sorted(fates.accepted)]


class Fates:
    """What became of the objects so far, by their number."""

    def __init__(self) -> None:
        self.accepted: dict[int, str] = {}
        self.refused: dict[int, RefusedObject] = {}

    def note(self, line: BatchLine, result: _Result) -> None:
        """Take in a result."""
        if result.status == _ACCEPTED and result.id:
            self.accepted[line.number] = result.id
            self.refused.pop(line.number, None)
        else:
            object_id = line.object_id or result.id or ""
            told = RefusedObject(line.number, object_id, result.status, result.type, result.detail, result.errors)
            self.refused[line.number] = told

    def know_more_than(self, failure: ApiError) -> bool:
        """Tell whether something is known of single objects, beside why the rest could not be sent."""
        return bool(self.accepted) or any(one.detail != str(failure) for one in self.refused.values())

    def failed(self) -> SubmitFailed:
        """Return the error with the objects that were not accepted."""
        listed = [self.refused[number] for number in sorted(self.refused)]
        first, total = listed[0], len(self.accepted) + len(listed)
        message = (
            f"{len(self.accepted)} of {total} objects were accepted; the first of the others is number {first.index}: "
            f"{first.detail or first.status}"
        )
        return SubmitFailed(message, [self.accepted[number] for number in sorted(self.accepted)], listed)


def send_piece(policy: CallPolicy, piece: list[BatchLine], fates: Fates) -> Steps[None]:
    """Send lines until each is accepted or refused for good. Raises the `ApiError` of a request that fails whole."""
    waiting = piece
    for failures in itertools.count():
        content = b"".join(line.body for line in waiting)
        try:
            asked = ApiCall("POST", api_path("objects", "batch"), content=content, headers=_NDJSON)
            results = _results((yield from call(policy, asked)).content)
        except ApiError as error:
            for line in waiting:
                fates.note(line, _Result(status=error.status, type=error.type, detail=str(error)))
            raise
        told = [(line, results.get(place, _BROKEN_OFF)) for place, line in enumerate(waiting)]
        for line, result in told:
            fates.note(line, result)
        busy = {line: result for line, result in told if result.status in _BUSY}
        if not busy or failures >= policy.retries:
            return
        yield PauseFor(pause_s(policy, failures))
        waiting = list(busy)
    raise AssertionError("the last try returns or raises")


def _results(content: bytes) -> dict[int, _Result]:
    """Return the results by their place in the request; lines that are missing or broken off are left out."""
    found: dict[int, _Result] = {}
    for line in content.splitlines():
        try:
            result = _decode_result(line)
        except ValueError:
            continue
        if result.index >= 0:
            found[result.index] = result
    return found


def _lines(wanted: Iterable[NewObject]) -> Iterator[BatchLine]:
    for number, one in enumerate(wanted):
        if not isinstance(one, NewObject):
            raise TypeError(f"object {number} is {one!r}: submit_many takes NewObject(kind, content, ...)")
        object_id = chosen_id(one)
        yield BatchLine(number, object_id, body_of(one, object_id, one.idempotency_key) + b"\n")


def pieces_of(lines: Iterable[BatchLine]) -> Iterator[list[BatchLine]]:
    """Yield the lines of one request after another."""
    piece: list[BatchLine] = []
    size_bytes = 0
    for line in lines:
        if piece and (len(piece) == _LINES_A_PIECE or size_bytes + len(line.body) > _BYTES_A_PIECE):
            yield piece
            piece, size_bytes = [], 0
        piece.append(line)
        size_bytes += len(line.body)
    if piece:
        yield piece
