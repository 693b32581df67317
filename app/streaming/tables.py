"""Tables whose rows commit with the step that wrote them.

A table is a Faust `Table` to the outside (`app.Table(...)`, `faust tables`, `@app.page` views), but its rows are bytes,
kept by partition in a `TableStore` (`stores`), and they change in one way only: inside a step, through `StepRows`.
The step sends them to the changelog topic in its own transaction and writes them to the store after the commit, so a
store is never ahead of its changelog, and a step that fails leaves no trace.

Faust's own changelog writing and recovery stay out of it (they hang on transaction markers, and read 8,000 rows a
second).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faust
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from app.streaming.stores import TableStore


class StepRows:
    """One table partition as a step sees it: its own writes first, then what is committed."""

    __slots__ = ("_committed", "changed", "changelog", "partition")

    def __init__(self, store: TableStore, changelog: str, partition: int) -> None:
        self._committed = store
        self.changelog = changelog
        self.partition = partition
        self.changed: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return a row, or None."""
        if key in self.changed:
            return self.changed[key]
        row: bytes | None = self._committed.get(key)
        return row

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Return the rows of `keys`, None where there is none."""
        changed = self.changed
        if not changed:
            return self._committed.get_many(keys)
        return [changed[key] if key in changed else self._committed.get(key) for key in keys]

    def committed_keys(self, from_key: bytes | None = None) -> Iterator[bytes]:
        """Iterate over the keys that were committed before this step, in order, from `from_key` (inclusive) on."""
        return self._committed.keys(from_key)

    def last_committed_key(self) -> bytes | None:
        """Return the last committed key in order, None if there is none."""
        return self._committed.last_key()

    def put(self, key: bytes, value: bytes) -> None:
        """Set a row; it counts from the step's commit on."""
        self.changed[key] = value

    def delete(self, key: bytes) -> None:
        """Delete a row: a tombstone goes to the changelog."""
        self.changed[key] = None

    def apply(self) -> None:
        """Write the committed changes to the store."""
        if self.changed:
            self._committed.write(self.changed)


class TransactionalTable(faust.Table):
    """A Faust table of bytes, read by pages and written by steps only.

    Guarantee: what can be read here is committed, in the changelog and with the offsets of the records it came from.
    """

    def __init__(self, *args: Any, recent_rows: int = 0, **options: Any) -> None:
        """`recent_rows`: see `TableStore`; for each partition."""
        super().__init__(*args, **options)
        self.recent_rows = recent_rows
        self.stores: dict[int, TableStore] = {}

    @property
    def changelog_name(self) -> str:
        """The topic that every change of this table is written to."""
        return f"{self.app.conf.id}-{self.name}-changelog"

    async def on_start(self) -> None:
        """Do nothing: stores come with partitions, and the changelog topic was made before the start."""

    def __getitem__(self, key: bytes) -> bytes:
        for store in list(self.stores.values()):
            row: bytes | None = store.get(key)
            if row is not None:
                return row
        raise KeyError(key)

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """Return a committed row of any partition of this worker, or `default`."""
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and any(store.get(key) is not None for store in list(self.stores.values()))

    def __iter__(self) -> Iterator[bytes]:
        for store in list(self.stores.values()):
            yield from store.keys()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        raise RuntimeError(f"table {self.name} is written inside a step: step.rows({self.name!r}, partition).put(...)")

    def __delitem__(self, key: bytes) -> None:
        raise RuntimeError(f"table {self.name} is written inside a step: step.rows({self.name!r}, partition).delete()")


class StreamResumption(Recovery):
    """What is left of Faust's recovery: after a rebalance let the streams flow again.

    Our partitions open one by one as their tables are restored (see `Consumer.open_partitions`), so there is nothing
    to wait for here, and nothing that could hang.
    """

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Ask for the streams to be resumed under a new generation."""
        self._generation_id = generation_id
        self.signal_recovery_start.set()

    @Service.task  # type: ignore[untyped-decorator]  # mode is untyped
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                break
            self.signal_recovery_start.clear()
            try:
                await self._resume_streams(generation_id=self._generation_id)
            except RebalanceAgain:
                continue
            except ServiceStopped:
                break

    @Service.task  # type: ignore[untyped-decorator]  # mode is untyped
    async def _slurp_changelogs(self) -> None:
        """Do nothing: changelogs never come through Faust's consumer."""

    @Service.task  # type: ignore[untyped-decorator]  # mode is untyped
    async def _publish_stats(self) -> None:
        """Do nothing: restore reports its own progress."""


class StepTableManager(TableManager):
    """Keeps the tables' names for Faust's views and commands; their data belong to `Transactions`."""

    _recovery: StreamResumption | None = None

    @property
    def changelog_topics(self) -> set[str]:
        """No changelog for Faust's consumer to subscribe to."""
        return set()

    @property
    def recovery(self) -> StreamResumption:
        """Our short form of Faust's recovery."""
        if self._recovery is None:
            self._recovery = StreamResumption(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    def add(self, table: TransactionalTable) -> TransactionalTable:
        """Register a table under its name."""
        if table.name in self:
            raise ValueError(f"there is a table {table.name!r} already")
        self[table.name] = table
        return table

    async def on_start(self) -> None:
        """Start without the second that Faust waits for its agents."""
        self._tables_finalized.set()
        self._tables_registered.set()
        await self.recovery.start()

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Pass the new generation on."""
        self._recovery_started.set()
        await self.recovery.on_rebalance(assigned, revoked, newly_assigned, generation_id)
