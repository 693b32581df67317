"""`ebs demo`: the whole system, some objects, and what became of them."""

from __future__ import annotations

from typing import Annotated

import typer

from ebs.cli.options import ApiPort, Broker, DataDir, KafkaPort, Partitions, Verbose, WorkersPerRole


def demo(
    objects: Annotated[
        int, typer.Option("--objects", metavar="N", min=1, max=10_000_000, help="How many objects to post.")
    ] = 200,
    *,
    leave: Annotated[
        bool, typer.Option("--exit", help="Exit at the end: with 0 only if the counts are exact.")
    ] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", metavar="SECONDS", min=1, help="How long the tasks may take. Default: depends on --objects."
        ),
    ] = None,
    verbose: Verbose = False,
    broker: Broker = None,
    partitions: Partitions = None,
    port: ApiPort = None,
    data_dir: DataDir = None,
    kafka_port: KafkaPort = None,
    workers_per_role: WorkersPerRole = 1,
) -> None:
    """Run the whole system, post objects and show the counts.

    The demo has its own data directory. If the usual ports are taken, it uses the next free ones.
    """
    import asyncio
    import shutil
    import tempfile
    from pathlib import Path

    from ebs.cli.demo_run import INTERRUPTED, Demo, plan_of

    directory = data_dir or Path(tempfile.mkdtemp(prefix="ebs-demo-"))
    plan = plan_of(
        directory,
        broker=broker,
        partitions=partitions,
        port=port,
        kafka_port=kafka_port,
        workers_per_role=workers_per_role,
    )
    exit_code = asyncio.run(Demo(plan, objects=objects, leave=leave, timeout_s=timeout_s, verbose=verbose).run())
    if data_dir is None and exit_code in {0, INTERRUPTED}:
        shutil.rmtree(directory, ignore_errors=True)
    raise typer.Exit(exit_code)
