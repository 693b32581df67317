"""Sets a role's committed offsets when only a person can decide where the role continues (`ebs offsets`)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from app.errors import BrokerError
from app.events import DECODE_ERRORS, decode_task_event, decode_task_request
from app.kafka.errors import KafkaError
from app.kafka.groups import read_member_count
from app.kafka.topic_metadata import read_topics
from app.kafka.types import OffsetAndMetadata, TopicPartition
from app.names import STATISTICS
from app.rules.ledger_expiry import TOLD_TO_KEY, encode_told_to
from app.rules.offsets import PartitionProgress
from app.rules.worked_tasks import COMMITTED, EARLIEST, LATEST, WORKED, WorkedTasks
from app.streaming.group_positions import read_commits
from app.streaming.offset_notes import decided
from ebs.doctor.changelog_repair import put_rows_back
from ebs.doctor.log_stretches import read_stretches, whole_log, write_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from app.kafka.cluster import Cluster
    from app.names import Names, WorkerGroup

Answer = TypeVar("Answer")

_PAUSE_S = 0.5
_TRIES = 60
"""As long as the open transaction of a worker that was killed may last."""


class Reset(NamedTuple):
    """A partition, its committed offset before (-1: none) and after with its metadata, and what its log has.

    `kept_to` is up to where that log still is the one that was worked.
    """

    tp: TopicPartition
    before: int
    after: int
    metadata: str
    begin: int
    end: int
    kept_to: int

    @property
    def is_valid(self) -> bool:
        """Whether a worker could go on at the committed offset."""
        return 0 <= self.before <= self.kept_to


async def reset_offsets(
    cluster: Cluster,
    names: Names,
    group: WorkerGroup,
    topics: Sequence[str],
    to: str | int,
    *,
    numbers: Sequence[int] = (),
    all_partitions: bool = False,
    patience_s: float,
    say: Callable[[str], None],
) -> list[Reset]:
    """Commit `to` (`EARLIEST`, `LATEST`, `WORKED`, `COMMITTED`, an offset) and return what was changed.

    Of all partitions (of these `numbers`, if any are given), or only of those whose committed offset is not valid.
    `COMMITTED` keeps each valid offset, and is for a role whose tables have lost rows: those that another
    program's records have replaced are put back (`changelog_repair`). The commits say that a
    person decided, so they hold also for topics that were recreated or copied from another cluster. A group whose
    workers have ended without a word has members for a session time-out: they are waited for.

    Raises `BrokerError` if the group still has members after `patience_s`, or the broker refuses.
    """
    group_id = names.group(*group)
    try:
        async with (
            cluster.admin("ebs-offsets") as admin,
            cluster.reader("ebs-offsets", group_id=group_id) as consumer,
            # What follows the group ends if its consumer is assigned other partitions meanwhile.
            cluster.reader("ebs-offsets-logs") as logs_reader,
        ):
            await _wait_until_empty(admin, group_id, patience_s, say)
            described = {one["topic"]: len(one["partitions"]) for one in await admin.describe_topics(list(topics))}
            partitions = [
                TopicPartition(name, number)
                for name in topics
                for number in range(described.get(name, 0))
                if not numbers or number in numbers
            ]
            resets = await _plan(consumer, group_id, partitions, to)
            if to == COMMITTED:
                await put_rows_back(cluster, logs_reader, admin, names, group, say=say)
                resets = [one for one in resets if one.is_valid]
            elif not all_partitions:
                resets = [one for one in resets if not one.is_valid]
            if resets and to == WORKED:
                resets = await _as_worked(admin, logs_reader, names, names.requests(group.queue), resets)
            if resets:
                if group.role == STATISTICS:
                    await _note_what_was_told(cluster, names, resets)
                ids = {name: one.topic_id for name, one in (await read_topics(consumer._client, topics)).topics.items()}  # noqa: SLF001  # aiokafka's consumer has no getter
                consumer.assign([one.tp for one in resets])
                await consumer.commit(
                    {one.tp: OffsetAndMetadata(one.after, decided(one.metadata, ids[one.tp.topic])) for one in resets}
                )
    except KafkaError as error:
        raise BrokerError(f"the offsets of {group_id} at {cluster.bootstrap} cannot be set: {error!r}") from error
    else:
        return resets


async def _note_what_was_told(cluster: Cluster, names: Names, resets: Sequence[Reset]) -> None:
    """Let a replay of events neither ask for joins nor tell ends that were asked for and told before."""
    set_back = [one for one in resets if one.tp.topic == names.task_events and one.after < one.before]
    if not set_back:
        return
    expiry = names.expiry_changelog
    told = {(TopicPartition(expiry, one.tp.partition), TOLD_TO_KEY): encode_told_to(one.before) for one in set_back}
    await write_rows(cluster, told)


async def _wait_until_empty(admin: Any, group_id: str, patience_s: float, say: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    give_up_at_s = loop.time() + patience_s
    said = False
    while count := await read_member_count(admin, group_id):
        if loop.time() >= give_up_at_s:
            raise BrokerError(f"{group_id} has {count} members: stop its workers first, nothing was changed")
        if not said:
            said = True
            say(f"waiting until {count} members of {group_id} have left")
        await asyncio.sleep(_PAUSE_S)


async def _plan(consumer: Any, group_id: str, partitions: Sequence[TopicPartition], to: str | int) -> list[Reset]:
    if not partitions:
        return []
    places = await _until_told(lambda: read_commits(consumer._client, group_id, partitions))  # noqa: SLF001  # aiokafka's consumer has no getter
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    resets = []
    for tp in partitions:
        committed, kept_to = places[tp]
        begin, end = begins[tp], ends[tp]
        after, metadata = (committed.offset, committed.metadata) if to == COMMITTED else (_target(to, begin, end), "")
        resets.append(Reset(tp, committed.offset, after, metadata, begin, end, min(end, kept_to)))
    return resets


async def _until_told(ask: Callable[[], Awaitable[Answer | None]]) -> Answer:
    """Return the answer of a broker that cannot tell for a moment."""
    for _ in range(_TRIES):
        answer = await ask()
        if answer is not None:
            return answer
        await asyncio.sleep(_PAUSE_S)
    raise BrokerError(
        "the broker does not say what is committed: a transaction is open, or the partition has no leader"
    )


async def _as_worked(admin: Any, consumer: Any, names: Names, requests: str, resets: Sequence[Reset]) -> list[Reset]:
    """Return what the events of the tasks tell: behind everything that is done, with what is done above it."""
    worked = WorkedTasks()
    async for record in read_stretches(consumer, await _whole(admin, consumer, names.task_events)):
        with suppress(*DECODE_ERRORS):
            worked.note(decode_task_event(record.value))
    async for record in read_stretches(consumer, await _whole(admin, consumer, requests)):
        with suppress(*DECODE_ERRORS):
            worked.note_request(decode_task_request(record.value))
    found = []
    for one in resets:
        progress = PartitionProgress(one.begin)
        async for record in read_stretches(consumer, {one.tp: range(one.begin, one.end)}):
            progress.take(record.offset)
            try:
                task = decode_task_request(record.value)
            except DECODE_ERRORS:
                continue  # it goes to the dead letters, perhaps once more
            if worked.is_worked(task, waits=one.tp.topic != requests):
                progress.finish(record.offset)
            elif worked.has_started(task):
                progress.start(record.offset)
        progress.take_to(one.end)
        metadata = progress.encode()
        if metadata is None:
            raise BrokerError(
                f"too many tasks of {one.tp.topic}-{one.tp.partition} are unfinished between finished tasks to record "
                "all of them: nothing was changed; decide with --to earliest or latest"
            )
        found.append(one._replace(after=progress.watermark, metadata=metadata))
    return found


async def _whole(admin: Any, consumer: Any, topic: str) -> dict[TopicPartition, range]:
    (described,) = await admin.describe_topics([topic])
    if not described["partitions"]:
        # Without events nothing would seem to be worked.
        raise BrokerError(f"there is no topic {topic}, or it may not be read: nothing was changed")
    return await whole_log(consumer, topic, len(described["partitions"]))


def _target(to: str | int, begin: int, end: int) -> int:
    if to in {EARLIEST, WORKED}:
        return begin
    return end if to == LATEST else min(max(int(to), begin), end)
