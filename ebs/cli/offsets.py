"""`ebs offsets`: lets an operator decide where a role continues when its committed offsets are not valid any more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from app.rules.worked_tasks import COMMITTED, EARLIEST, LATEST, WORKED
from ebs.cli.commands import PlainCommand, subcommands
from ebs.cli.options import ROLES, Broker, Role, settings_of
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from ebs.doctor.offset_reset import Reset

offsets = subcommands("Set the offsets at which a role continues.", no_args_is_help=True)
_EXTRA_S = 5.0


_WORDS = (WORKED, COMMITTED, EARLIEST, LATEST)


def _check_target(value: str) -> str:
    if value not in _WORDS and not (value.isascii() and value.isdecimal()):
        raise typer.BadParameter(f"{value!r}: give {', '.join(_WORDS)} or an offset, a whole number")
    return value


@offsets.command(cls=PlainCommand)
def reset(
    role: Annotated[Role, typer.Option("--role", metavar=ROLES, help="The role whose offsets are set.")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar=f"{'|'.join(_WORDS)}|OFFSET",
            callback=_check_target,
            help=f"{WORKED}: after the tasks that have ended, as their events say (only processing). {COMMITTED}: at "
            f"the committed offset, without the lost rows of the tables. {EARLIEST}: process all records again that "
            f"the topics still have. {LATEST}: skip all of them. OFFSET: this offset, or the nearest that exists.",
        ),
    ],
    queue: Annotated[
        str, typer.Option("--queue", metavar="QUEUE", help="With processing: the queue whose offsets are set.")
    ] = DEFAULT_QUEUE,
    *,
    broker: Broker = None,
    topic: Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="Only this topic of the role.")] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", metavar="N", min=0, help="Only this one; repeatable.")
    ] = None,
    all_partitions: Annotated[
        bool, typer.Option("--all", help="Also partitions whose committed offset is valid.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Set the committed offsets that are not valid any more.

    An offset is not valid if it is gone, if it is beyond the end of the topic, or if the broker has lost records before
    it. The role's workers must be stopped.

    Exit code 0: done, or there was nothing to do; 1: not done.
    """
    import asyncio

    from app.kafka.cluster import cluster_of
    from app.names import WorkerGroup
    from app.topics.catalogue import input_topics
    from app.topics.former_retry_topics import former_retry_topics
    from ebs.doctor.offset_reset import reset_offsets

    settings = settings_of(broker=broker)
    cluster, names = cluster_of(settings), settings.names
    if queue != DEFAULT_QUEUE and role is not Role.PROCESSING:
        raise typer.BadParameter("only processing has queues", param_hint="--queue")
    topics = input_topics(role, settings, queue)
    if role is Role.PROCESSING and queue == DEFAULT_QUEUE:
        # Its workers read these too, so they may be what they miss the offsets of.
        topics = (*topics, *asyncio.run(former_retry_topics(cluster, names, settings.partitions)))
    if topic is not None and topic not in topics:
        raise typer.BadParameter(f"{role} reads {', '.join(topics)}", param_hint="--topic")
    if to == WORKED and role is not Role.PROCESSING:
        raise typer.BadParameter(
            f"{WORKED} is for processing only: {role} continues where its tables say", param_hint="--to"
        )
    resets = asyncio.run(
        reset_offsets(
            cluster,
            names,
            WorkerGroup(role, queue),
            [topic] if topic is not None else topics,
            to if to in _WORDS else int(to),
            numbers=partition or (),
            all_partitions=all_partitions,
            patience_s=settings.session_timeout_s + _EXTRA_S,
            say=lambda line: typer.echo(line, err=True),
        )
    )
    if as_json:
        typer.echo(json.dumps([_as_dict(one) for one in resets]))
        return
    for one in resets:
        before = "nothing" if one.before < 0 else str(one.before)
        typer.echo(f"{one.tp.topic}-{one.tp.partition}: {before} -> {one.after} (it has {one.begin} to {one.end})")
    nothing = "nothing to do: no partition was chosen, or all committed offsets are valid (--all resets them too)"
    typer.echo(f"{len(resets)} offsets set" if resets else nothing)


def _as_dict(one: Reset) -> dict[str, str | int | None]:
    return {
        "topic": one.tp.topic,
        "partition": one.tp.partition,
        "before": None if one.before < 0 else one.before,
        "after": one.after,
    }
