"""The statistics for all streams: computed once a second, and slow clients get only the latest."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from api.server.broadcast import Broadcast
from api.view.answers import describe_view
from api.view.behind import ViewBehind
from app.rules.counts import describe_totals

if TYPE_CHECKING:
    from collections.abc import Callable

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


class StatisticsUpdate(NamedTuple):
    """One update as JSON; `problem` says why there are no figures now.

    No two have one number: so each is sent, also if nothing has changed.
    """

    number: int
    short: bytes
    with_kinds: bytes
    problem: str | None = None


class StatisticsUpdates:
    """The figures that all who watch share."""

    def __init__(self, view: View, clock_ms: Callable[[], int], every_s: float = _EVERY_S) -> None:
        self._view = view
        self._clock_ms = clock_ms
        self._samples: deque[tuple[int, dict[str, Any]]] = deque()
        self._count = 0
        self.shared = Broadcast(self._take, every_s)

    async def _take(self) -> StatisticsUpdate:
        self._count += 1
        try:
            short, kinds = self._figures()
        except ViewBehind as error:
            self._samples.clear()
            return StatisticsUpdate(self._count, b"", b"", str(error))
        return StatisticsUpdate(self._count, msgspec.json.encode(short), msgspec.json.encode(short | {"kinds": kinds}))

    def _figures(self) -> tuple[dict[str, Any], dict[str, Any]]:
        now_ms = self._clock_ms()
        total, of_kinds = describe_totals(self._view.statistics.totals())
        # In one go: kind by kind it would be a question about all kinds for each of them.
        states = self._view.objects.counts_by_kind()
        short = {
            "at_ms": now_ms,
            **total,
            "objects_by_state": self._view.objects.counts(None),
            "rates_per_s": self._rates(now_ms, total),
            "view": describe_view(self._view, now_ms),
        }
        kinds = {kind: {**told, "objects_by_state": states.get(kind, {})} for kind, told in of_kinds.items()}
        return short, kinds

    def _rates(self, now_ms: int, total: dict[str, Any]) -> dict[str, float] | None:
        """Return what happened a second over the last seconds; None at the first look."""
        samples = self._samples
        if samples and now_ms - samples[-1][0] > _RATE_OVER_MS:
            samples.clear()  # nobody watched in between
        samples.append((now_ms, total))
        while len(samples) > 2 and samples[1][0] <= now_ms - _RATE_OVER_MS:
            samples.popleft()
        since_ms, before = samples[0]
        if now_ms <= since_ms:
            return None
        over_s = (now_ms - since_ms) / 1_000
        rates = {name: round((total[name] - before[name]) / over_s, 2) for name in _RATED}
        return {"over_s": over_s, **rates}
