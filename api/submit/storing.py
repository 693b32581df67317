"""Stores objects on the topic `objects`, and returns the outcome for each of them.

If the client chose the id, the object is first looked up: with the same payload it is already stored, with another
payload it is a conflict. If it does not exist, it is written, and the request waits until the view has read this
record: the first record of the id is the object, whichever process wrote it. If two processes get the same key with two
payloads at the same moment, both may write, but only the process whose record comes first answers that its object is
stored.
"""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from api.server import problems
from api.submit.in_flight import BrokerBehind
from api.view.behind import ViewBehind
from app.errors import BrokerUnavailable, OutcomeUnknown, RecordRefused
from app.rules.idempotency import is_repetition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.submit.in_flight import InFlight
    from api.submit.payload import Prepared
    from api.submit.publisher import Publisher
    from api.view.view import View

WAIT_S = 1.0
"""How long a request waits for room: longer than a healthy broker needs, short enough for a waiting client."""


class Fate(Enum):
    """What became of an object."""

    STORED = "stored"
    CONFLICT = "conflict"
    NOT_STORED = "not-stored"
    BEHIND = "behind"
    UNKNOWN = "unknown"


class Outcome(NamedTuple):
    """What became of an object; `name` ends a problem's URN, `detail` is a sentence for people."""

    fate: Fate
    name: str = ""
    detail: str = ""


STORED = Outcome(Fate.STORED)


class Storing(NamedTuple):
    """Stores objects with the collaborators of one application."""

    publisher: Publisher
    view: View
    in_flight: InFlight

    async def store(self, objects: Sequence[Prepared], wait_s: float = WAIT_S) -> list[Outcome]:
        """Return an outcome for each object, in their order; raises nothing that a broker may cause."""
        outcomes: list[Outcome | None] = [self._known_already(one) if one.known else None for one in objects]
        new = [one for one, outcome in zip(objects, outcomes, strict=True) if outcome is None]
        if new:
            found = iter(await self._write(new, wait_s))
            return [next(found) if outcome is None else outcome for outcome in outcomes]
        return [outcome for outcome in outcomes if outcome is not None]

    def _known_already(self, one: Prepared) -> Outcome | None:
        try:
            first = self.view.first_record(one.object_id)
        except ViewBehind as error:
            return Outcome(Fate.NOT_STORED, "view-behind", f"{error}; nothing was stored, so repeating is safe")
        if first is None:
            return None
        return STORED if is_repetition(first, one.event) else _conflict(one.object_id)

    async def _write(self, objects: Sequence[Prepared], wait_s: float) -> Sequence[Outcome]:
        size_bytes = sum(len(one.record[2]) for one in objects)
        try:
            async with self.in_flight.hold(size_bytes, wait_s):
                ends = await self._publish(objects)
        except BrokerBehind as error:
            outcome = Outcome(Fate.BEHIND, "broker-behind", f"{error}; nothing was stored, so repeating is safe")
        except OutcomeUnknown as error:
            outcome = Outcome(Fate.UNKNOWN, problems.name_of(error), str(error))
        except (BrokerUnavailable, RecordRefused) as error:
            detail = f"{error}; nothing was stored, so repeating is safe"
            outcome = Outcome(Fate.NOT_STORED, problems.name_of(error), detail)
        else:
            self.view.remember_writes(ends)
            known = [one for one in objects if one.known]
            if not known:
                return [STORED] * len(objects)
            await self._read_up_to(known, ends)
            return [self._verdict(one) if one.known else STORED for one in objects]
        return [outcome] * len(objects)

    async def _publish(self, objects: Sequence[Prepared]) -> dict[int, int]:
        if len(objects) > 1:
            return await self.publisher.publish_many([one.record for one in objects])
        # Single records of many requests share batches.
        offset = await self.publisher.publish(objects[0].record)
        return {} if offset is None else {objects[0].record[0]: offset + 1}

    async def _read_up_to(self, objects: Sequence[Prepared], ends: dict[int, int]) -> None:
        """Let the view read all records of these objects; what it has not read in time has no verdict yet."""
        partitions = {one.record[0] for one in objects}
        if partitions <= ends.keys():
            await self.view.wait_for(self.view.names.objects, {partition: ends[partition] for partition in partitions})
            return
        # The broker has them, but no longer knows where.
        with suppress(ViewBehind):
            await self.view.catch_up()

    def _verdict(self, one: Prepared) -> Outcome:
        try:
            first = self.view.first_record(one.object_id)
        except ViewBehind:
            first = None
        if first is None:
            detail = "Kafka has stored it, but the read view is behind: whether it was the first is not known yet"
            return Outcome(Fate.UNKNOWN, "outcome-unknown", detail)
        return STORED if is_repetition(first, one.event) else _conflict(one.object_id)


def _conflict(object_id: str) -> Outcome:
    detail = f"object {object_id} was submitted with another payload: use a new key, or send the first payload"
    return Outcome(Fate.CONFLICT, "key-reused", detail)
