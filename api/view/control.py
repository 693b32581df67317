"""The commands in force, as the view knows them: the state is in memory, the records are in the store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from app.rules.control import ControlState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.view.store import ViewStore
    from api.view.write import Write

_log = logging.getLogger(__name__)

COMMAND_PREFIX = b"c"


class Control:
    """The commands in force, in `state`; fed by `View`."""

    def __init__(self) -> None:
        self.state = ControlState(_log.warning)

    def load(self, store: ViewStore) -> None:
        """Start with the rows of a store."""
        self.state.replace({key[len(COMMAND_PREFIX) :]: value for key, value in store.newest_first(COMMAND_PREFIX)})

    def add(self, write: Write, _partition: int, records: Sequence[Any]) -> None:
        """Take in records, and put them into the write that moves the view's offset."""
        for record in records:
            self.state.apply(record.key, record.value)
            if record.key is not None:
                write.set(COMMAND_PREFIX + record.key, record.value)
