"""The coordinator of transactions: producer ids and epochs, what belongs to a transaction, and how it ends.

Both versions (KIP-98 and KIP-890). Source: https://kafka.apache.org/protocol, and the behaviour of Apache Kafka 4.1
that the product's fault tests were seen to meet. An EndTxn is answered once the decision is written; the markers follow
one by one, each when its partition gets to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from aiokafka import TopicPartition

    from simulation.group import Group
    from simulation.log import Log
    from simulation.trace import Trace

INVALID_PRODUCER_EPOCH = 47
INVALID_TXN_STATE = 48
INVALID_PRODUCER_ID_MAPPING = 49
CONCURRENT_TRANSACTIONS = 51
_MARKER_S = (0.0005, 0.006)
_SLOW_MARKER_S = (0.02, 0.4)


class State(Enum):
    """Where a transactional id is."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"


_PREPARING = (State.PREPARE_COMMIT, State.PREPARE_ABORT)


@dataclass(slots=True)
class Transaction:
    """A transactional id with its producer and the transaction that is open, or was the last."""

    transactional_id: str
    producer_id: int
    epoch: int
    timeout_s: float
    state: State = State.EMPTY
    number: int = 0
    partitions: set[TopicPartition] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    last_epoch: int = -1
    """The epoch of the last transaction of version 2, whose repeated EndTxn is known by it."""


class TransactionCoordinator:
    """All transactions; `later` calls a function after so many seconds. Some markers take long: `slow_marker_rate`."""

    def __init__(
        self,
        logs: Mapping[TopicPartition, Log],
        groups: Mapping[str, Group],
        rng: random.Random,
        trace: Trace,
        *,
        slow_marker_rate: float,
        later: Callable[..., None],
        on_marker: Callable[[TopicPartition | str], None],
    ) -> None:
        self._logs = logs
        self._groups = groups
        self._rng = rng
        self._trace = trace
        self._slow_marker_rate = slow_marker_rate
        self._later = later
        self._on_marker = on_marker
        self._transactions: dict[str, Transaction] = {}

    def open_ids(self) -> list[str]:
        """Return the transactional ids whose transaction is open."""
        return [one.transactional_id for one in self._transactions.values() if one.state is State.ONGOING]

    def init(self, transactional_id: str, timeout_s: float) -> tuple[int, int, int]:
        """Return an error code, a producer id and an epoch; an open transaction of that id is ended first."""
        known = self._transactions.get(transactional_id)
        if known is None:
            known = Transaction(transactional_id, len(self._transactions) + 1, 0, timeout_s)
            self._transactions[transactional_id] = known
            return 0, known.producer_id, known.epoch
        if known.state is State.ONGOING:
            self._trace.note("transaction %d of %s is aborted by a successor", known.number, transactional_id)
            known.epoch += 1
            self._end(known, is_commit=False)
        if known.state in _PREPARING:
            return CONCURRENT_TRANSACTIONS, -1, -1
        known.epoch += 1
        known.timeout_s = timeout_s
        known.last_epoch = -1
        known.state = State.EMPTY
        return 0, known.producer_id, known.epoch

    def add(
        self, transactional_id: str, producer_id: int, epoch: int, *, partition: TopicPartition | None, group: str = ""
    ) -> int:
        """Let a partition or a group belong to the transaction, which begins with the first; returns an error code."""
        code, known = self._find_settled(transactional_id, producer_id, epoch)
        if known is None:
            return code
        if known.state is not State.ONGOING:
            known.state = State.ONGOING
            known.number += 1
            known.partitions.clear()
            known.groups.clear()
            self._later(known.timeout_s, self._time_out, known, known.number)
        if partition is not None:
            known.partitions.add(partition)
        if group:
            known.groups.add(group)
        return 0

    def verify(
        self, transactional_id: str, producer_id: int, epoch: int, *, partition: TopicPartition | None, group: str = ""
    ) -> int:
        """Return 0 if partition or group belong to the open transaction, else an error code (KIP-890, part 1)."""
        code, known = self._find_settled(transactional_id, producer_id, epoch)
        if known is None:
            return code
        is_known = partition in known.partitions if partition is not None else group in known.groups
        return 0 if known.state is State.ONGOING and is_known else INVALID_TXN_STATE

    def end(
        self, transactional_id: str, producer_id: int, epoch: int, *, is_commit: bool, version: int
    ) -> tuple[int, int, int]:
        """End the transaction; returns an error code, and under which producer id and epoch the next one runs."""
        done = State.COMPLETE_COMMIT if is_commit else State.COMPLETE_ABORT
        preparing = State.PREPARE_COMMIT if is_commit else State.PREPARE_ABORT
        known = self._transactions.get(transactional_id)
        if known is not None and version == 2 and known.producer_id == producer_id and known.last_epoch == epoch:
            # The same EndTxn once more; the epoch that its answer brought has not been used yet, or it has no say.
            if known.state is preparing:
                return CONCURRENT_TRANSACTIONS, -1, -1
            if known.state is done:
                return 0, producer_id, known.epoch
        code, known = self._find(transactional_id, producer_id, epoch)
        if known is None:
            return code, -1, -1
        if known.state is State.ONGOING:
            if version == 2:
                known.last_epoch = epoch
                known.epoch += 1
            self._end(known, is_commit=is_commit)
            return 0, producer_id, known.epoch
        if known.state is done and version == 1:
            return 0, producer_id, epoch
        return (CONCURRENT_TRANSACTIONS if known.state is preparing else INVALID_TXN_STATE), -1, -1

    def _find(self, transactional_id: str, producer_id: int, epoch: int) -> tuple[int, Transaction | None]:
        known = self._transactions.get(transactional_id)
        if known is None or known.producer_id != producer_id:
            return INVALID_PRODUCER_ID_MAPPING, None
        return (0, known) if known.epoch == epoch else (INVALID_PRODUCER_EPOCH, None)

    def _find_settled(self, transactional_id: str, producer_id: int, epoch: int) -> tuple[int, Transaction | None]:
        """Find it only while no markers are being written."""
        code, known = self._find(transactional_id, producer_id, epoch)
        return (CONCURRENT_TRANSACTIONS, None) if known is not None and known.state in _PREPARING else (code, known)

    def _time_out(self, known: Transaction, number: int) -> None:
        if known.state is State.ONGOING and known.number == number:
            self._trace.note("transaction %d of %s is aborted: its time is over", number, known.transactional_id)
            known.epoch += 1
            self._end(known, is_commit=False)

    def _end(self, known: Transaction, *, is_commit: bool) -> None:
        known.state = State.PREPARE_COMMIT if is_commit else State.PREPARE_ABORT
        self._trace.note(
            "transaction %d of %s %s", known.number, known.transactional_id, "commits" if is_commit else "aborts"
        )
        waiting: set[object] = {*known.partitions, *known.groups}
        if not waiting:
            self._complete(known, is_commit=is_commit)
            return
        epoch = known.epoch

        def write(place: TopicPartition | str) -> None:
            if isinstance(place, str):
                self._groups[place].decide(known.producer_id, is_commit=is_commit)
            else:
                self._logs[place].decide(known.producer_id, epoch, is_commit=is_commit)
            self._on_marker(place)
            waiting.discard(place)
            if not waiting:
                self._complete(known, is_commit=is_commit)

        for place in [*sorted(known.partitions), *sorted(known.groups)]:
            slow = self._rng.random() < self._slow_marker_rate
            self._later(self._rng.uniform(*(_SLOW_MARKER_S if slow else _MARKER_S)), write, place)

    def _complete(self, known: Transaction, *, is_commit: bool) -> None:
        known.state = State.COMPLETE_COMMIT if is_commit else State.COMPLETE_ABORT
