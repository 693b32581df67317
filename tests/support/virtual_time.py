"""An event loop whose time passes only when a test says so: an hour costs nothing, and no machine is too slow."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_TURNS = 12


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own; seconds since it was made."""

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__()

    def time(self) -> float:
        """Return the time that the test has let pass."""
        return self._now_s

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function as from within the loop."""
        self.run_until_complete(_called(function, *arguments))

    def settle(self) -> None:
        """Run everything that needs no time to pass."""
        self.run_until_complete(_turns())

    def pass_time(self, seconds: float) -> None:
        """Let time pass, from timer to timer."""
        until_s = self._now_s + seconds
        self.settle()
        while (due_s := self._next_due_s()) is not None and due_s <= until_s:
            self._now_s = max(self._now_s, due_s)
            self.settle()
        self._now_s = until_s
        self.settle()

    def shut(self, *ending: asyncio.Task[Any]) -> None:
        """Cancel tasks, let them end, and close."""
        for task in ending:
            task.cancel()
        self.run_until_complete(asyncio.gather(*ending, return_exceptions=True))
        self.settle()
        self.close()

    def _next_due_s(self) -> float | None:
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        return min(timers, default=None)


async def _called(function: Callable[..., object], *arguments: Any) -> None:
    function(*arguments)


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
