"""Which seeds are run, and running many of them on all CPUs.

`MODEL_SEEDS` chooses others than the fixed ones: "4711" is one, "5000-5999" are a thousand, "2000" with "+" in front
("+2000") are so many that nobody has tried.
"""

from __future__ import annotations

import gc
import os
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

from simulation.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FIXED_SEEDS = range(1_000)
_SEEDS_AT_ONCE = 20
_NEWEST_SEED = 2**31
_GARBAGE_THRESHOLDS = (50_000, 20, 20)
"""A schedule's objects live as long as it does: Python's own thresholds cost a tenth of the time."""


class Ran(NamedTuple):
    """A schedule that was run: what was found, and the digest of its trace."""

    seed: int
    found: list[str]
    digest: str


def chosen_seeds() -> Sequence[int]:
    """Return the fixed seeds, or those that MODEL_SEEDS names. Raises `ValueError` if it names none."""
    asked = os.environ.get("MODEL_SEEDS", "")
    if not asked:
        return FIXED_SEEDS
    if asked.startswith("+"):
        first = random.SystemRandom().randrange(len(FIXED_SEEDS), _NEWEST_SEED)
        return range(first, first + int(asked[1:]))
    first_text, _, last_text = asked.partition("-")
    return range(int(first_text), int(last_text or first_text) + 1)


def run_one(seed: int) -> Ran:
    """Run the schedule of a seed; an error in the model itself is a finding, too."""
    schedule = Schedule(seed)
    try:
        found = schedule.run()
    except Exception as error:  # noqa: BLE001  # the seed must be told, and the others run
        found = [f"the schedule has failed: {error!r}"]
    return Ran(seed, found, schedule.trace.digest() if found else "")


def run_many(seeds: Sequence[int]) -> Iterator[Ran]:
    """Run many schedules, each in whatever process is free, and yield them in order."""
    if len(seeds) <= _SEEDS_AT_ONCE:
        yield from map(run_one, seeds)
        return
    with ProcessPoolExecutor(
        os.cpu_count(), get_context("spawn"), initializer=gc.set_threshold, initargs=_GARBAGE_THRESHOLDS
    ) as pool:
        yield from pool.map(run_one, seeds, chunksize=_SEEDS_AT_ONCE)
