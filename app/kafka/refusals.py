"""Partitions that a broker cannot read from its own log: it refuses each Fetch for them.

A damaged segment (CORRUPT_MESSAGE), a disk that is gone (KAFKA_STORAGE_ERROR) or a fault of the broker itself stops
one partition. aiokafka asks again without a pause, and its log names neither partition nor offset. Here the refusal is
recorded, logged, and repeated more slowly; the other partitions continue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from aiokafka import TopicPartition, errors

from app.telemetry.quiet_log import Alike, alike_before

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_FETCH_KEY = 1
_PAUSE_S = 0.1
_TOLD_AFTER_S = 2.0
"""A broker that starts or hands a partition over refuses for a moment."""
_FORGOTTEN_AFTER_S = 5.0
"""A partition that nobody asks for any more: it is read elsewhere, or from another offset."""
_SILENCE_S = 60.0
_HANDLED = frozenset(
    {
        errors.NoError.errno,
        errors.OffsetOutOfRangeError.errno,
        errors.UnknownTopicOrPartitionError.errno,
        errors.NotLeaderForPartitionError.errno,
        errors.TopicAuthorizationFailedError.errno,
    }
)
"""What aiokafka and our consumers have an answer to."""
_NAMES = {56: "KAFKA_STORAGE_ERROR", 2: "CORRUPT_MESSAGE", -1: "UNKNOWN_SERVER_ERROR"}
_alike = Alike(_SILENCE_S)
_of_process: WeakSet[Refusals] = WeakSet()


class ReadRefusal(NamedTuple):
    """From which offset on the broker does not hand out a partition, and with which error.

    `since_s` and `last_s` are when it said so first and last (monotonic).
    """

    offset: int
    code: int
    since_s: float
    last_s: float

    def in_words(self, tp: TopicPartition) -> str:
        """Return it for people."""
        name = _NAMES.get(self.code) or errors.for_code(self.code).__name__
        return f"the broker cannot read {tp.topic}-{tp.partition} from offset {self.offset} on ({name}: see its log)"


class Refusals:
    """The refusals that a reader meets, by partition until the broker hands it out again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[TopicPartition, ReadRefusal] = {}
        _of_process.add(self)

    def lasting(self) -> dict[TopicPartition, str]:
        """Return in words the refusals that last longer than a moment; may be called from any thread."""
        now_s = self._clock()
        return {
            tp: one.in_words(tp)
            for tp, one in list(self._known.items())
            if one.last_s - one.since_s >= _TOLD_AFTER_S and now_s - one.last_s < _FORGOTTEN_AFTER_S
        }

    def watch(self, client: Any) -> None:
        """Note what `client` is refused from now on."""
        send = client.send

        async def send_and_note(node_id: int, request: Any, **options: Any) -> Any:
            response = await send(node_id, request, **options)
            if response.API_KEY == _FETCH_KEY and self._note(request, response):
                await asyncio.sleep(_PAUSE_S)
            return response

        client.send = send_and_note

    def _note(self, request: Any, response: Any) -> bool:
        is_refused = False
        for topic, partitions in response.topics:
            for number, code, *_ in partitions:
                tp = TopicPartition(topic, number)
                if code in _HANDLED:
                    self._known.pop(tp, None)
                    continue
                is_refused = True
                self._note_refusal(tp, code, _offset_of(request, tp))
        return is_refused

    def _note_refusal(self, tp: TopicPartition, code: int, offset: int) -> None:
        now_s = self._clock()
        known = self._known.get(tp)
        if known is None or (known.offset, known.code) != (offset, code):
            known = ReadRefusal(offset, code, now_s, now_s)
        self._known[tp] = known._replace(last_s=now_s)
        if now_s - known.since_s < _TOLD_AFTER_S:
            return
        untold_count = _alike.untold_before((tp, offset, code), now_s)
        if untold_count is not None:
            log.error("%s%s", known.in_words(tp), alike_before(untold_count))


def lasting_refusals() -> dict[TopicPartition, str]:
    """Return in words what the broker cannot read of what any reader of this process asks for."""
    return {tp: words for one in list(_of_process) for tp, words in one.lasting().items()}


def _offset_of(request: Any, tp: TopicPartition) -> int:
    offsets = {(topic, number): offset for topic, partitions in request.topics for number, offset, *_ in partitions}
    return int(offsets[tp.topic, tp.partition])
