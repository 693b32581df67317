"""The findings of a recount."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """One figure that differs between a table and the topics; None: there is no such row."""

    partition: int
    what: str
    name: str
    field: str
    table: Any
    topics: Any

    def __str__(self) -> str:
        """Return the difference as a sentence."""
        where = f"partition {self.partition}: {self.what} {self.name}"
        return f"{where}: {self.field} is {self.table!r} in the table, {self.topics!r} by the topics"


@dataclass
class Findings:
    """Differences, and how many rows were compared, or could not be compared, in any number of partitions.

    `forgotten`: objects whose row was deleted, as it should be. `read_to`: the end (exclusive) by partition and topic.
    """

    differences: list[Difference] = field(default_factory=list)
    objects: int = 0
    windows: int = 0
    totals: int = 0
    forgotten: int = 0
    incomparable: dict[str, int] = field(default_factory=lambda: {"objects": 0, "windows": 0, "totals": 0})
    reasons: dict[str, int] = field(default_factory=dict)
    read_to: dict[int, dict[str, int]] = field(default_factory=dict)

    def skip(self, what: str, reason: str) -> None:
        """Note that something cannot be compared, and why."""
        self.incomparable[what] += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
