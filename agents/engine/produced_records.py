"""What leaves with the end of an attempt, because its function asked for it: the objects that it has submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.events import encode
from app.rules.outgoing import Outgoing
from app.rules.placement import partition_of
from app.rules.submitted import object_of

if TYPE_CHECKING:
    from agents.engine.attempt import Attempt
    from app.names import Names
    from ebs.outputs import Outputs


class ProducedRecords:
    """Makes the records of what attempts produce, by the settings of one worker."""

    def __init__(self, names: Names, *, partition_count: int) -> None:
        self._objects = names.objects
        self._partition_count = partition_count

    def of(self, attempt: Attempt, outputs: Outputs, at_ms: int) -> list[Outgoing]:
        """Return the records, in the order of the calls. Where the attempt is traced, they belong to its trace."""
        headers = [] if attempt.traced is None else attempt.traced.headers
        records = []
        for new in outputs.objects:
            key = new.id.encode()
            value = encode(object_of(new, attempt.task, at_ms))
            records.append(Outgoing(self._objects, partition_of(key, self._partition_count), key, value, headers))
        return records
