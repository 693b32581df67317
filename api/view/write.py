"""One write of the view: the changes of a batch of records, written to the store all or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.view.dead_letter_rows import DeadLetterRows
from api.view.object_index import Changes
from api.view.store import new_batch

if TYPE_CHECKING:
    from api.view.redrive_runs import RedriveRuns
    from api.view.store import ViewStore
    from app.names import Names


class Write:
    """The write that the folds of the topics add to; `changes` are about objects, `letters` about dead letters."""

    def __init__(self, store: ViewStore, runs: RedriveRuns, names: Names) -> None:
        self.batch = new_batch()
        self.get_many = store.get_many
        self.changes = Changes(store.get_many)
        self.letters = DeadLetterRows(store.get, self.batch, runs, names)

    def set(self, key: bytes, value: bytes | None) -> None:
        """Put a row into the store, or take it away (None: a tombstone)."""
        if value is None:
            self.batch.delete(key)
        else:
            self.batch.put(key, value)
