"""Requests that wait until something is said of an object: a dictionary lookup for each object that the view reads."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Waiters:
    """Those who wait, by object id."""

    def __init__(self) -> None:
        self._bells: dict[bytes, set[asyncio.Event]] = {}

    @contextmanager
    def watching(self, object_id: str) -> Iterator[asyncio.Event]:
        """Yield an event that is set whenever an object changes; the waiting request clears it."""
        key = object_id.encode()
        bell = asyncio.Event()
        bells = self._bells.setdefault(key, set())
        bells.add(bell)
        try:
            yield bell
        finally:
            bells.discard(bell)
            if not bells:
                self._bells.pop(key, None)

    def wake(self, object_ids: Iterable[bytes]) -> None:
        """Something was said of these."""
        if self._bells:
            for object_id in object_ids:
                for bell in self._bells.get(object_id, ()):
                    bell.set()

    def wake_all(self) -> None:
        """Let everybody look again."""
        for bells in self._bells.values():
            for bell in bells:
                bell.set()

    @property
    def count(self) -> int:
        """How many wait."""
        return sum(map(len, self._bells.values()))
