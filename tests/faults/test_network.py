"""Requests that arrive late, answers that are lost, ways that are cut: no count is wrong, whatever the network does.

Everything that is harmed goes through a proxy that knows Kafka's protocol (`tests/support/kafka_proxy.py`). Each test
runs on a cluster with transactions of version 2 (KIP-890) and on one without, because they are two mechanisms.
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from api_process import PATIENCE_S
from checker import differences
from feed import feeding
from fleet import ROLES, SESSION_TIMEOUT_S, running_fleet, said, until
from follower import Follower
from kafka_proxy import API_KEYS, Harm, Rule
from proxied_site import PARTITIONS, proxied_site

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator
    from pathlib import Path

    from fleet import Fleet
    from kafka_proxy import KafkaProxy
    from proxied_site import ProxiedSite

    Phase = Callable[[KafkaProxy, Fleet], Awaitable[None]]

RATE_PER_S = 100
MIN_TASKS = 100
"""Tasks that a phase of harm sees finished at least."""
SHARES = (0.1, 0.3)
"""Of the requests of an api that are harmed: half of them are late, half of the answers are lost."""
STEPS = ("EndTxn", "TxnOffsetCommit", "Produce")
STEPS_V1 = (*STEPS, "AddPartitionsToTxn", "AddOffsetsToTxn")
READING = ("Fetch", "Metadata", "Heartbeat")
JOINING = ("InitProducerId", "JoinGroup", "SyncGroup", "OffsetFetch", "FindCoordinator")
"""What only a worker that starts sends, or one that is rebalanced: each phase kills one."""
OFFSETS_WAIT = Rule("TxnOffsetCommit", Harm.SLOW, 1.0, (0.05, 0.15))
"""Between the outputs of a step and its offsets is where a late EndTxn does its harm: more of them hit it."""
CUT_S = SESSION_TIMEOUT_S + 1.0
VERSIONS = pytest.mark.parametrize("site", [2, 1], ids=["transactions-v2", "transactions-v1"], indirect=True)


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProxiedSite]:
    """Return a site behind a proxy, on a cluster whose transactions are of the version that is asked for."""
    with proxied_site(tmp_path, request.param) as found:
        yield found


@pytest.fixture
def fleet(site: ProxiedSite, tmp_path: Path) -> Iterator[Fleet]:
    """Return workers that reach the broker through the proxy only."""
    with running_fleet(site.proxy.bootstrap, tmp_path, PARTITIONS) as workers:
        yield workers


async def run_under(site: ProxiedSite, fleet: Fleet, phases: Iterable[Phase]) -> list[str]:
    """Let objects flow through one phase of harm after the other; returns what the checker finds."""
    broker, proxy = site.broker, site.proxy
    await until(lambda: said(fleet.workers.values(), "are ready: "), "all workers", fleet=fleet, reviving=True)
    async with Follower(broker.bootstrap, PARTITIONS) as follower:
        async with feeding(broker.bootstrap, partitions=PARTITIONS, rate_per_s=RATE_PER_S) as accepted:
            for phase in phases:
                wanted = len(follower.finished_tasks) + MIN_TASKS
                await phase(proxy, fleet)
                await until(
                    lambda wanted=wanted: follower.has_finished_tasks(wanted), str(phase), fleet=fleet, reviving=True
                )
        proxy.mend()
        await until(
            lambda: follower.has_finished_objects(len(accepted)),
            "the end",
            fleet=fleet,
            reviving=True,
            timeout_s=2 * PATIENCE_S,
        )
    return await differences(broker.bootstrap, accepted=accepted)


def harming(api: str, share: float) -> tuple[Rule, ...]:
    """Return the rules that harm a share of the requests of an api."""
    return (Rule(api, Harm.LATE, share / 2), Rule(api, Harm.LOST_ANSWER, share / 2), OFFSETS_WAIT)


def harm(api: str, share: float) -> Phase:
    """Return a phase in which a share of the requests of an api is harmed, some at least of each sort."""

    async def begin(proxy: KafkaProxy, fleet: Fleet) -> None:
        proxy.harmed.clear()
        proxy.rules = harming(api, share)
        for kind in (Harm.LATE, Harm.LOST_ANSWER):
            told = f"a {api} whose fate is: {kind.value}"
            await until(lambda kind=kind: proxy.harmed[api, kind] > 0, told, fleet=fleet, reviving=True)

    return begin


def harm_and_kill(api: str, name: str) -> Phase:
    """Return a phase in which a worker dies while requests that those send who start or are rebalanced are harmed."""

    async def begin(proxy: KafkaProxy, fleet: Fleet) -> None:
        proxy.rules = harming(api, max(SHARES))
        fleet.kill(name)

    return begin


@VERSIONS
async def test_requests_of_steps_are_late_and_their_answers_lost(site: ProxiedSite, fleet: Fleet) -> None:
    """Each request of a transaction may arrive after its client has given up, or be done without its knowledge."""
    apis = STEPS if site.transaction_version == 2 else STEPS_V1
    fleet.start_all(workers_per_role=2)
    found = await run_under(site, fleet, [harm(api, share) for api in apis for share in SHARES])
    assert [] == found, "\n".join([*found, fleet.last_words()])
    if site.transaction_version == 2:
        assert not site.proxy.asked[API_KEYS["AddPartitionsToTxn"]] + site.proxy.asked[API_KEYS["AddOffsetsToTxn"]]


@VERSIONS
async def test_requests_of_reading_and_joining_are_late_and_their_answers_lost(site: ProxiedSite, fleet: Fleet) -> None:
    """Neither fetching nor the group's membership loses or repeats a record, while workers die and come back."""
    fleet.start_all(workers_per_role=2)
    names = cycle(f"{role}-{number}" for number in (1, 2) for role in ROLES)
    phases = [harm(api, share) for api in READING for share in SHARES]
    phases += [harm_and_kill(api, next(names)) for api in JOINING for _ in SHARES]
    found = await run_under(site, fleet, phases)
    assert [] == found, "\n".join([*found, fleet.last_words()])


@VERSIONS
async def test_network_is_cut_for_longer_than_a_session(site: ProxiedSite, fleet: Fleet) -> None:
    """One way, the other, or both: workers that come back late find their places taken, and repeat nothing."""

    async def no_requests(proxy: KafkaProxy, _fleet: Fleet) -> None:
        proxy.deaf = True
        await asyncio.sleep(CUT_S)
        proxy.mend()

    async def no_answers(proxy: KafkaProxy, _fleet: Fleet) -> None:
        proxy.mute = True
        await asyncio.sleep(CUT_S)
        proxy.mend()

    async def nothing(proxy: KafkaProxy, _fleet: Fleet) -> None:
        proxy.cut()
        await asyncio.sleep(CUT_S)
        proxy.mend()

    fleet.start_all(workers_per_role=2)
    found = await run_under(site, fleet, [no_requests, no_answers, nothing])
    assert [] == found, "\n".join([*found, fleet.last_words()])


@pytest.mark.parametrize("site", [1], indirect=True)
async def test_without_doubt_a_late_end_commits_the_next_step_half_way(site: ProxiedSite, fleet: Fleet) -> None:
    """An EndTxn that is repeated silently, as aiokafka does, doubles events: the checker must find them."""
    others = {"EBS_BROKER": site.broker.bootstrap}
    fleet.start("distribution", **others)
    fleet.start("statistics", **others)
    sabotage = {"SABOTAGE_ROLE": "processing", "SABOTAGE_MARKER": str(fleet.directory / "marker")}
    fleet.start("processing", module="sabotaged", SABOTAGE_BREAK="ends", **sabotage)

    async def late_ends(proxy: KafkaProxy, _fleet: Fleet) -> None:
        proxy.rules = (Rule("EndTxn", Harm.LATE, 0.5, (0.13, 0.8)), OFFSETS_WAIT)

    found = await run_under(site, fleet, [late_ends] * 6)
    assert any("stands 2 times on task-events" in one for one in found), found
