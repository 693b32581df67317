"""`ebs up`: the whole system on this machine until Ctrl-C."""

from __future__ import annotations

from typing import Annotated

import typer

from ebs.cli.options import ApiPort, Broker, DataDir, KafkaPort, Partitions, ProjectSpec, Verbose, WorkersPerRole


def up(
    *,
    project: ProjectSpec = None,
    broker: Broker = None,
    partitions: Partitions = None,
    port: ApiPort = None,
    data_dir: DataDir = None,
    kafka_port: KafkaPort = None,
    workers_per_role: WorkersPerRole = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart the workers when a Python file in the current folder changes.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Run the whole system here until Ctrl-C.

    Starts an embedded Kafka (unless --broker names another one), makes the topics, and runs the API and the workers. A
    process that dies is started again. Ctrl-C stops everything; a second Ctrl-C stops it at once.

    With --reload, each save of a Python file takes effect: running tasks have 3 s to finish, then the processing
    workers start again. A file that cannot be imported is named, and the workers keep the old one. A test restarts
    nothing.
    """
    import asyncio

    from app.addresses.ports import LOOPBACK
    from ebs.cli.local_system import Plan
    from ebs.cli.options import settings_of
    from ebs.cli.up_run import run_up
    from ebs.local.embedded_kafka import DEFAULT_PORT

    own_port = None if broker else kafka_port or DEFAULT_PORT
    settings = settings_of(
        broker=broker or f"{LOOPBACK}:{own_port}",
        partitions=partitions,
        api_port=port,
        data_dir=data_dir,
        project=project,
    )
    if reload and not settings.project:
        raise typer.BadParameter("--reload takes changes of a project: name it with --project (EBS_PROJECT)")
    asyncio.run(run_up(Plan(settings, own_port, workers_per_role, reload), verbose=verbose))
