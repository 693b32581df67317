"""What leaves with the end of an attempt, because its function asked for it: objects, and records to users' topics."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from app.errors import Postponed, RecordTooLarge
from app.events import encode
from app.kafka.partitioner import partition_of_key
from app.rules.outgoing import Outgoing
from app.rules.placement import partition_of
from app.rules.submitted import object_of
from ebs.errors import Reject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agents.engine.attempt import Attempt
    from app.names import Names
    from app.topics.shapes import TopicShape
    from ebs.outputs import Outputs, SentRecord

_NO_TOPIC_S = (15.0, 30.0)
"""How long a task waits whose topic does not exist: not all at once again, when somebody has made it."""


class ProducedRecords:
    """Makes the records of what attempts produce, by the settings of one worker.

    `output_topics` are the users' topics that exist, once they are known. `check_size` raises `RecordTooLarge`.
    """

    def __init__(
        self,
        names: Names,
        *,
        partition_count: int,
        output_topics: Mapping[str, TopicShape],
        check_size: Callable[[Outgoing], None],
    ) -> None:
        self._objects = names.objects
        self._partition_count = partition_count
        self._output_topics = output_topics
        self._check_size = check_size

    def of(self, attempt: Attempt, outputs: Outputs, at_ms: int) -> list[Outgoing]:
        """Return the records: objects, then sent records, each in the order of the calls.

        Where the attempt is traced, they belong to its trace. Raises `Reject` for a record that its topic would refuse:
        the broker's refusal would end the worker, and the next one. Raises `Postponed` while its topic does not exist.
        """
        headers = [] if attempt.traced is None else attempt.traced.headers
        records = []
        for new in outputs.objects:
            key = new.id.encode()
            value = encode(object_of(new, attempt.task, at_ms))
            records.append(Outgoing(self._objects, partition_of(key, self._partition_count), key, value, headers))
        records += [self._sent(attempt, record, headers) for record in outputs.records]
        return records

    def _sent(self, attempt: Attempt, record: SentRecord, trace: list[tuple[str, bytes]]) -> Outgoing:
        name, key = record.topic, record.key
        try:
            topic = self._output_topics[name]
        except KeyError:
            said = f"context.send: the topic {name} does not exist: make it (`ebs doctor` says how)"
            raise Postponed(said, random.uniform(*_NO_TOPIC_S)) from None
        if key is None and topic.is_compacted:
            raise Reject(f"context.send: {name} is compacted (cleanup.policy), so its records need a key: give one")
        # Records without a key stay together, as in Java's clients, so that they share batches.
        number = attempt.lane.partition.number if key is None else partition_of_key(key, topic.partition_count)
        outgoing = Outgoing(name, number % topic.partition_count, key, record.value, [*record.headers, *trace])
        try:
            self._check_size(outgoing)
        except RecordTooLarge as error:
            raise Reject(f"context.send: {error}: send a reference instead of the data") from None
        return outgoing
