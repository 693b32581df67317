"""Puts the AsyncAPI 3.0 document together, from the catalogue of topics and the structs of what lies on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.topics.catalogue.catalogue import catalogue
from app.topics.catalogue.ownership import TopicClaim

from api.service.asyncapi.records import (
    ACT_NAME,
    HEARTBEAT_NAME,
    LETTER_NAME,
    REQUEST_NAME,
    ROW_NAME,
    messages,
    name_of,
    schemas,
)
from app.events import (
    ObjectCreated,
    TaskCancelled,
    TaskCreated,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TaskStarted,
)
from app.names import role_of
from app.rules.commands import Cancel, Drain, EndSession, LimitRate, Pause, SetConcurrency

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.settings.settings.settings import Settings
    from app.topics.catalogue.catalogue import TopicSpec

    from app.names import Names

_EVENTS = (TaskCreated, TaskStarted, TaskFinished, TaskFailed, TaskRetried, TaskDead, TaskCancelled)
_COMMANDS = (Pause, LimitRate, SetConcurrency, Cancel, Drain, EndSession)


class _Channel(NamedTuple):
    """What a topic is for, its key, the names of its messages, and which roles write and read it."""

    summary: str
    key: str
    messages: tuple[str, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]


def _names(types: Iterable[Any]) -> tuple[str, ...]:
    return tuple(name_of(one) for one in types)


_CHANNELS = {  # by the topic's bare name
    "ebs-topics": _Channel(
        "Which topics this system made or adopted, by their ids: it writes to no others of these names",
        "topic",
        _names((TopicClaim,)),
        ("api", "distribution", "processing", "statistics"),
        ("api", "distribution", "processing", "statistics"),
    ),
    "objects": _Channel(
        "Objects as they came in; an outside producer may write here too. The partition of an object is the CRC-32 of "
        "its id (UTF-8) modulo the number of partitions: librdkafka's partitioner `consistent`. Distribution moves a "
        "record from any other partition there (header `ebs-moved-from`), which costs one hop. The broker's clock "
        "stamps the records; an `at_ms` more than a minute later than that stamp "
        "counts as the stamp",
        "object id",
        _names((ObjectCreated,)),
        ("api", "distribution", "outside"),
        ("distribution", "statistics", "api"),
    ),
    "task-requests": _Channel(
        "Tasks to be worked on, those of one object spread over the partitions",
        "task id",
        (REQUEST_NAME,),
        ("distribution", "processing", "api"),
        ("processing",),
    ),
    "task-events": _Channel(
        "What happened to tasks, in the partition of their object",
        "object id",
        _names(_EVENTS),
        ("distribution", "processing", "api"),
        ("statistics", "api", "outside"),
    ),
    "dead-letters": _Channel(
        "Records that could not be read, and tasks that failed for good; and what was done to them",
        "the original key; of an act the letter's id",
        (LETTER_NAME, ACT_NAME),
        ("distribution", "processing", "statistics", "api"),
        ("api",),
    ),
    "control": _Channel(
        "What operators ask for, the pauses of breakers, the logouts of browsers; a tombstone takes it back",
        "command key: pause, pause:<kind>, rate:<kind>, concurrency, concurrency:<worker>, drain:<worker>, "
        "cancel:object:<id>, cancel:task:<id>, cancel:filter:<name>, session:<name>",
        _names(_COMMANDS),
        ("api", "processing"),
        ("processing", "api"),
    ),
    "workers": _Channel(
        "The last word of each worker; a tombstone says that it stopped as it should",
        "role/worker",
        (HEARTBEAT_NAME,),
        ("distribution", "processing", "statistics"),
        ("api",),
    ),
}
_ROLES = {
    "api": "The HTTP API",
    "distribution": "Splits objects into tasks",
    "processing": "Works on tasks",
    "statistics": "Counts everything, once",
    "outside": "Anybody beside us",
}


def describe(settings: Settings, version: str) -> dict[str, Any]:
    """Return the document of a system with these settings."""
    specs = catalogue(settings)
    names = settings.names
    found = messages()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ebs",
            "version": version,
            "description": "Objects in, tasks out to any number of Kafka workers, every result counted exactly once. "
            "Read the topics with isolation.level=read_committed. Times are UTC epoch milliseconds; unknown fields "
            "are to be ignored; event ids are functions of what happened, so a replay writes the same ones.",
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": settings.broker.partition(",")[0], "protocol": _protocol(settings)}},
        "channels": {spec.name: _describe_channel(spec, names) for spec in specs},
        "operations": dict(_operation(spec, names, *one) for spec in specs for one in _who(spec, names)),
        "components": {
            "messages": {name: _with_key(name, message, specs, names) for name, message in found.items()},
            "schemas": schemas(),
        },
    }


def _channel_of(spec: TopicSpec, names: Names) -> _Channel:
    known = _CHANNELS.get(names.bare(spec.name))
    if known is not None:
        return known
    if names.retry_tier_s(spec.name) is not None:
        summary = f"Tasks that wait {spec.name.rpartition('-')[2]} for their next attempt"
        return _Channel(summary, "task id", (REQUEST_NAME,), ("processing",), ("processing",))
    app_id, _, table = spec.name.removesuffix("-changelog").rpartition("-")
    role = role_of(app_id)
    return _Channel(f"The rows of {role}'s table {table}", "row key", (ROW_NAME,), (role,), (role,))


def _describe_channel(spec: TopicSpec, names: Names) -> dict[str, Any]:
    channel = _channel_of(spec, names)
    shown = {"cleanup.policy", "retention.ms", "max.message.bytes"}
    config: dict[str, Any] = {name: value for name, value in spec.config.items() if name in shown}
    config["cleanup.policy"] = config["cleanup.policy"].split(",")
    config |= {name: int(config[name]) for name in shown - {"cleanup.policy"} if name in config}
    kafka = {
        "topic": spec.name,
        "partitions": spec.partition_count,
        "replicas": spec.replication_factor,
        "topicConfiguration": config,
        "bindingVersion": "0.5.0",
    }
    return {
        "address": spec.name,
        "title": spec.name,
        "summary": channel.summary,
        "description": f"Key: {channel.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
        "bindings": {"kafka": kafka},
    }


def _who(spec: TopicSpec, names: Names) -> list[tuple[str, str]]:
    channel = _channel_of(spec, names)
    return [*((role, "send") for role in channel.writers), *((role, "receive") for role in channel.readers)]


def _operation(spec: TopicSpec, names: Names, role: str, action: str) -> tuple[str, dict[str, Any]]:
    channel = _channel_of(spec, names)
    verb = "writes to" if action == "send" else "reads"
    return f"{role}-{action}-{spec.name}", {
        "action": action,
        "title": f"{role} {verb} {spec.name}",
        "summary": _ROLES[role],
        "tags": [{"name": role}],
        "channel": {"$ref": f"#/channels/{spec.name}"},
        "messages": [{"$ref": f"#/channels/{spec.name}/messages/{name}"} for name in channel.messages],
    }


def _with_key(name: str, message: dict[str, Any], specs: Iterable[TopicSpec], names: Names) -> dict[str, Any]:
    keys = {channel.key for spec in specs if name in (channel := _channel_of(spec, names)).messages}
    key = {"type": "string", "description": "; or ".join(sorted(keys))}
    return message | {"bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}}}


def _protocol(settings: Settings) -> str:
    return "kafka-secure" if settings.security_protocol.endswith("SSL") else "kafka"
