"""The read view: what this process knows of objects, tasks and statistics, and how far behind the topics it is.

It is fed by `feed` (in tests by hand) and answers alone. One answer needs the broker: before it says that an
object does not exist, it asks where `objects` ends now and waits until it has read that far. So a GET after a POST
never says 404, whichever API process took the POST.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from api.view.control import Control
from api.view.dead_letter_rows import DeadLetterRows
from api.view.dead_letters import DeadLetters
from api.view.forgotten import Forgotten
from api.view.longer_windows import longer_windows
from api.view.object_index import PLACE_PREFIX, Changes, ObjectIndex, unpack_place
from api.view.object_list import ObjectList
from api.view.rows import (
    RECORD_PREFIX,
    ROW_PREFIX,
    TOTALS_PREFIX,
    add_records,
    decode_object_or_none,
    rows_of,
    window_key_of,
    window_prefix,
)
from api.view.store import new_batch
from api.view.task_results import TaskResults
from api.view.waiters import Waiters
from api.view.workers import Workers
from app.names import BARE
from app.rules.counts import WINDOW_MS, Counts, WindowKey, add_counts, decode_counts, decode_window_key
from app.rules.ledger import ObjectRow, decode_row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from typing import Any

    from aiokafka import TopicPartition

    from api.view.forgotten import Counted
    from api.view.store import Offsets, ViewStore
    from app.events import ObjectCreated
    from app.names import Names

Ends = dict[int, int]
"""By partition the offset after the last record."""


class ViewBehind(Exception):
    """The view cannot tell yet; `str()` of one is a sentence for people."""


class Found(NamedTuple):
    """What is known of an object; never both None.

    Its record (None: the topic's retention took it) and its ledger row (None: no event has been counted yet).
    """

    record: ObjectCreated | None
    row: ObjectRow | None


class Progress(NamedTuple):
    """How far behind the view is; None: not known (yet).

    `as_of_ms` is the last instant at which it held all that was committed, `heard_at_ms` when the broker was last
    heard; both epoch ms.
    """

    lag_records: int | None = None
    as_of_ms: int | None = None
    heard_at_ms: int | None = None


class View:
    """Answers from a store. Until `attach` it has none, and raises `ViewBehind`."""

    def __init__(
        self, wait_s: float, forgotten_before_ms: Callable[[], int] = lambda: 0, *, names: Names = BARE
    ) -> None:
        self.names = names
        self._wait_s = wait_s
        self._store: ViewStore | None = None
        self._read_ends: Callable[..., Awaitable[Ends]] | None = None
        self._object_partitions = 0
        self._offsets: Offsets = {}
        self._written: Ends = {}
        self._forgotten = Forgotten({}, forgotten_before_ms)
        self._moved = asyncio.Event()
        self._totals: dict[str, Counts] | None = None
        self._changed_windows: set[bytes] = set()
        self.progress = Progress()
        self.caught_up_once = False
        self.trouble = ""
        """Why there is no store, where it is not for the broker."""
        self.refused: Mapping[TopicPartition, str] = {}
        """Which partitions the broker cannot read, in words: a new life of this process would change nothing."""
        self.generation = 0
        self.dead_letters = DeadLetters(self._opened)
        self.control = Control()
        self.workers = Workers()
        self.waiters = Waiters()
        self.object_index = ObjectIndex()
        self.objects = ObjectList(self._opened, self.object_index)
        self.results = TaskResults(self._opened, lambda: self.catch_up(names.results_changelog))
        self._folds: dict[str, Control | Workers] = {names.control: self.control, names.workers: self.workers}

    def attach(self, store: ViewStore, read_ends: Callable[..., Awaitable[Ends]]) -> None:
        """Answer from `store` from now on; `read_ends` asks the broker where a topic ends now."""
        self._store = store
        self.trouble = ""
        self._read_ends = read_ends
        layout = store.layout()
        self._object_partitions = 0 if layout is None else layout.topics.get(self.names.objects, ("", 0))[1]
        self._offsets = store.offsets()
        self._forgotten = self._forgotten._replace(counted=store.counted())
        self._written = {}
        self._totals = None
        for fold in self._folds.values():
            fold.load(store)
        self.object_index.load(store)
        self.dead_letters.runs.load(store)
        self.mark_all_windows_changed()
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
        batch = new_batch()
        names = self.names
        letters = DeadLetterRows(store.get, batch, self.dead_letters.runs, names)
        changes = Changes(store.get_many)
        for (topic, partition), new in sorted(records.items(), key=self._ledger_first):
            if topic == names.dead_letters:
                letters.add(partition, new)
            elif topic in self._folds:
                self._folds[topic].add(batch, new)
            else:
                add_records(
                    batch,
                    changes,
                    topic,
                    partition,
                    new,
                    names=names,
                    get_many=store.get_many,
                    forgotten=self._forgotten,
                    object_partitions=self._object_partitions,
                )
            self._offsets.setdefault(topic, {})[partition] = new[-1].offset + 1
            if topic == names.windows_changelog:
                self._totals = None
                self._changed_windows |= {record.key for record in rows_of(new)}
        letters.finish()
        ids = changes.ids
        if ids:
            self.object_index.write(batch, changes, ids)
        store.write(batch, self._offsets)
        self._wake()
        self.waiters.wake(ids)

    def leave_out_forgotten(self, counted: Counted) -> None:
        """Leave out what of these has no row, now and after a restart; for a view that has not read any objects yet."""
        self._opened().keep_counted(counted)
        self._forgotten = self._forgotten._replace(counted=counted)

    def note_progress(self, progress: Progress, positions: Offsets) -> None:
        """Take in how far behind the view is, and up to where it has read: also past what is no record to us."""
        self.progress = progress
        self.caught_up_once = self.caught_up_once or progress.lag_records == 0
        if positions != self._offsets:
            self._offsets = positions
            self._wake()

    def remember_writes(self, ends: Ends) -> None:
        """Take in what this process wrote to `objects`: reads wait for it even while the broker hides it.

        It hides records behind the open transaction of an outside producer.
        """
        for partition, end in ends.items():
            self._written[partition] = max(end, self._written.get(partition, 0))

    async def find(self, object_id: str) -> Found | None:
        """Return what is known of an object, None if it does not exist; `ViewBehind` if that is not known in time."""
        found = self.look_up(object_id)
        if found is None or found.record is None:
            await self.catch_up()
            found = self.look_up(object_id)
        return found

    def first_record(self, object_id: str) -> ObjectCreated | None:
        """Return the first record of an id that has been read, without asking the broker for more."""
        return decode_object_or_none(self._opened().get(RECORD_PREFIX + object_id.encode()))

    def totals(self) -> dict[str, Counts]:
        """Return the counts of all time by kind; do not change them."""
        store = self._opened()
        if self._totals is None:
            self._totals = {key.kind: counts for key, counts in _merged(store.newest_first(TOTALS_PREFIX))}
        return self._totals

    def windows(self, size_ms: int, kind: str | None, limit: int) -> list[tuple[WindowKey, Counts]]:
        """Return at most `limit` windows of a size, of one kind or of all, newest first."""
        rows = self._opened().newest_first(window_prefix(size_ms))
        found: list[tuple[WindowKey, Counts]] = []
        if kind is not None:
            rows = ((key, value) for key, value in rows if decode_window_key(window_key_of(key)).kind == kind)
        for window in _merged(rows):
            found.append(window)
            if len(found) == limit:
                break
        return found

    async def windows_of(self, size_ms: int, kind: str | None, limit: int) -> list[tuple[WindowKey, Counts]]:
        """Return at most `limit` windows of a size, newest first; long ones with the shorter ones in them."""
        if size_ms == WINDOW_MS:
            return self.windows(size_ms, kind, limit)
        return await longer_windows(self._opened, size_ms, kind, limit)

    def mark_all_windows_changed(self) -> None:
        """Let the next `take_changed_windows` begin with all that there are."""
        self._changed_windows = {window_key_of(key) for key, _ in self._opened().newest_first(window_prefix())}

    def take_changed_windows(self, limit: int) -> dict[WindowKey, Counts | None]:
        """Return up to `limit` windows that changed since they were last taken, None for one that is gone."""
        store = self._opened()
        taken = sorted(self._changed_windows, reverse=True)[:limit]
        self._changed_windows.difference_update(taken)
        changed: dict[WindowKey, Counts | None] = {}
        for data in taken:
            merged = list(_merged(store.newest_first(window_prefix() + data)))
            key = decode_window_key(data)
            changed[key] = next((counts for found, counts in merged if found == key), None)
        return changed

    def _wake(self) -> None:
        """Let those who wait for the view look again."""
        self._moved.set()
        self._moved = asyncio.Event()

    def _opened(self) -> ViewStore:
        if self._store is None:
            raise ViewBehind(self.trouble or "the read view waits for the Kafka broker")
        return self._store

    def look_up(self, object_id: str) -> Found | None:
        """Return what is known of an object now."""
        get = self._opened().get
        key = object_id.encode()
        record, row = get(RECORD_PREFIX + key), get(ROW_PREFIX + key)
        if record is None and row is None:
            return None
        return Found(decode_object_or_none(record), None if row is None else decode_row(row))

    def partition_of(self, object_id: str) -> int:
        """Return where the records of an object lie that the view knows."""
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

    async def wait_for(self, topic: str, ends: Ends) -> bool:
        """Wait until the view has read a topic up to there; returns whether it did in time."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._reach(topic, ends)
        except TimeoutError:
            return False
        return True

    def _ledger_first(self, records: tuple[tuple[str, int], Any]) -> bool:
        # A tombstone takes the object's record along, and must not take one that came after it: one fetch may hold
        # both.
        return records[0][0] != self.names.ledger_changelog

    async def _reach(self, topic: str, ends: Ends) -> None:
        while any(self._offsets.get(topic, {}).get(partition, 0) < end for partition, end in ends.items()):
            await self._moved.wait()


def _merged(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[WindowKey, Counts]]:
    """Add up the rows of each window: every partition has one of its own."""
    current = b""
    total = Counts()
    for key, value in rows:
        window = window_key_of(key)
        if window != current:
            if current:
                yield decode_window_key(current), total
            current, total = window, Counts()
        add_counts(total, decode_counts(value))
    if current:
        yield decode_window_key(current), total
