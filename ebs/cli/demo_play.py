"""What `ebs demo` does to a running system, through its HTTP API only: post objects, watch, compare."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from app.errors import EbsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ebs.cli.readiness import Readiness

    Figures = Mapping[str, Any]

POLL_S = 0.2
_MAX_COUNT = 100_000  # objects that one call makes
_POLLS_UNTIL_SECOND_LOOK = 5
_PATIENCE_S = 120.0


class DemoFailed(EbsError):
    """The demonstration did not come to its end; says where it stood."""


@dataclass(frozen=True)
class DemoOutcome:
    """The last figures, and what is wrong with them, a sentence each."""

    figures: Figures
    differences: list[str]


def expected_figures(before: Figures, objects: int, tasks_per_object: int) -> dict[str, int]:
    """Return what the statistics must say when everything is finished, given what they said before."""
    tasks = before["tasks_created"] + objects * tasks_per_object
    return {
        "objects_created": before["objects_created"] + objects,
        "tasks_created": tasks,
        "tasks_started": tasks,
        "tasks_finished": tasks,
        "tasks_in_progress": 0,
    }


def differences(expected: Mapping[str, int], found: Figures) -> list[str]:
    """Return a sentence for each figure that is not as it must be."""
    return [f"{name} is {found.get(name)}, not {value}" for name, value in expected.items() if found.get(name) != value]


def is_over(expected: Mapping[str, int], found: Figures) -> bool:
    """Tell whether something was counted twice: no waiting will mend that."""
    return any(found[name] > value for name, value in expected.items() if name != "tasks_in_progress")


def patience_s(objects: int, tasks_per_object: int, work_s: float, concurrency: int) -> float:
    """Return how long a run may take: three times what the work itself needs, and time to start and to be slow."""
    tasks = objects * tasks_per_object
    return _PATIENCE_S + 3 * tasks * work_s / concurrency + tasks / 200


class DemoPlay:
    """Posts objects and watches their tasks; `on_progress(finished, total)` is called with the counts."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        readiness: Readiness,
        *,
        on_progress: Callable[[int, int], None],
        poll_s: float = POLL_S,
    ) -> None:
        self._client = client
        self._readiness = readiness
        self._on_progress = on_progress
        self._poll_s = poll_s
        self._latest: Figures | None = None
        self._expected: dict[str, int] = {}

    async def run(self, objects: int, tasks_per_object: int, timeout_s: float) -> DemoOutcome:
        """Return when all tasks are finished, or counted wrongly for good. Raises `DemoFailed` after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._readiness.wait()
                before = await self._read_figures()
                self._expected = expected_figures(before, objects, tasks_per_object)
                self._on_progress(0, objects * tasks_per_object)
                await self._post(objects)
                return await self._watch(before["tasks_finished"], objects * tasks_per_object)
        except TimeoutError:
            raise DemoFailed(f"not finished after {timeout_s:g} s (--timeout): {self._where()}") from None

    def _where(self) -> str:
        if self._latest is None:
            return f"not ready yet: {self._readiness}"
        return "; ".join(differences(self._expected, self._latest))

    async def _post(self, objects: int) -> None:
        left = objects
        while left > 0:
            count = min(left, _MAX_COUNT)
            response = await self._client.post("/api/objects", params={"count": count})
            if not response.is_success:
                raise DemoFailed(f"the API did not accept {count} objects: {response.status_code} {response.text}")
            left -= count

    async def _watch(self, finished_before: int, total: int) -> DemoOutcome:
        while True:
            figures = await self._read_figures()
            self._on_progress(figures["tasks_finished"] - finished_before, total)
            wrong = differences(self._expected, figures)
            if not wrong:
                await asyncio.sleep(
                    self._poll_s * _POLLS_UNTIL_SECOND_LOOK
                )  # a duplicate would arrive after the last one
                figures = await self._read_figures()
                return DemoOutcome(figures, differences(self._expected, figures))
            if is_over(self._expected, figures):
                return DemoOutcome(figures, wrong)
            await asyncio.sleep(self._poll_s)

    async def _read_figures(self) -> Figures:
        """Return the totals; a moment without them, as when the API starts again, is waited over."""
        while True:
            try:
                response = await self._client.get("/api/statistics")
                if response.is_success:
                    self._latest = response.json()
                    return self._latest
            except httpx.TransportError:  # it is started again
                pass
            await asyncio.sleep(self._poll_s)
