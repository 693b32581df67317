"""`ebs up`: the whole system on this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from api.cli.bars import DownloadBar
from api.cli.local_system import API_ROLE, OWN_ROLE, LocalSystem, Plan, worker_names
from api.cli.options import ApiPort, Broker, DataDir, KafkaPort, Partitions, WorkersPerRole, settings_of
from api.cli.readiness import readiness_of
from app.local.embedded_kafka import DEFAULT_PORT
from app.local.ports import LOOPBACK
from app.local.prefixed_output import PrefixedOutput
from app.local.supervisor import StopRequest, stop_on_signals

if TYPE_CHECKING:
    from collections.abc import Callable


def up(
    *,
    broker: Broker = None,
    partitions: Partitions = None,
    port: ApiPort = None,
    data_dir: DataDir = None,
    kafka_port: KafkaPort = None,
    workers_per_role: WorkersPerRole = 1,
) -> None:
    """Run the whole system here: a Kafka of its own (unless --broker names one), topics, API and workers.

    What dies is started again. Ctrl-C stops everything; a second one at once.
    """
    own_port = None if broker else kafka_port or DEFAULT_PORT
    settings = settings_of(
        broker=broker or f"{LOOPBACK}:{own_port}", partitions=partitions, api_port=port, data_dir=data_dir
    )
    asyncio.run(_up(Plan(settings, own_port, workers_per_role)))


async def _up(plan: Plan) -> None:
    output = PrefixedOutput(sys.stdout, [OWN_ROLE, API_ROLE, *worker_names(plan)])

    def say(line: str) -> None:
        output(OWN_ROLE, line)

    request = StopRequest()
    with stop_on_signals(request), DownloadBar() as bar:
        system = LocalSystem(plan, output=output, say=say, on_download=bar)
        announcing = asyncio.create_task(_announce(system, say))
        try:
            await system.run(request)
        finally:
            announcing.cancel()
    say("everything is stopped")


async def _announce(system: LocalSystem, say: Callable[[str], None]) -> None:
    await system.started.wait()
    await readiness_of(system, say).wait()
    url = system.plan.api_url
    say(f"ready: curl -X POST {url}/api/objects makes an object, curl {url}/api/statistics counts; Ctrl-C stops all")
