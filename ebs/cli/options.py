"""Options that several `ebs` commands share, and how they become settings."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.errors import SettingsError

if TYPE_CHECKING:
    from app.settings.settings import Settings


class Role(StrEnum):
    """A role of worker; its consumer group is `ebs-` and this."""

    DISTRIBUTION = "distribution"
    PROCESSING = "processing"
    STATISTICS = "statistics"


ROLES = "|".join(Role)


def _check_broker(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return settings_of(broker=value).broker
    except SettingsError as error:
        if "EBS_BROKER=" in str(error):
            raise typer.BadParameter(str(error)) from None
        return value  # another setting is wrong, which is said when all of them are read


Broker = Annotated[
    str | None,
    typer.Option(
        "--broker",
        envvar="EBS_BROKER",
        metavar="HOST:PORT",
        callback=_check_broker,
        help="Addresses of a running Kafka, separated by commas (EBS_BROKER).",
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option("--partitions", metavar="N", min=1, max=1_000, help="Partitions of every topic (EBS_PARTITIONS)."),
]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", file_okay=False, help="Folder of all data (EBS_DATA_DIR).")
]
ApiPort = Annotated[
    int | None, typer.Option("--port", metavar="PORT", min=1, max=65_535, help="Port of the API (EBS_API_PORT).")
]
KafkaPort = Annotated[
    int | None,
    typer.Option("--kafka-port", metavar="PORT", min=1, max=65_535, help="Port of the embedded Kafka."),
]
WorkersPerRole = Annotated[
    int, typer.Option("--workers-per-role", metavar="N", min=1, max=64, help="Workers of each role.")
]

ProjectSpec = Annotated[
    str | None,
    typer.Option(
        "--project",
        envvar="EBS_PROJECT",
        metavar="MODULE",
        help="Module of your functions, such as shop.work; imported from the current folder.",
    ),
]

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the full output of all processes.")]


def is_set(variable: str) -> bool:
    """Tell whether an environment variable has a value; an empty one counts as unset, as it does for settings."""
    return bool(os.environ.get(variable))


def settings_of(**options: object) -> Settings:
    """Return the settings with those options on top that were given. Raises `SettingsError`."""
    from app.settings.settings import load

    return load(**{name: value for name, value in options.items() if value is not None})
