"""Mechanisms of the product taken out, one at a time: a model that finds nothing then proves nothing.

The first six are those of `tests/faults/sabotage`, which does the same to real workers on a real broker.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import msgspec
from aiokafka import TopicPartition
from aiokafka.producer.sender import BaseHandler
from msgspec import UNSET

import agents.distribution as distribution_module
import app.streaming.ownership as ownership_module
import app.streaming.restore as restore_module
from agents.engine.attempt_outcomes import AttemptOutcomes
from agents.engine.kind_limits import KindLimits
from agents.engine.line_releases import LineReleases
from agents.engine.produced_records import ProducedRecords
from agents.engine.split_outputs import SplitOutputs
from agents.engine.waiting_tasks import WaitingTasks
from agents.engine.waiting_window import WaitingWindow
from app.kafka.fencing import Membership
from app.kafka.protocol import OffsetFetch
from app.kafka.transaction_handlers import Unrepeated
from app.kafka.transactional_producer import TransactionalProducer
from app.names import LEDGER_TABLE, SCHEDULES_TABLE, WAITING_TABLE
from app.rules.clocks import CLOCK_TOLERANCE_MS
from app.streaming.ownership import Ownership
from app.streaming.transactions import Transactions
from simulation import requests
from simulation.faults import OF_TRANSACTIONS
from simulation.loop import current_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agents.engine.attempt import Attempt
    from app.rules.outgoing import Outgoing
    from app.streaming.step import Step
    from simulation.process import Process


def _ends() -> Any:
    """Repeat what was not answered, as aiokafka does: a delayed EndTxn ends the next transaction half way.

    In some schedules (6) the half that is committed is the row of places, without the offsets: `OffsetsLost` then keeps
    the role from starting, as it should, so that nothing is doubled and the work is never done.
    """
    return patch.object(Unrepeated, "do", BaseHandler.do)


def _fencing() -> Any:
    """Say nothing of who commits offsets: the coordinator takes that for a client from before KIP-447."""
    return patch.object(Transactions, "_membership", lambda _self: Membership(-1, ""))


def _skipping() -> Any:
    """Work again what a rebalance delivers again."""

    def admit(self: Transactions, batch: Any, _next: int | None = None) -> Any:
        partition = self.ownership.partitions.get(batch.partition)
        return batch if partition is not None and partition.active else None

    return patch.object(Transactions, "admit", admit)


@contextmanager
def _offsets() -> Iterator[None]:
    """Commit offsets after the transaction, outside of it."""
    commit_transaction = TransactionalProducer.commit_transaction

    async def keep(self: Any, offsets: Any, _group_id: str) -> None:
        self.offsets_outside = {tp: (one.offset, one.metadata) for tp, one in offsets.items()}

    async def commit(self: Any) -> None:
        await commit_transaction(self)
        offsets, self.offsets_outside = getattr(self, "offsets_outside", None), None
        if offsets:
            process = current_process.get()
            assert process is not None
            await process.worker.consumer.commit(offsets)

    with (
        patch.object(TransactionalProducer, "send_offsets_to_transaction", keep),
        patch.object(TransactionalProducer, "commit_transaction", commit),
    ):
        yield


def _changelog(leaked: str = LEDGER_TABLE) -> Any:
    """Write rows of the ledger, or of the schedules, before their step, outside of its transaction."""
    commit_step = Transactions._commit

    async def commit(self: Transactions, step: Step) -> None:
        process = current_process.get()
        assert process is not None
        for (table, partition), rows in step._rows.items():
            if table == leaked and rows.changed:
                tp = TopicPartition(self.ownership.changelog_of(table), partition)
                await process.worker.consumer.ask_until_answered(
                    requests.PlainProduce({tp: tuple(rows.changed.items())})
                )
        await commit_step(self, step)

    return patch.object(Transactions, "_commit", commit)


@contextmanager
def _outputs() -> Iterator[None]:
    """Write what attempts produce before their step, outside of its transaction."""
    commit_step, made_by_split, produced = Transactions._commit, SplitOutputs.records, ProducedRecords.of
    outside: dict[Process, list[Outgoing]] = defaultdict(list)

    def put_aside(made: Callable[..., list[Outgoing]]) -> Callable[..., list[Outgoing]]:
        def records(*arguments: Any) -> list[Outgoing]:
            process = current_process.get()
            assert process is not None
            outside[process] += made(*arguments)
            return []

        return records

    async def commit(self: Transactions, step: Step) -> None:
        process = current_process.get()
        assert process is not None
        for one in outside.pop(process, ()):
            tp = TopicPartition(one.topic, one.partition)
            await process.worker.consumer.ask_until_answered(requests.PlainProduce({tp: ((one.key, one.value),)}))
        await commit_step(self, step)

    with (
        patch.object(SplitOutputs, "records", put_aside(made_by_split)),
        patch.object(ProducedRecords, "of", put_aside(produced)),
        patch.object(Transactions, "_commit", commit),
    ):
        yield


def _failed_outputs() -> Any:
    """Keep what an attempt has produced although it fails."""
    fail = AttemptOutcomes.fail

    def keep(self: AttemptOutcomes, attempt: Attempt, error: BaseException) -> None:
        outputs = attempt.context.close_outputs()
        if outputs is not None:
            for one in self._produced.of(attempt, outputs, self._clock_ms()):
                self._lanes.send(attempt.lane, one)
        fail(self, attempt, error)

    return patch.object(AttemptOutcomes, "fail", keep)


def _waiting_rows() -> Any:
    """Delete a row when its attempt begins, not with what became of it."""
    take = WaitingWindow.take

    def delete(self: WaitingWindow, now_ms: int) -> tuple[bytes, bytes] | None:
        taken = take(self, now_ms)
        if taken is not None:
            self._rows.put(WAITING_TABLE, taken[0], None)
        return taken

    return patch.object(WaitingWindow, "take", delete)


def _waiting_rows_stay() -> Any:
    """Let a row stay when the end of its attempt is committed: the next owner loads it again."""
    remove = WaitingWindow.remove

    def keep(self: WaitingWindow, key: bytes) -> None:
        value = self._rows.get(WAITING_TABLE, key)
        remove(self, key)
        self._rows.put(WAITING_TABLE, key, value)

    return patch.object(WaitingWindow, "remove", keep)


def _turns() -> Any:
    """Give each task its turn by key at once."""
    return patch.object(KindLimits, "line_of_key", lambda _self, _task: b"")


def _turns_of_retries() -> Any:
    """Let nobody wait while the task before waits for its next attempt."""
    return patch.object(KindLimits, "blocking_line", lambda _self, _task: b"")


def _waiting_starts() -> Any:
    """Keep no note of an attempt that began from the table and still runs."""
    return patch.object(WaitingWindow, "note_started", lambda _self: None)


def _stamps_of_requests() -> Any:
    """Let a task wait for as long as its due time is after the stamp of its request, by whatever clock."""
    keeps = WaitingTasks.keeps

    def by_stamp(self: WaitingTasks, ready: Any) -> bool:
        lane, record, task, place = ready
        ahead_ms = record.timestamp - self._clock_ms()
        if task.due_at_ms is not UNSET and ahead_ms > CLOCK_TOLERANCE_MS:
            task = msgspec.structs.replace(task, due_at_ms=max(0, task.due_at_ms - ahead_ms))
        return keeps(self, type(ready)(lane, record, task, place))

    return patch.object(WaitingTasks, "keeps", by_stamp)


def _stamps_of_objects() -> Any:
    """Let delays begin by the clock of distribution, though the broker has stamped the objects."""
    return patch.object(distribution_module, "LOG_APPEND_TIME", -1)


def _moves() -> Any:
    """Look at no line again when a command is given or taken back."""
    return patch.object(LineReleases, "_move_all", lambda _self, _lane: None)


@contextmanager
def _watermark() -> Iterator[None]:
    """Restore up to the last stable offset: what lies behind a dead worker's open transaction is missing.

    The ends that the commits tell would notice it, so they are not looked at either.
    """

    async def stable_ends(cluster: Any, partitions: Any, _told_ends: Any) -> Any:
        async with cluster.reader("sabotage", isolation_level="read_committed") as reader:
            return await reader.end_offsets(partitions)

    def no_check(*_: Any, **__: Any) -> None:
        return None

    with (
        patch.object(restore_module, "_read_ends", stable_ends),
        patch.object(ownership_module, "check_ends", no_check),
    ):
        yield


def _stability() -> Any:
    """Claim at the committed offsets as they are, though an open transaction is about to change them."""
    fetch = OffsetFetch.__init__

    def take_any(self: OffsetFetch, group_id: str, topics: Any, _require_stable: bool) -> None:  # noqa: FBT001  # the product's signature
        fetch(self, group_id, topics, False)  # noqa: FBT003  # as above

    return patch.object(OffsetFetch, "__init__", take_any)


@contextmanager
def _absence() -> Iterator[None]:
    """Let a worker that was away keep the partitions that it seems to have kept, stores included.

    The check for holes goes with it: it would end the worker at nearly every first batch.
    """
    claim, admit = Ownership.claim, Transactions.admit

    def keep(self: Ownership, numbers: Any, membership: Membership, assignment: object, client: Any) -> None:
        if self.membership is not None:
            self.membership = Membership(membership.generation - 1, membership.member_id)
        claim(self, numbers, membership, assignment, client)

    def admit_behind_holes(self: Transactions, batch: Any, next_offset: int | None = None) -> Any:
        partition = self.ownership.partitions.get(batch.partition)
        if partition is not None and next_offset is None:
            next_offset = max(batch.start, partition.next_offsets.get(batch.topic, 0))
        return admit(self, batch, next_offset)

    with patch.object(Ownership, "claim", keep), patch.object(Transactions, "admit", admit_behind_holes):
        yield


class Switch(NamedTuple):
    """A mechanism that can be taken out, the circumstances in which that shows, and a pattern of what is found then."""

    take_out: Callable[[], Any]
    given: dict[str, Any]
    shows: str


_TWICE = "stands 2 times on task-events"
_OVERTOOK = "of key .* began at"
_COUNTED = ": window of |: total |: object "
_SLOW_NETWORK = (0.001, 0.02)
_LATE_ENDS = {"fault_rates": {"late": 0.3}, "fault_apis": frozenset({"EndTxn"}), "one_way_s": _SLOW_NETWORK}
_FROZEN = {"fault_rates": {"frozen after": 0.05}, "fault_apis": OF_TRANSACTIONS, "session_s": 1.5}
_KILLED = {"fault_rates": {"killed after": 0.05}, "fault_apis": OF_TRANSACTIONS}
_REBALANCES = {"deed_kinds": ("start", "stop"), "deed_count": 8}
_AWAY = {
    "deed_kinds": ("freeze",),
    "deed_count": 8,
    "object_count": 10,
    "partitions": 2,
    "session_s": 1.5,
    "worker_counts": {"distribution": 1, "processing": 1, "statistics": 2},
    "fault_rates": {},
}
_SPLIT = {"may_split": True}
_PRODUCED_TWICE = "on objects|on sink|request .* stands 2 times"
_CLOCKS = {"has_clocks": True, "has_delays": True, "has_commands": False, "in_order": False}
_TWO_EACH = {"worker_counts": {"distribution": 2, "processing": 2, "statistics": 2}}

SWITCHES = {
    "ends": Switch(_ends, _LATE_ENDS | {"transaction_version": 1}, _TWICE),
    "fencing": Switch(_fencing, _FROZEN | _TWO_EACH | {"may_list": False}, f"{_TWICE}|{_COUNTED}"),
    "skipping": Switch(_skipping, _FROZEN | _TWO_EACH, _TWICE),
    "offsets": Switch(_offsets, _KILLED, _TWICE),
    "changelog": Switch(_changelog, _KILLED, _COUNTED),
    "rows of schedules": Switch(
        partial(_changelog, SCHEDULES_TABLE), _KILLED | {"trouble_s": 8.0}, "accepted object s.@.* is not on objects"
    ),
    "outputs": Switch(_outputs, _KILLED | _SPLIT, _PRODUCED_TWICE),
    "outputs of failed attempts": Switch(_failed_outputs, _SPLIT, "which has not finished|its task has not finished"),
    "waiting rows": Switch(_waiting_rows, _KILLED, "ended .* of its"),
    "waiting rows that stay": Switch(_waiting_rows_stay, _TWO_EACH | _REBALANCES, _TWICE),
    "turns": Switch(_turns, {"in_order": True}, _OVERTOOK),
    "turns of retries": Switch(_turns_of_retries, {"in_order": True}, _OVERTOOK),
    "waiting starts": Switch(_waiting_starts, _KILLED, _TWICE),
    "stamps of requests": Switch(_stamps_of_requests, _CLOCKS, "ms early"),
    "stamps of objects": Switch(_stamps_of_objects, _CLOCKS, "ms early"),
    "moves": Switch(_moves, {"has_commands": True, "fault_rates": {}, "deed_count": 0}, "work is not done"),
    "watermark": Switch(
        _watermark,
        _KILLED | {"has_stable_ids": False, "may_list": False, "transaction_timeout_s": 5.0, "session_s": 1.5},
        _COUNTED,
    ),
    "stability": Switch(_stability, _TWO_EACH | _REBALANCES | {"slow_marker_rate": 0.4}, f"{_TWICE}|{_COUNTED}"),
    "absence": Switch(_absence, _AWAY, f"{_TWICE}|{_COUNTED}"),
}
"""The switches by name."""
