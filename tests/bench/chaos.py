"""Random faults for as long as you like: `make chaos`, or `make chaos CHAOS="--minutes 10 --seed 7"`.

Two workers of each role work objects off at a rate, while one of them after the other is killed or frozen beyond its
session, and now and then the broker is killed; what dies is started again. At the end the checker recounts all topics:
exit code 0 only if every count is exact. The seed makes the choice of faults, not their timing, repeatable.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

import uvloop
from checker import differences
from feed import feed
from fleet import SESSION_TIMEOUT_S, Fleet, said, until
from follower import Follower
from rich.console import Console

from app.broker import ensure_topics
from app.local.embedded_kafka import EmbeddedKafka
from app.settings import load
from app.topics import catalogue

PARTITIONS = 4
console = Console()


async def fault(fleet: Fleet, broker: EmbeddedKafka, chance: random.Random) -> str:
    """Do something terrible, and say what."""
    name = chance.choice(sorted(fleet.workers))
    kind = chance.choices(["kill", "freeze", "broker"], [6, 3, 1])[0]
    if kind == "kill":
        fleet.kill(name)
        return f"killed {name}"
    if kind == "freeze" and fleet.workers[name].exit_code is None:
        fleet.freeze(name)
        frozen_s = chance.uniform(1, 3 * SESSION_TIMEOUT_S)
        await asyncio.sleep(frozen_s)
        fleet.thaw(name)
        return f"froze {name} for {frozen_s:.1f} s"
    broker.kill()
    await broker.start()
    return "killed the broker"


async def revive_forever(fleet: Fleet) -> None:
    """Start again what has ended, as a supervisor does."""
    while True:
        await asyncio.sleep(0.5)
        for name in fleet.revive():
            console.print(f"  started {name} again")


async def main(options: argparse.Namespace) -> None:
    """Run chaos and prove the counts."""
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="ebs-chaos-") as directory:
        broker = EmbeddedKafka(Path(directory), port=0)
        await broker.start()
        await ensure_topics(broker.bootstrap, catalogue(load(broker=broker.bootstrap, partitions=PARTITIONS)))
        fleet = Fleet(broker.bootstrap, Path(directory), {"EBS_PARTITIONS": str(PARTITIONS)})
        try:
            await run(options, broker, fleet, chance)
        finally:
            fleet.stop()
            await broker.stop()


async def run(options: argparse.Namespace, broker: EmbeddedKafka, fleet: Fleet, chance: random.Random) -> None:
    """Feed, do faults until the time is up, wait for the end, and check."""
    fleet.start_all(workers_per_role=2)
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
    reviving = asyncio.create_task(revive_forever(fleet))
    accepted: list[str] = []
    ends_at_s = time.monotonic() + options.minutes * 60
    fault_count = 0

    async def keep_feeding() -> None:
        while time.monotonic() < ends_at_s:
            accepted.extend(await feed(broker.bootstrap, options.rate, partitions=PARTITIONS, rate_per_s=options.rate))

    feeding = asyncio.create_task(keep_feeding())
    while time.monotonic() < ends_at_s:
        await asyncio.sleep(chance.uniform(1, 6))
        console.print(await fault(fleet, broker, chance))
        fault_count += 1
    await feeding
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        await until(lambda: follower.has_finished_objects(len(accepted)), "the end", fleet=fleet, timeout_s=120)
    reviving.cancel()
    found = await differences(broker.bootstrap, accepted=accepted)
    console.print(f"{len(accepted):,} objects, {fault_count} faults: {'exact' if not found else 'WRONG'}")
    if found:
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long faults happen (default: 2)")
    parser.add_argument("--rate", type=int, default=300, help="objects a second (default: 300)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the choice of faults")
    uvloop.run(main(parser.parse_args()))
