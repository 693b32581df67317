"""Results and errors of tasks in the view: they have their own rows, apart from the ledger's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.view.rows import RESULT_PREFIX
from app.rules.ledger_rows import has_result, has_result_row, known_task
from app.rules.results import NO_RESULT, decode_result_row, result_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from api.view.store import ViewStore
    from app.rules.ledger_rows import ObjectRow, TaskRow
    from app.rules.results import ResultRow


class TaskResults:
    """Reads the rows of an opened store; `catch_up` waits until the view has read all results."""

    def __init__(self, opened: Callable[[], ViewStore], catch_up: Callable[[], Awaitable[None]]) -> None:
        self._opened = opened
        self._catch_up = catch_up

    async def page(self, object_id: str, row: ObjectRow, sequences: Sequence[int], max_bytes: int) -> list[ResultRow]:
        """Return the rows of the first of these tasks: at least one, until they have `max_bytes`.

        The ledger's rows and these rows come from two topics. If the ledger has a result whose row is not here yet,
        this waits for the row. Raises `ViewBehind` if it does not come in time.
        """
        rows = self._read(object_id, row, sequences, max_bytes)
        if any(_is_missing(known_task(row, sequence), one) for sequence, one in zip(sequences, rows, strict=False)):
            await self._catch_up()
            rows = self._read(object_id, row, sequences, max_bytes)
        return rows

    def _read(self, object_id: str, row: ObjectRow, sequences: Sequence[int], max_bytes: int) -> list[ResultRow]:
        get = self._opened().get
        key = object_id.encode()
        rows: list[ResultRow] = []
        size_bytes = 0
        for sequence in sequences:
            if rows and size_bytes >= max_bytes:
                break
            stored = (
                get(RESULT_PREFIX + result_key(key, sequence)) if has_result_row(known_task(row, sequence)) else None
            )
            rows.append(decode_result_row(stored) if stored else NO_RESULT)
            size_bytes += len(stored or b"")
        return rows


def _is_missing(task: TaskRow, found: ResultRow) -> bool:
    return (has_result_row(task) and found is NO_RESULT) or (has_result(task) and not found.result)
