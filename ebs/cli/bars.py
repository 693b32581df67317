"""Progress bars of the `ebs` command."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import ProgressColumn

_LINE_EVERY_S = 2.0


class _Bar:
    """Called with what is done and the total, draws a bar; shows nothing before the first call."""

    def __init__(self, console: Console, words: str, *columns: ProgressColumn) -> None:
        self._words = words
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=console)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress.tasks:  # one that never began would end with an empty line
            self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """Draw; from any thread."""
        if not self._progress.tasks:
            self._progress.add_task(self._words, total=total)
            self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=done)
        if done >= total:
            self._progress.stop()


class DownloadBar(_Bar):
    """Bytes of the one download that a machine's first start needs, on stderr."""

    def __init__(self) -> None:
        super().__init__(
            Console(stderr=True), "fetching Apache Kafka, only this once", DownloadColumn(), TimeRemainingColumn()
        )


class RecordBar(_Bar):
    """Records that were read of the topics; nothing where there is no terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "recounting", MofNCompleteColumn(), TimeRemainingColumn())
        self._is_shown = console.is_terminal

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is; what is to come may turn out to be more or less."""
        if self._is_shown:
            super().__call__(done, total)
            self._progress.update(self._progress.task_ids[0], total=total)


class _CountBar(_Bar):
    """Things that are done, by their `words`; where there is no terminal, a line every 2 s instead of a bar."""

    def __init__(self, console: Console, words: str) -> None:
        super().__init__(console, words, MofNCompleteColumn(), TimeElapsedColumn())
        self._console = console
        self._said_s: float | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show how far they are."""
        if self._console.is_terminal:
            super().__call__(done, total)
            return
        now_s = time.monotonic()
        if self._said_s is None or now_s - self._said_s >= _LINE_EVERY_S or done >= total:
            self._said_s = now_s
            self._console.print(f"{done} of {total} {self._words}", highlight=False)


class TaskBar(_CountBar):
    """Tasks that are finished."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "tasks finished")


class EndedBar(_CountBar):
    """Objects that are at their end, whichever it is."""

    def __init__(self, console: Console) -> None:
        super().__init__(console, "objects at their end")
