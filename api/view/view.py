"""The read view: this process's copy of objects, tasks and statistics, and how far it is behind the topics.

`feed` feeds it (tests feed it directly), and it answers without the broker, with one exception: before it says that an
object does not exist, it asks the broker where `objects` ends now and waits until it has read that far. So a GET after
a POST is never a 404, whichever API process accepted the POST.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from api.view.behind import ViewBehind
from api.view.control import Control
from api.view.dead_letters import DeadLetters
from api.view.object_index import PLACE_PREFIX, ObjectIndex, unpack_place
from api.view.object_list import ObjectList
from api.view.object_records import ObjectRecords
from api.view.rows import (
    RECORD_PREFIX,
    ROW_PREFIX,
    add_ledger_rows,
    add_letters,
    add_results,
    decode_object_or_none,
    of_rows,
    waiting_changelogs,
)
from api.view.schedules import Schedules
from api.view.statistics import Statistics
from api.view.task_results import TaskResults
from api.view.waiters import Waiters
from api.view.waiting_rows import WaitingRows
from api.view.waiting_tasks import WaitingList
from api.view.workers import Workers
from api.view.write import Write
from app.names import BARE, LEDGER_TABLE, RESULTS_TABLE, SCHEDULES_TABLE, WAITING_TABLE, WINDOWS_TABLE
from app.rules.ledger_rows import ObjectRow, decode_row
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from api.view.forgotten import Counted
    from api.view.rows import Fold
    from api.view.store import Offsets, ViewStore
    from app.events import ObjectCreated
    from app.kafka.types import TopicPartition
    from app.names import Names

Ends = dict[int, int]
"""By partition the offset after the last record."""


class Found(NamedTuple):
    """The record and the ledger row of an object; never both None.

    The record is None if the topic's retention has deleted it; the row is None if no event has been counted yet.
    """

    record: ObjectCreated | None
    row: ObjectRow | None


class Progress(NamedTuple):
    """How far behind the view is; None: not known (yet).

    `as_of_ms` is the last instant at which it had all committed records, `heard_at_ms` is the time of the broker's last
    answer; both epoch ms.
    """

    lag_records: int | None = None
    as_of_ms: int | None = None
    heard_at_ms: int | None = None


class View:
    """Answers from a store. Until `attach` it has no store, and raises `ViewBehind`."""

    def __init__(
        self,
        wait_s: float,
        forgotten_before_ms: Callable[[], int] = lambda: 0,
        *,
        names: Names = BARE,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
    ) -> None:
        self.names = names
        self._wait_s = wait_s
        self._store: ViewStore | None = None
        self._read_ends: Callable[..., Awaitable[Ends]] | None = None
        self._offsets: Offsets = {}
        self._written: Ends = {}
        self._moved = asyncio.Event()
        self.progress = Progress()
        self.caught_up_once = False
        self.trouble = ""
        """Why there is no store, if the reason is not the broker."""
        self.refused: Mapping[TopicPartition, str] = {}
        """Which partitions the broker cannot read, in words: a new life of this process would change nothing."""
        self.generation = 0
        self.dead_letters = DeadLetters(self._opened)
        self.control = Control()
        self.schedules = Schedules()
        self.workers = Workers()
        self.waiters = Waiters()
        self.object_index = ObjectIndex()
        self.objects = ObjectList(self._opened, self.object_index)
        self.results = TaskResults(self._opened, lambda: self.catch_up(names.results_changelog))
        self.statistics = Statistics(self._opened)
        self._waiting_rows = WaitingRows()
        self.waiting = WaitingList(self._opened, self._waiting_rows, self._catch_up_waiting)
        self._records = ObjectRecords(names.objects, forgotten_before_ms)
        # In this order within a write. Ledger rows first: a tombstone takes the object's record along, and must not
        # take one that came after it. One fetch may hold both.
        self._fixed_folds: dict[str, Fold] = {
            names.ledger_changelog: of_rows(names.ledger_changelog, LEDGER_TABLE, add_ledger_rows),
            names.objects: self._records.add,
            names.results_changelog: of_rows(names.results_changelog, RESULTS_TABLE, add_results),
            names.windows_changelog: of_rows(names.windows_changelog, WINDOWS_TABLE, self.statistics.add),
            names.dead_letters: add_letters,
            names.control: self.control.add,
            names.schedules: self.schedules.add,
            names.schedules_changelog: of_rows(names.schedules_changelog, SCHEDULES_TABLE, self.schedules.add_rows),
            names.workers: self.workers.add,
        }
        self.follow(queues)

    def follow(self, queues: Sequence[str]) -> None:
        """Know the waiting tasks of these queues, from the next `attach` on."""
        self.queues = queues
        self._folds = self._fixed_folds | {
            topic: of_rows(topic, WAITING_TABLE, partial(self._waiting_rows.add, queue))
            for queue, topic in waiting_changelogs(self.names, queues).items()
        }

    def attach(self, store: ViewStore, read_ends: Callable[..., Awaitable[Ends]]) -> None:
        """Answer from `store` from now on; `read_ends` asks the broker where a topic ends now."""
        self._store = store
        self.trouble = ""
        self._read_ends = read_ends
        self._offsets = store.offsets()
        self._written = {}
        of_memory = (self.control, self.schedules, self.workers)
        of_store = (self._records, self.object_index, self.dead_letters.runs, self._waiting_rows)
        for part in (*of_store, *of_memory):
            part.load(store)
        self.statistics.load()
        self.generation += 1
        self.progress = Progress()
        self.caught_up_once = False

    def detach(self) -> None:
        """Close the store: it is gone, or of topics that are gone."""
        if self._store is not None:
            self._store.close()
        self._store = None
        self.progress = Progress()
        self.caught_up_once = False
        self.waiters.wake_all()

    @property
    def is_attached(self) -> bool:
        """Whether there is a store: it reads, or should."""
        return self._store is not None

    def offsets(self) -> Offsets:
        """Return by topic and partition the next offset to read."""
        return self._offsets

    def apply(self, records: Mapping[tuple[str, int], Sequence[Any]]) -> None:
        """Take in records, by topic and partition in the order of their offsets, in one write."""
        store = self._opened()
        write = Write(store, self.dead_letters.runs, self.names)
        for topic, fold in self._folds.items():
            for partition in sorted(number for name, number in records if name == topic):
                new = records[topic, partition]
                fold(write, partition, new)
                self._offsets.setdefault(topic, {})[partition] = new[-1].offset + 1
        write.letters.finish()
        ids = write.changes.ids
        if ids:
            self.object_index.write(write.batch, write.changes, ids)
        store.write(write.batch, self._offsets)
        self._wake()
        self.waiters.wake(ids)

    def leave_out_forgotten(self, counted: Counted) -> None:
        """Leave out counted objects without a row, also after a restart; for a view that has not read objects yet."""
        self._opened().keep_counted(counted)
        self._records.leave_out(counted)

    def note_progress(self, progress: Progress, positions: Offsets) -> None:
        """Note how far the view is behind, and up to which offset it has read, transaction markers included."""
        self.progress = progress
        self.caught_up_once = self.caught_up_once or progress.lag_records == 0
        if positions != self._offsets:
            self._offsets = positions
            self._wake()

    def remember_writes(self, ends: Ends) -> None:
        """Note a record that this process wrote to `objects`: reads wait for it even while the broker hides it.

        The broker hides records that follow an open transaction of an outside producer.
        """
        for partition, end in ends.items():
            self._written[partition] = max(end, self._written.get(partition, 0))

    async def find(self, object_id: str) -> Found | None:
        """Return an object, None if it does not exist; raises `ViewBehind` if the view cannot know this in time."""
        found = self.look_up(object_id)
        if found is None or found.record is None:
            await self.catch_up()
            found = self.look_up(object_id)
        return found

    def first_record(self, object_id: str) -> ObjectCreated | None:
        """Return the first record of an id that has been read, without asking the broker for more."""
        return decode_object_or_none(self._opened().get(RECORD_PREFIX + object_id.encode()))

    def _wake(self) -> None:
        """Let those who wait for the view look again."""
        self._moved.set()
        self._moved = asyncio.Event()

    def _opened(self) -> ViewStore:
        if self._store is None:
            raise ViewBehind(self.trouble or "the read view waits for the Kafka broker")
        return self._store

    def look_up(self, object_id: str) -> Found | None:
        """Return an object as the view has it now."""
        get = self._opened().get
        key = object_id.encode()
        record, row = get(RECORD_PREFIX + key), get(ROW_PREFIX + key)
        if record is None and row is None:
            return None
        return Found(decode_object_or_none(record), None if row is None else decode_row(row))

    def partition_of(self, object_id: str) -> int:
        """Return the partition of an object's records."""
        place = self._opened().get(PLACE_PREFIX + object_id.encode())
        return 0 if place is None else unpack_place(place).partition

    async def catch_up(self, topic: str = "") -> None:
        """Wait until everything is read that was on a topic (`objects`) when called; `ViewBehind` if not in time."""
        topic = topic or self.names.objects
        self._opened()
        assert self._read_ends is not None  # attached together with the store
        ends: Ends | None = None
        try:
            async with asyncio.timeout(self._wait_s):
                ends = await self._read_ends(topic)
                if topic == self.names.objects:
                    for partition, end in self._written.items():
                        ends[partition] = max(end, ends.get(partition, 0))
                await self._reach(topic, ends)
        except TimeoutError:
            behind = "the Kafka broker does not answer" if ends is None else f"{self.progress.lag_records} records"
            raise ViewBehind(f"the read view is behind ({behind})") from None

    async def _catch_up_waiting(self) -> None:
        await asyncio.gather(*map(self.catch_up, waiting_changelogs(self.names, self.queues).values()))

    async def wait_for(self, topic: str, ends: Ends) -> bool:
        """Wait until the view has read a topic up to there; returns whether it did in time."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._reach(topic, ends)
        except TimeoutError:
            return False
        return True

    async def wait_until(self, holds: Callable[[], bool]) -> bool:
        """Wait until something holds after records that were read; returns whether it did in time."""
        try:
            async with asyncio.timeout(self._wait_s):
                while not holds():
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    async def _reach(self, topic: str, ends: Ends) -> None:
        while any(self._offsets.get(topic, {}).get(partition, 0) < end for partition, end in ends.items()):
            await self._moved.wait()
