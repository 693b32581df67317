"""`ebs up`: the whole system on this machine until Ctrl-C."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ebs.cli.options import ApiPort, Broker, DataDir, KafkaPort, Partitions, ProjectSpec, Verbose, WorkersPerRole
from ebs.queues import why_no_queue

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_WORKERS = 64


def up(
    *,
    project: ProjectSpec = None,
    broker: Broker = None,
    partitions: Partitions = None,
    port: ApiPort = None,
    data_dir: DataDir = None,
    kafka_port: KafkaPort = None,
    workers_per_role: WorkersPerRole = 1,
    queue: Annotated[
        list[str] | None,
        typer.Option(
            "--queue",
            metavar="NAME=N",
            help="Processing workers of a queue; repeatable. Default: one for each queue of the project.",
        ),
    ] = None,
    reload: Annotated[
        bool, typer.Option("--reload", help="Restart the workers when a Python file in the current folder changes.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Run the whole system here until Ctrl-C.

    Starts an embedded Kafka (unless --broker names another one), makes the topics, and runs the API and the workers. A
    process that dies is started again. Ctrl-C stops everything; a second Ctrl-C stops it at once.

    Each queue that the project names has a worker of its own; --queue gpu=2 starts two for the queue gpu, and
    --queue gpu=0 none.

    With --reload, each save of a Python file takes effect: running tasks have 3 s to finish, then the processing
    workers start again. A file that cannot be imported is named, and the workers keep the old one. A test restarts
    nothing.
    """
    import asyncio

    from app.addresses.ports import LOOPBACK
    from ebs.cli.options import settings_of
    from ebs.cli.plan import Plan
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
    plan = Plan(settings, own_port, workers_per_role, reload, queue_workers=_queue_workers(queue or ()))
    asyncio.run(run_up(plan, verbose=verbose))


def _queue_workers(asked: Iterable[str]) -> dict[str, int]:
    """Return how many workers each queue is to have."""
    counts = {}
    for text in asked:
        name, _, number = text.partition("=")
        reason = why_no_queue(name)
        if reason is not None:
            raise typer.BadParameter(f"{text!r}: the name of a queue {reason}", param_hint="--queue")
        if not number.isascii() or not number.isdecimal() or int(number) > _MAX_WORKERS:
            why = f"{text!r}: give a queue and the number of its workers (0 to {_MAX_WORKERS}), such as gpu=2"
            raise typer.BadParameter(why, param_hint="--queue")
        counts[name] = int(number)
    return counts
