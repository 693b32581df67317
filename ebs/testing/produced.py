"""What functions produce beside their results: objects that they submit, records that they send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from app.events import decode_object
from ebs.testing.object_run import ProducedObject, ProducedRecord

if TYPE_CHECKING:
    from app.rules.outgoing import Outgoing

_decode = msgspec.json.decode


class Produced:
    """What was produced, in the order in which it would have been committed."""

    def __init__(self) -> None:
        self.submitted: list[ProducedObject] = []
        self.sent: list[ProducedRecord] = []

    def take(self, one: Outgoing, *, is_object: bool) -> None:
        """Take a record."""
        if is_object:
            self.submitted.append(_submitted(one.value or b""))
        else:
            self.sent.append(ProducedRecord(one.topic, one.key, one.value, dict(one.headers or ())))


def _submitted(value: bytes) -> ProducedObject:
    event = decode_object(value)
    items = None if event.items is msgspec.UNSET else [_decode(item.content) for item in event.items]
    tasks = event.task_count if items is None else items
    url = event.callback_url or None
    return ProducedObject(event.object_id, event.kind, event.name, _decode(event.content), tasks, url)
