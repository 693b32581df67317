"""The limits in force of each kind: those of its function, unless live commands override them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from app.rules.waiting_rows import line_of
from ebs.function import NO_LIMITS, StartLimits

if TYPE_CHECKING:
    from agents.execution.loading import Handlers
    from app.events import TaskCreated
    from app.rules.control import ControlState

_MAX_KINDS = 10_000
"""Kinds in memory: other producers may write any number of kinds."""


class KindLimits:
    """Knows the limits of kinds. `has_any` is false while no kind can have a limit."""

    def __init__(self, handlers: Handlers, control: ControlState, *, partition_count: int) -> None:
        self.partition_count = partition_count
        self._handlers = handlers
        self._control = control
        self._by_kind: dict[str, StartLimits] = {}
        self.has_any = False
        self.refresh()

    def refresh(self) -> None:
        """Take over the commands that are in force now."""
        self._by_kind.clear()
        by_function = any(loaded.starts != NO_LIMITS for loaded in self._handlers)
        self.has_any = by_function or self._control.has_rates or self._control.has_limits

    def of(self, kind: str) -> StartLimits:
        """Return the limits of a kind."""
        found = self._by_kind.get(kind)
        if found is None:
            if len(self._by_kind) >= _MAX_KINDS:
                self._by_kind.clear()
            found = self._by_kind[kind] = self._find(kind)
        return found

    def share(self, kind: str, partition: int) -> int | None:
        """Return how many tasks of a kind may run at once in a partition, None if its concurrency has no limit."""
        limit = self.of(kind).concurrency
        return None if limit is None else share_of_partition(limit, partition, self.partition_count)

    def kinds_with_rates(self) -> list[str]:
        """Return the kinds with a rate, of their function or live; those of the function for `"*"` are not known."""
        by_function = (kind for kind, one in self._handlers.by_kind.items() if one.starts.rate_per_s is not None)
        return list({*by_function, *self._control.rates()})

    def line_of_key(self, task: TaskCreated) -> bytes:
        """Return the line of a task's key, b"" if its key has no limit.

        For a task without a key the id of its object is the key. A live limit is only for tasks with a key: without
        `per_key` in the project, the tasks of an object are in several partitions.
        """
        if not self.has_any or task.role is not UNSET or not self.of(task.kind).per_key:
            return b""
        if task.key is not UNSET:
            return line_of(task.kind, task.key)
        return line_of(task.kind, task.object_id) if self._handlers.for_kind(task.kind).starts.per_key else b""

    def blocking_line(self, task: TaskCreated) -> bytes:
        """Return the line whose tasks wait while a task waits for its retry: that of its key, if `per_key` is 1."""
        return self.line_of_key(task) if self.has_any and self.of(task.kind).per_key == 1 else b""

    def _find(self, kind: str) -> StartLimits:
        limits = self._handlers.for_kind(kind).starts
        live = self._control.limit_of(kind)
        if live is not None:
            concurrency, per_key = live.concurrency or limits.concurrency, live.per_key or limits.per_key
            limits = limits._replace(concurrency=concurrency, per_key=per_key)
        rate = self._control.rate_of(kind)
        return limits if rate is None else limits._replace(rate_per_s=rate)


def share_of_partition(limit: int, partition: int, partition_count: int) -> int:
    """Return how many of `limit` places one partition has; the places of all partitions add up to the limit."""
    return limit // partition_count + (partition < limit % partition_count)
