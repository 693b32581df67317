"""Takes in many different objects with one request, and says of each one what became of it.

Guarantee: an item's result is the truth about that item alone. What is not accepted is refused (it is not stored) or
unknown (503, `outcome-unknown`): then its `id` is named, and sending it again with that id, or with its key, is safe.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from msgspec import UNSET

from api.server import problems
from api.server.schemas import ErrorItem
from api.submit.decoding import NotJson, WrongFields
from api.submit.payload import Prepared, decode_payload, new_object_ids, prepare, too_large, what_is_wrong
from api.submit.schemas import BatchItem, BatchItemResult, BatchSummary
from api.submit.storing import WAIT_S, Fate
from api.submit.submission import chosen_id
from app.json_text import MAX_LEVELS
from app.rules.idempotency import object_id_of_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.submit.storing import Outcome
    from api.submit.submission import Submitter

CHUNK_COUNT = 1_000
"""Items that are stored together: making them holds the event loop for about 8 ms."""
CHUNK_BYTES = 4 * 1_048_576

_STATUS_OF = {
    Fate.STORED: HTTPStatus.ACCEPTED,
    Fate.CONFLICT: HTTPStatus.UNPROCESSABLE_ENTITY,
    Fate.NOT_STORED: HTTPStatus.SERVICE_UNAVAILABLE,
    Fate.BEHIND: HTTPStatus.TOO_MANY_REQUESTS,
    Fate.UNKNOWN: HTTPStatus.SERVICE_UNAVAILABLE,
}
_ACCEPTED = HTTPStatus.ACCEPTED.value


class BatchEntry(NamedTuple):
    """One object of a batch as it came in; `line` is that of an NDJSON body, None in a JSON array."""

    line: int | None
    data: bytes | msgspec.Raw | None


class Batch:
    """The items of one request, in chunks; `key` is the request's idempotency key."""

    def __init__(self, submitter: Submitter, key: str | None) -> None:
        self._submitter = submitter
        self._key = key
        self._wait_s = WAIT_S
        self._accepted = self._refused = self._unknown = 0

    @property
    def summary(self) -> BatchSummary:
        """What became of the items so far."""
        count = self._accepted + self._refused + self._unknown
        return BatchSummary(count, self._accepted, self._refused, self._unknown)

    async def take(self, items: Sequence[BatchEntry]) -> list[BatchItemResult]:
        """Store a chunk of items, and return their results in the same order."""
        start = self.summary.count
        at_ms = self._submitter.clock_ms()
        fresh = new_object_ids(len(items))
        made = [self._prepare(start + number, item, fresh[number], at_ms) for number, item in enumerate(items)]
        await asyncio.sleep(0)  # others want to be served between the two halves of the work
        objects = [one for one in made if isinstance(one, Prepared)]
        outcomes = iter(await self._submitter.storing.store(objects, self._wait_s))
        results = [
            self._result(start + number, items[number], one, next(outcomes)) if isinstance(one, Prepared) else one
            for number, one in enumerate(made)
        ]
        for one in results:
            self._count(one)
        return results

    def refuse(self, item: BatchEntry, status: HTTPStatus, name: str, detail: str) -> BatchItemResult:
        """Return the result of the next item, which is not looked at."""
        result = _refusal(self.summary.count, item, status, name, detail)
        self._count(result)
        return result

    def _count(self, result: BatchItemResult) -> None:
        if result.status == _ACCEPTED:
            self._accepted += 1
        elif result.type == _UNKNOWN_TYPE:
            self._unknown += 1
        else:
            self._refused += 1

    def _prepare(self, index: int, item: BatchEntry, fresh_id: str, at_ms: int) -> Prepared | BatchItemResult:
        settings = self._submitter.settings
        if item.data is None or len(item.data) > settings.max_body_bytes:
            what = "item" if item.line is None else "line"
            detail = f"the {what} is over {settings.max_body_bytes} bytes (EBS_MAX_BODY_BYTES)"
            return _refusal(index, item, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
        try:
            payload = decode_payload(item.data, BatchItem)
            object_id = self._id_of(index, payload)
        except NotJson as error:
            where = "the item" if item.line is None else f"line {item.line}"
            return _refusal(index, item, HTTPStatus.BAD_REQUEST, "malformed-json", f"{where} is not JSON: {error}")
        except WrongFields as error:
            return _wrong(index, item, error.errors)
        except problems.Problem as problem:
            return _refusal(index, item, problem.status, problem.name, problem.detail)
        wrong = next(what_is_wrong(payload, settings), None)
        if wrong is not None:
            return _refusal(index, item, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "#/{}: {}".format(*wrong))
        if object_id is None:
            one = prepare(payload, fresh_id, settings, at_ms)
        else:
            one = prepare(payload, object_id, settings, at_ms, payload.hash())
        refusal = too_large(one, settings)
        return (
            one if refusal is None else _refusal(index, item, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", refusal)
        )

    def _id_of(self, index: int, payload: BatchItem) -> str | None:
        """Return the id that the client chose, None if any will do: its own, its key's, or one by the batch's key."""
        object_id = chosen_id(payload, None if payload.idempotency_key is UNSET else payload.idempotency_key)
        if object_id is None and self._key is not None:
            return object_id_of_item(self._key, index)
        return object_id

    def _result(self, index: int, item: BatchEntry, one: Prepared, outcome: Outcome) -> BatchItemResult:
        if outcome.fate is Fate.STORED:
            return BatchItemResult(index, _ACCEPTED, one.object_id)
        if outcome.fate is Fate.BEHIND:
            self._wait_s = 0.0  # the rest is told at once, or a client would wait for each chunk anew
        detail = outcome.detail
        if outcome.fate is Fate.UNKNOWN:
            detail = f'{detail}; repeating is safe with "id": "{one.object_id}", or with the same key'
        status = _STATUS_OF[outcome.fate]
        return BatchItemResult(index, status.value, one.object_id, item.line, problems.type_of(outcome.name), detail)


_UNKNOWN_TYPE = problems.type_of("outcome-unknown")


def split_array(body: bytes) -> list[BatchEntry]:
    """Return the items of a JSON array. Raises `Problem` (400), which names the line, for what is none."""
    try:
        return [BatchEntry(None, one) for one in _decode_array(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise problems.Problem(HTTPStatus.BAD_REQUEST, "malformed-json", _explain(error, body)) from None


def whole_problem(results: Sequence[BatchItemResult]) -> problems.Problem | None:
    """Return one answer for all, where the broker took nothing; None if each item must be told its own."""
    if not results or any(one.type not in _NOTHING_TAKEN for one in results):
        return None
    first = results[0]
    make = problems.too_many if first.status == HTTPStatus.TOO_MANY_REQUESTS else problems.unavailable
    return make(_NOTHING_TAKEN[first.type or ""], first.detail or "", {"safe_to_repeat": True})


_NOTHING_TAKEN = {
    problems.type_of(name): name for name in ("broker-behind", "broker-unavailable", "record-refused", "view-behind")
}

_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _explain(error: Exception, body: bytes) -> str:
    if isinstance(error, msgspec.ValidationError):
        return f"the body is not a JSON array of objects: {error}"
    if isinstance(error, RecursionError):
        return f"an object of the body is nested too deeply: contents may have {MAX_LEVELS} levels"
    text = str(error)
    position = text.rpartition("(byte ")[2].rstrip(")")
    if position.isdecimal():
        line = body.count(b"\n", 0, int(position)) + 1
        return f"line {line}: the body is not JSON: {text}"
    return f"the body is not JSON: {text}"


def _wrong(index: int, item: BatchEntry, errors: list[dict[str, str]]) -> BatchItemResult:
    detail = "; ".join(f"{one['pointer']}: {one['detail']}" for one in errors)
    refusal = _refusal(index, item, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail)
    return msgspec.structs.replace(refusal, errors=[ErrorItem(**one) for one in errors])


def _refusal(index: int, item: BatchEntry, status: HTTPStatus, name: str, detail: str) -> BatchItemResult:
    return BatchItemResult(index, status.value, None, item.line, problems.type_of(name), detail)
