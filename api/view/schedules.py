"""The schedules, as the view knows them: what was asked for, and what distribution has made of it.

The definitions come from the topic `schedules`, where each 202 of the API stands at once; the rows of the table
`schedules` say which of them a worker has taken over, and when they fire next. All are in memory, and in the store.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from app.errors import DecodeError
from app.rules.schedule_rows import DEFINITION, ScheduleState, decode_state
from app.rules.schedules import decode_schedule, read_schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.view.store import ViewStore
    from api.view.write import Write
    from app.rules.schedules import Schedule

_log = logging.getLogger(__name__)

ASKED_PREFIX = b"Sa"
ROW_PREFIX = b"Sr"
_DELETED = b""
"""Row of a schedule whose delete was read, until a worker has deleted it."""


class Schedules:
    """The schedules by name; fed by `View`."""

    def __init__(self) -> None:
        self._asked: dict[str, Schedule | None] = {}  # None: its delete was read
        self._taken: dict[str, Schedule] = {}
        self._states: dict[str, ScheduleState] = {}

    def load(self, store: ViewStore) -> None:
        """Start with the rows of a store."""
        for part in (self._asked, self._taken, self._states):
            part.clear()
        for key, value in store.newest_first(ASKED_PREFIX):
            self._asked[key[len(ASKED_PREFIX) :].decode()] = None if value == _DELETED else read_schedule(value)
        for key, value in store.newest_first(ROW_PREFIX):
            self._keep_row(key[len(ROW_PREFIX) :], value)

    def names(self) -> list[str]:
        """Return the names of all schedules, in order."""
        return sorted(name for name in self._asked.keys() | self._taken.keys() if self.find(name) is not None)

    def find(self, name: str) -> Schedule | None:
        """Return a schedule as it was set last, None if there is none."""
        return self._asked[name] if name in self._asked else self._taken.get(name)

    def state(self, name: str) -> ScheduleState:
        """Return when a schedule fires next, as far as a worker has said."""
        return self._states.get(name) or ScheduleState()

    def is_taken(self, name: str) -> bool:
        """Return whether a worker has taken over what was asked for last: a definition or a delete."""
        return self.find(name) == self._taken.get(name)

    def add(self, write: Write, _partition: int, records: Sequence[Any]) -> None:
        """Take in records of the topic."""
        for record in records:
            key, value = record.key or b"", record.value
            try:
                name = key.decode()
                schedule = None if value is None else decode_schedule(value)
            except (DecodeError, UnicodeDecodeError) as error:
                # Distribution puts it into the dead letters, and fires what there was before.
                _log.warning("a record of schedules is skipped: %s", error)
                continue
            if schedule is None and name not in self._taken:
                self._asked.pop(name, None)
                write.set(ASKED_PREFIX + key, None)
            elif schedule is None or schedule.name == name:
                self._asked[name] = schedule
                write.set(ASKED_PREFIX + key, _DELETED if schedule is None else value)

    def add_rows(self, write: Write, _partition: int, records: Sequence[Any]) -> None:
        """Take in rows of the table, and tombstones."""
        for record in records:
            write.set(ROW_PREFIX + record.key, record.value)
            self._keep_row(record.key, record.value)
            name = record.key[1:].decode()
            if record.value is None and self._asked.get(name, ...) is None and name not in self._taken:
                del self._asked[name]
                write.set(ASKED_PREFIX + record.key[1:], None)

    def _keep_row(self, key: bytes, value: bytes | None) -> None:
        rows: dict[str, Any] = self._taken if key[:1] == DEFINITION else self._states
        name = key[1:].decode()
        if value is None:
            rows.pop(name, None)
        else:
            rows[name] = read_schedule(value) if rows is self._taken else decode_state(value)
