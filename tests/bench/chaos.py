"""Random faults for as long as you like: `make chaos`, or `make chaos CHAOS="--minutes 10 --seed 7"`.

Two workers of each role work objects off at a rate, while one of them after the other is killed or frozen beyond its
session, the network delays requests, loses answers or is cut, and now and then the broker is killed; what dies is
started again. Half of the objects are of a kind with a queue of its own, which has two workers, too. At the end the
checker recounts all topics: exit code 0 only if every count is exact. The seed makes the choice of faults, not their
timing, repeatable.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

import uvloop
from any_kind_project import QUEUE, QUEUED
from checker import differences
from feed import feeding
from fleet import SESSION_TIMEOUT_S, Fleet, running_fleet, said, until
from follower import Follower
from kafka_proxy import Harm, Rule
from proxied_site import PARTITIONS, ProxiedSite, proxied_site
from rich.console import Console

from app.names import Names

console = Console()
APIS = ("EndTxn", "TxnOffsetCommit", "Produce", "InitProducerId", "Fetch", "Metadata", "Heartbeat", "JoinGroup")
KINDS = {"kill": 6, "freeze": 3, "harm": 4, "cut": 2, "broker": 1}
"""What happens, and how often beside the others."""


async def fault(fleet: Fleet, site: ProxiedSite, chance: random.Random) -> str:
    """Do something terrible, and say what."""
    name = chance.choice(sorted(fleet.workers))
    kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "kill":
        fleet.kill(name)
        return f"killed {name}"
    if kind == "freeze" and fleet.workers[name].exit_code is None:
        fleet.freeze(name)
        frozen_s = chance.uniform(1, 3 * SESSION_TIMEOUT_S)
        await asyncio.sleep(frozen_s)
        fleet.thaw(name)
        return f"froze {name} for {frozen_s:.1f} s"
    if kind == "harm":
        harms = {api: chance.choice([Harm.LATE, Harm.LOST_ANSWER]) for api in chance.sample(APIS, 3)}
        site.proxy.rules = tuple(Rule(api, harm, 0.3) for api, harm in harms.items())
        await asyncio.sleep(chance.uniform(1, 10))
        site.proxy.mend()
        return "network: " + ", ".join(f"{api} {harm.value}" for api, harm in harms.items())
    if kind == "cut":
        way = chance.choice(["deaf", "mute", "cut"])
        cut_s = chance.uniform(0.5, 2 * SESSION_TIMEOUT_S)
        if way == "cut":
            site.proxy.cut()
        else:
            setattr(site.proxy, way, True)
        await asyncio.sleep(cut_s)
        site.proxy.mend()
        return f"network: {way} for {cut_s:.1f} s"
    site.broker.kill()
    await site.broker.start()
    return "killed the broker"


async def revive_forever(fleet: Fleet) -> None:
    """Start again what has ended, as a supervisor does."""
    while True:
        await asyncio.sleep(0.5)
        for name in fleet.revive():
            console.print(f"  started {name} again")


def main(options: argparse.Namespace) -> None:
    """Run chaos and prove the counts."""
    chance = random.Random(options.seed)
    with (
        tempfile.TemporaryDirectory(prefix="ebs-chaos-") as name,
        proxied_site(Path(name), options.transactions) as site,
        running_fleet(
            site.proxy.bootstrap,
            Path(name),
            PARTITIONS,
            namespace=options.namespace,
            EBS_PROJECT="any_kind_project",
        ) as fleet,
    ):
        uvloop.run(run(options, site, fleet, chance))


async def run(options: argparse.Namespace, site: ProxiedSite, fleet: Fleet, chance: random.Random) -> None:
    """Feed, do faults until the time is up, wait for the end, and check."""
    bootstrap, names = site.broker.bootstrap, Names(options.namespace)
    fleet.start_all(workers_per_role=2)
    for number in (1, 2):
        fleet.start("processing", f"{QUEUE}-{number}", EBS_QUEUE=QUEUE)
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet)
    reviving = asyncio.create_task(revive_forever(fleet))
    ends_at_s = time.monotonic() + options.minutes * 60
    fault_count = 0
    half = {"partitions": PARTITIONS, "rate_per_s": max(1, options.rate // 2), "names": names}
    async with feeding(bootstrap, **half) as of_default, feeding(bootstrap, kind=QUEUED, **half) as of_queue:
        while time.monotonic() < ends_at_s:
            await asyncio.sleep(chance.uniform(1, 6))
            console.print(await fault(fleet, site, chance))
            fault_count += 1
    accepted = [*of_default, *of_queue]
    async with Follower(bootstrap, PARTITIONS, names) as follower:
        try:
            await until(lambda: follower.has_finished_objects(len(accepted)), "the end", fleet=fleet, timeout_s=300)
        except AssertionError as error:
            if options.hold:
                console.print(error, f"It all runs on in {site.directory}, the broker at {bootstrap}, until Ctrl-C.")
                await asyncio.Event().wait()
            raise
    reviving.cancel()
    found = await differences(bootstrap, names, accepted=accepted)
    console.print(f"{len(accepted):,} objects, {fault_count} faults: {'exact' if not found else 'WRONG'}")
    if found:
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="how long faults happen (default: 2)")
    parser.add_argument("--rate", type=int, default=300, help="objects a second (default: 300)")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the choice of faults")
    parser.add_argument("--namespace", default="", help="EBS_NAMESPACE of the workers (default: none)")
    parser.add_argument("--transactions", type=int, default=2, choices=[1, 2], help="their version (default: 2)")
    parser.add_argument("--hold", action="store_true", help="let a system that hangs run on, to look at it")
    main(parser.parse_args())
