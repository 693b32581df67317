"""Compares the tables of one partition with its events."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.callbacks import callback_sequence_of, url_of
from app.rules.counts import Counts, WindowKey, decode_counts, decode_window_key
from app.rules.ledger_descriptions import describe_object, describe_task
from app.rules.ledger_rows import ObjectRow, decode_row, sequences_of, task_of
from app.rules.ledger_states import state_of_task
from app.rules.results import NO_RESULT, ResultRow, decode_result_row, result_key, unpack_result_key
from ebs.recount.figures import WINDOW_MS, RecountedFigures, row_of, unequal
from ebs.recount.findings import Difference, Findings
from ebs.recount.objects import brief, error_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebs.recount.figures import Expected
    from ebs.recount.objects import ObjectFacts

_HOUR_MS = 3_600_000
_NO_FIELDS: frozenset[str] = frozenset()
_LATE = frozenset({"late_events"})
_OF_TIMES = _LATE | {"object_ms", "object_max_ms", "object_histogram"}
_CLOCK_TOLERANCE_MS = 60_000
GONE = "its records were already deleted from the topics"
AMBIGUOUS = "events came when the ledger may already have deleted their object"
AHEAD = "their events are stamped ahead of the clock of the statistics worker, which counted them by its own clock"
COMPACTED = "the row in the table changed during the comparison"
RESULT_FIELDS = (" error", " result", " result row")
"""Ends of the names of fields that are in rows of results."""


class StoredRow(NamedTuple):
    """A row of the ledger as it is in the changelog, and when a statistics worker wrote it, by its own clock."""

    data: bytes
    written_at_ms: int


class Terms(NamedTuple):
    """How long rows are kept (ms), and the stream times (epoch ms) of both tables.

    `is_truncated`: the first records of the topics were deleted, so nothing is known from before `known_from_ms`.
    """

    ended_ms: int
    silent_ms: int
    windows_ms: int
    ledger_time_ms: int
    windows_time_ms: int
    is_truncated: bool
    known_from_ms: int


def brief_result(data: bytes) -> ResultRow:
    """Return a row of results with shortened texts."""
    row = decode_result_row(data)
    return ResultRow(brief(row.result).encode(), brief(error_bytes(row.error)))


class PartitionComparison:
    """Compares the tables of one partition; returns differences, and counts in `findings`."""

    def __init__(self, partition: int, terms: Terms, findings: Findings) -> None:
        self._partition = partition
        self._terms = terms
        self._findings = findings

    def rows(
        self, expected: Mapping[str, ObjectFacts], stored: Mapping[bytes, StoredRow], results: Mapping[bytes, ResultRow]
    ) -> list[Difference]:
        """Compare ledger rows and rows of results (shortened, see `brief_result`); returns the differences."""
        found = self._orphans(expected, stored, results)
        for object_id, facts in expected.items():
            row = stored.get(object_id.encode())
            if facts.is_doubtful:
                self._findings.skip("objects", AMBIGUOUS if facts.has_beginning else GONE)
            elif row is not None and self._terms.is_truncated and not facts.tasks and decode_row(row.data).tasks:
                # The topics still have its creation, but not its tasks.
                self._findings.skip("objects", GONE)
            elif row is not None:
                self._findings.objects += 1
                found += self._row(object_id, facts, row, results)
            elif self._may_be_forgotten(facts):
                self._findings.forgotten += 1
            else:
                self._findings.objects += 1
                found.append(self._difference("object", object_id, "row", None, facts.described()["state"]))
        for key, row in stored.items():
            if key.decode() in expected:
                continue
            if self._terms.is_truncated:
                self._findings.skip("objects", GONE)
            else:
                self._findings.objects += 1
                told = describe_object(key.decode(), decode_row(row.data))
                found.append(self._difference("object", key.decode(), "row", told["state"], None))
        return found

    def _orphans(
        self, expected: Mapping[str, ObjectFacts], stored: Mapping[bytes, StoredRow], results: Mapping[bytes, ResultRow]
    ) -> list[Difference]:
        """Return the rows of results whose object is not in the ledger: they must be deleted together with its row."""
        found = []
        for key in results:
            object_id, sequence = unpack_result_key(key)
            facts = expected.get(object_id.decode())
            if object_id not in stored and (facts is None or self._may_be_forgotten(facts)):
                field = f"task {sequence} result row"
                found.append(self._difference("object", object_id.decode(), field, "there", None))
        return found

    def _row(
        self, object_id: str, facts: ObjectFacts, stored: StoredRow, results: Mapping[bytes, ResultRow]
    ) -> list[Difference]:
        row = decode_row(stored.data)
        pairs: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("", describe_object(object_id, row), facts.described()),
            ("", _told_of_callback(row), {"callback_url": facts.callback_url, "callback": facts.callback_state()}),
        ]
        known = sequences_of(row)
        if known != sorted(facts.tasks):
            return [self._difference("object", object_id, "tasks", len(known), len(facts.tasks))]
        for sequence in sorted(facts.tasks):
            result = results.get(result_key(object_id.encode(), sequence), NO_RESULT)
            told = describe_task(object_id, row, sequence, result) | {"result": result.result.decode()}
            pairs.append((f"task {sequence} ", told, facts.described_task(sequence)))
        found = [
            self._difference("object", object_id, f"{prefix}{name}", told[name], value)
            for prefix, told, wanted in pairs
            for name, value in wanted.items()
            if told[name] != value
        ]
        if any(_is_ahead(one, stored.written_at_ms) for one in found):
            self._findings.skip("objects", AHEAD)
            times = [told[name] for _, told, _ in pairs for name in told if name.endswith("_at_ms") and told[name]]
            facts.counted_ms = min(times), stored.written_at_ms
            found = [one for one in found if not one.field.endswith("_at_ms")]
        return found

    def _may_be_forgotten(self, facts: ObjectFacts) -> bool:
        end_ms = facts.ended_at_ms()
        if end_ms is not None:
            return end_ms + self._terms.ended_ms <= self._terms.ledger_time_ms
        return facts.alive_at_ms() + self._terms.silent_ms <= self._terms.ledger_time_ms

    def windows(self, expected: Expected, stored: Mapping[bytes, bytes]) -> list[Difference]:
        """Compare windows and totals; returns the differences.

        A late event may count in a longer window than other events of the same time. So for each window length, the
        sums of all rows in each span that is still kept in this length are compared.
        """
        rows = {decode_window_key(key): decode_counts(data) for key, data in stored.items()}
        found: list[Difference] = []
        seen: set[tuple[int, str]] = set()
        for size_ms, kept_ms in self._ladder():
            told: dict[tuple[int, str], list[Counts]] = defaultdict(list)
            wanted: dict[tuple[int, str], list[tuple[int, str]]] = defaultdict(list)
            for key, counts in rows.items():
                if 0 < key.size_ms <= size_ms:
                    told[key.start_ms // size_ms * size_ms, key.kind].append(counts)
            for start_ms, kind in expected.windows.keys() | expected.unknown:
                wanted[start_ms // size_ms * size_ms, kind].append((start_ms, kind))
            for start_ms, kind in sorted(told.keys() | wanted.keys()):
                parts = wanted[start_ms, kind]
                if start_ms + size_ms <= self._terms.windows_time_ms - kept_ms or seen.intersection(parts):
                    continue
                new = self._window(WindowKey(size_ms, start_ms, kind), expected, parts, told[start_ms, kind])
                if new:
                    seen.update(parts)
                found += new
        return found + self._totals(expected, rows)

    def _ladder(self) -> list[tuple[int, int]]:
        kept_ms = self._terms.windows_ms
        return [
            (WINDOW_MS, kept_ms),
            (60_000, max(kept_ms, 24 * _HOUR_MS)),
            (_HOUR_MS, max(kept_ms, 30 * 24 * _HOUR_MS)),
        ]

    def _window(
        self, key: WindowKey, expected: Expected, parts: list[tuple[int, str]], told: list[Counts]
    ) -> list[Difference]:
        if self._terms.is_truncated and key.start_ms < self._terms.known_from_ms:
            self._findings.skip("windows", GONE)
            return []
        if expected.unknown.intersection(parts):
            self._findings.skip("windows", GONE if self._terms.is_truncated else AMBIGUOUS)
            return []
        if expected.ahead.intersection(parts):
            self._findings.skip("windows", AHEAD)
            return []
        figures = RecountedFigures()
        for part in parts:
            figures.add(expected.windows[part])
        self._findings.windows += 1
        # Whether the first records are late depends on records before them, which were deleted. And nothing is late
        # because of a stamp that was not believed.
        but = _LATE if self._terms.is_truncated or expected.ahead else _NO_FIELDS
        name = f"of {key.size_ms // 1_000} s at {key.start_ms} of {key.kind}"
        return [self._difference("window", name, *one) for one in unequal(row_of(told), figures.as_row(), but=but)]

    def _totals(self, expected: Expected, rows: dict[WindowKey, Counts]) -> list[Difference]:
        told = {key.kind: counts for key, counts in rows.items() if key.size_ms == 0}
        found: list[Difference] = []
        for kind in sorted(told.keys() | expected.totals.keys()):
            counts = told.get(kind, Counts())
            if counts.imbalance:
                found.append(self._difference("total", kind, "imbalance", counts.imbalance, 0))
            if self._terms.is_truncated or kind in expected.unknown_kinds:
                self._findings.skip("totals", GONE if self._terms.is_truncated else AMBIGUOUS)
                continue
            self._findings.totals += 1
            figures = expected.totals.get(kind, RecountedFigures())
            but = _OF_TIMES if kind in expected.ahead_kinds else _LATE if expected.ahead else _NO_FIELDS
            unlike = unequal(row_of([counts]), figures.as_row(), but=but)
            found += [self._difference("total", kind, *one) for one in unlike]
        return found

    def _difference(self, what: str, name: str, field: str, table: Any, topics: Any) -> Difference:
        return Difference(self._partition, what, name, field, table, topics)


def _is_ahead(one: Difference, written_at_ms: int) -> bool:
    """Return whether a time differs because it was in the future when the statistics worker counted it as now."""
    if not one.field.endswith("_at_ms") or not one.table or not one.topics:
        return False
    return bool(one.topics > written_at_ms >= one.table and one.topics - one.table > _CLOCK_TOLERANCE_MS)


def _told_of_callback(row: ObjectRow) -> dict[str, Any]:
    callback = task_of(row, callback_sequence_of(row))
    state = None if callback is None else state_of_task(callback).value
    return {"callback_url": url_of(row), "callback": state}
