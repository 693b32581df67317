"""What happened in a schedule, in order: to be read by people, and compared by replays."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.loop import SimulatedLoop


class Trace:
    """Events with their virtual time; formatted only when somebody reads them."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._events: list[tuple[float, str, tuple[Any, ...]]] = []

    def note(self, text: str, *details: Any) -> None:
        """Note an event."""
        self._events.append((self._loop.now_s, text, details))

    def lines(self) -> list[str]:
        """Return the events as lines of text."""
        return [f"{at_s:9.4f}  {text % details if details else text}" for at_s, text, details in self._events]

    def digest(self) -> str:
        """Return what tells two different traces apart."""
        return sha256("\n".join(self.lines()).encode()).hexdigest()
