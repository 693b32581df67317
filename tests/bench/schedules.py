"""Schedules under kills: `make bench-schedules`, or `make bench-schedules BENCH="--schedules 100 --seconds 30"`.

Many schedules fire every second while two of the workers of distribution are killed, one after the other, and started
again. The result is only worth something if each instant of each schedule made exactly one object, so that is checked
first; then it says how late the objects were by the broker's stamps, over the whole run and away from the kills.
Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import uvloop
from fleet import TAKEN_OVER, Fleet, said, until
from pipeline import PARTITIONS, Line, console, run_parts, running_system, usage_of
from scheduled import Fired, every_second, set_schedules

PATIENCE_S = 600.0
SETTLED_MS = 3_000
"""After the schedules were written: the instants before, while workers take them over, say nothing of lateness."""
_KILLS = (("distribution-1", 0.3), ("distribution-2", 0.6))
"""Which worker dies once this share of all instants has fired."""


def spread_of(times_ms: list[int]) -> str:
    """Return median and 99th percentile for people."""
    in_order = sorted(times_ms)
    return f"{statistics.median(in_order):.0f} / {in_order[int(len(in_order) * 0.99)]} ms"


def cpu_of(fleet: Fleet) -> float:
    """Return the CPU seconds that all workers have used."""
    return sum(usage_of(one.process.pid).cpu_s for one in fleet.workers.values())


async def firings(options: argparse.Namespace) -> list[Line]:
    """Let all schedules fire, and prove the instants."""
    async with running_system(TAKEN_OVER) as (broker, fleet):
        for number in (1, 2):
            fleet.start("distribution", f"distribution-{number}")
        await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
        schedules = every_second(options.schedules, options.seconds)
        async with Fired(broker.bootstrap, schedules, PARTITIONS) as fired:
            await set_schedules(broker.bootstrap, schedules, PARTITIONS)
            set_at_ms = time.time_ns() // 1_000_000 + SETTLED_MS
            wanted = fired.expected_count
            began_at_s, began_cpu_s = time.perf_counter(), cpu_of(fleet)
            # Before the first kill nothing else goes on: these say how late they are in peace.
            await reached(fired, round(wanted * _KILLS[0][1]))
            fired_count = len(fired.late_ms)
            in_peace = [late_ms for at_ms, late_ms in fired.late_ms if at_ms > set_at_ms]
            cpu_s = cpu_of(fleet) - began_cpu_s
            for name, share in _KILLS:
                await reached(fired, round(wanted * share))
                if options.kills:
                    fleet.kill(name)
                    fleet.revive()
                    console.print(f"  killed and started {name}")
            await reached(fired, wanted)
            took_s = time.perf_counter() - began_at_s
        if found := fired.differences():
            raise SystemExit("the instants are wrong:\n" + "\n".join(found[:20]))
    how = "two kills" if options.kills else "no kills"
    what = f"{options.schedules:,} schedules every second for {options.seconds} s; {how}"
    return [
        Line(f"instants that fired exactly once ({what})", f"{wanted:,}", ""),
        Line("whole time, s", f"{took_s:.1f}", f"{options.seconds}"),
        Line("late before the first kill, median / p99", spread_of(in_peace), "100 / 500 ms"),
        Line("late over all, median / p99", spread_of([late_ms for _, late_ms in fired.late_ms]), ""),
        Line("CPU s per 1,000 firings before the first kill", f"{cpu_s / fired_count * 1_000:.3f}", ""),
    ]


async def reached(fired: Fired, count: int) -> None:
    """Wait until so many instants have fired."""
    async with asyncio.timeout(PATIENCE_S):
        while not await fired.has(count):
            pass


async def main(options: argparse.Namespace) -> None:
    """Run it."""
    await run_parts({"firings": [lambda: firings(options)]}, None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1_000, help="how many (default: 1,000)")
    parser.add_argument("--seconds", type=int, default=120, help="how long they fire (default: 120)")
    parser.add_argument("--kills", action=argparse.BooleanOptionalAction, default=True, help="kill workers (default)")
    uvloop.run(main(parser.parse_args()))
