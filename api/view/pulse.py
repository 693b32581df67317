"""The statistics once a second for all who watch: computed once, whoever is slow gets the latest."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from api.view.answers import describe_view
from api.view.view import ViewBehind
from app.rules.counts import Counts, add_counts, describe_counts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from api.view.view import View

_EVERY_S = 1.0
_RATE_OVER_MS = 5_000
_RATED = (
    "objects_created",
    "objects_finished",
    "tasks_created",
    "tasks_started",
    "tasks_finished",
    "tasks_failed",
    "tasks_retried",
    "tasks_died",
    "tasks_cancelled",
)


class Beat(NamedTuple):
    """One update as JSON; `problem` says why there are no figures now."""

    number: int
    short: bytes
    with_kinds: bytes
    problem: str | None = None


class Pulse:
    """Computes while somebody watches."""

    def __init__(self, view: View, clock_ms: Callable[[], int], every_s: float = _EVERY_S) -> None:
        self._view = view
        self._clock_ms = clock_ms
        self._every_s = every_s
        self._watching = 0
        self._task: asyncio.Task[None] | None = None
        self._beat = Beat(0, b"", b"")
        self._came = asyncio.Event()
        self._samples: deque[tuple[int, Counts]] = deque()
        self._closed = False

    async def beats(self) -> AsyncGenerator[Beat, None]:
        """Yield the figures now and then once a second; to one who is slow only the latest."""
        self._watching += 1
        if self._task is None:
            self._take()
            self._task = asyncio.create_task(self._run())
        try:
            seen = 0
            while not self._closed:
                if self._beat.number == seen:
                    came = self._came
                    await came.wait()
                    continue
                seen = self._beat.number
                yield self._beat
        finally:
            self._watching -= 1
            if not self._watching and self._task is not None:
                self._task.cancel()
                self._task = None
                self._samples.clear()

    def close(self) -> None:
        """Let everybody who watches go: the process stops."""
        self._closed = True
        self._wake()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self._take()

    def _take(self) -> None:
        try:
            short, kinds = self._figures()
            self._beat = Beat(
                self._beat.number + 1, msgspec.json.encode(short), msgspec.json.encode(short | {"kinds": kinds})
            )
        except ViewBehind as error:
            self._samples.clear()
            self._beat = Beat(self._beat.number + 1, b"", b"", str(error))
        self._wake()

    def _wake(self) -> None:
        self._came.set()
        self._came = asyncio.Event()

    def _figures(self) -> tuple[dict[str, Any], dict[str, Any]]:
        now_ms = self._clock_ms()
        by_kind = self._view.totals()
        total = Counts()
        for counts in by_kind.values():
            add_counts(total, counts)
        # In one go: kind by kind it would be a question about all kinds for each of them.
        states = self._view.objects.counts_by_kind()
        short = {
            "at_ms": now_ms,
            **describe_counts(total),
            "imbalance": total.imbalance,
            "objects_by_state": self._view.objects.counts(None),
            "rates_per_s": self._rates(now_ms, total),
            "view": describe_view(self._view, now_ms),
        }
        kinds = {
            kind: {**describe_counts(counts), "imbalance": counts.imbalance, "objects_by_state": states.get(kind, {})}
            for kind, counts in sorted(by_kind.items())
        }
        return short, kinds

    def _rates(self, now_ms: int, total: Counts) -> dict[str, float] | None:
        """Return what happened a second over the last seconds; None at the first look."""
        samples = self._samples
        samples.append((now_ms, total))
        while len(samples) > 2 and samples[1][0] <= now_ms - _RATE_OVER_MS:
            samples.popleft()
        since_ms, before = samples[0]
        if now_ms <= since_ms:
            return None
        over_s = (now_ms - since_ms) / 1_000
        rates = {name: round((getattr(total, name) - getattr(before, name)) / over_s, 2) for name in _RATED}
        return {"over_s": over_s, **rates}
