"""Puts the AsyncAPI 3.0 document together, from the catalogue of topics and the structs of what lies on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from api.service.asyncapi.records import (
    ACT_NAME,
    HEARTBEAT_NAME,
    LETTER_NAME,
    ROW_NAME,
    messages,
    name_of,
    schemas,
)
from api.view.rows import read_topics
from app.events import ObjectCreated, ObjectEnd, TaskCreated, TaskEvent
from app.names import queue_of, role_of
from app.rules.commands import Command
from app.rules.schedules import Schedule
from app.topics.catalogue import catalogue
from app.topics.ownership import TopicClaim
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app.names import Names
    from app.settings.settings import Settings
    from app.topics.catalogue import TopicSpec

_EVENTS = get_args(TaskEvent)
_ENDS = get_args(ObjectEnd)
_COMMANDS = get_args(Command)


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
        "Ids of the topics that this system made or adopted. It writes to no other topics of these names",
        "topic",
        _names((TopicClaim,)),
        ("api", "distribution", "processing", "statistics"),
        ("api", "distribution", "processing", "statistics"),
    ),
    "objects": _Channel(
        "Submitted objects. Outside producers may write here, too. The partition of an object is the CRC-32 of its id "
        "(UTF-8) modulo the number of partitions: librdkafka's partitioner `consistent`. Distribution moves a record "
        "in any other partition to the right one (header `ebs-moved-from`), which costs one hop. The broker's clock "
        "stamps the records. If `at_ms` is more than a minute later than this stamp, the stamp counts instead",
        "object id",
        _names((ObjectCreated,)),
        ("api", "distribution", "processing", "outside"),
        ("distribution", "statistics", "api"),
    ),
    "task-requests": _Channel(
        "Tasks to run. The tasks of one object are spread over the partitions",
        "task id",
        _names((TaskCreated,)),
        ("distribution", "processing", "statistics", "api"),
        ("processing",),
    ),
    "task-events": _Channel(
        "Events of tasks, in the partition of their object",
        "object id",
        _names(_EVENTS),
        ("distribution", "processing", "statistics", "api"),
        ("statistics", "api", "outside"),
    ),
    "object-events": _Channel(
        "Ends of objects, one for each time an object ends: a redrive lets it end again. Subscribe to this",
        "object id",
        _names(_ENDS),
        ("statistics",),
        ("outside",),
    ),
    "dead-letters": _Channel(
        "Dead letters: dead tasks, and records that could not be read. Also the redrives and discards of letters",
        "the key of the original record; for a redrive or discard the id of the letter",
        (LETTER_NAME, ACT_NAME),
        ("distribution", "processing", "statistics", "api"),
        ("api",),
    ),
    "control": _Channel(
        "Commands of operators, pauses by breakers, and logouts of browsers. A tombstone undoes a command",
        "command key: pause, pause:<kind>, rate:<kind>, concurrency, concurrency:<worker>, drain:<worker>, "
        "cancel:object:<id>, cancel:task:<id>, cancel:filter:<name>, cancel:waiting:<filter>, start:task:<id>, "
        "start:waiting:<filter>, session:<name>",
        _names(_COMMANDS),
        ("api", "processing"),
        ("processing", "api"),
    ),
    "schedules": _Channel(
        "Schedules as they were set last. A tombstone deletes one. Your own programs may write here, too: in the "
        "partition that is the CRC-32 of the name modulo the number of partitions",
        "name of the schedule",
        _names((Schedule,)),
        ("api", "outside"),
        ("distribution", "api"),
    ),
    "workers": _Channel(
        "The last heartbeat of each worker. A tombstone says that the worker stopped normally",
        "role/worker; of processing workers of another queue than the default one role.queue/worker",
        (HEARTBEAT_NAME,),
        ("distribution", "processing", "statistics"),
        ("api",),
    ),
}
_ROLES = {
    "api": "The HTTP API",
    "distribution": "Splits objects into tasks",
    "processing": "Runs tasks",
    "statistics": "Counts objects and tasks",
    "outside": "Your own programs",
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
            "description": "Submit objects over HTTP, run their tasks on Kafka workers, count every result "
            "exactly once. Read the topics with isolation.level=read_committed. Times are UTC epoch milliseconds. "
            "Ignore unknown fields. Event ids are deterministic: a step that runs again writes the same ids.",
        },
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": settings.broker.partition(",")[0], "protocol": _protocol(settings)}},
        "channels": {spec.name: _describe_channel(spec, names) for spec in specs}
        | {name: _output_channel(name) for name in settings.output_topics},
        "operations": dict(_operations(specs, names, settings.output_topics)),
        "components": {
            "messages": {name: _with_key(name, message, specs, names) for name, message in found.items()},
            "schemas": schemas(),
        },
    }


def _channel_of(spec: TopicSpec, names: Names) -> _Channel:
    known = _CHANNELS.get(names.bare(spec.name))
    if known is not None:
        return known
    requests = f"{names.task_requests}-"
    if spec.name.startswith(requests):
        queue = spec.name.removeprefix(requests)
        return _CHANNELS["task-requests"]._replace(summary=f"Tasks to run, of the kinds with the queue {queue}")
    app_id, _, table = spec.name.removesuffix("-changelog").rpartition("-")
    role, queue = role_of(app_id), queue_of(app_id)
    of_queue = "" if queue == DEFAULT_QUEUE else f" in the queue {queue}"
    readers = (role, "api") if spec.name in read_topics(names, (queue,)) else (role,)
    return _Channel(f"Rows of the {role} table {table}{of_queue}", "row key", (ROW_NAME,), (role,), readers)


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


def _operations(
    specs: Iterable[TopicSpec], names: Names, output_topics: Iterable[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for spec in specs:
        messages = [{"$ref": f"#/channels/{spec.name}/messages/{one}"} for one in _channel_of(spec, names).messages]
        for role, action in _who(spec, names):
            name, operation = _operation(spec.name, role, action)
            yield name, operation | {"messages": messages}
    for topic in output_topics:
        yield _operation(topic, "processing", "send")


def _operation(topic: str, role: str, action: str) -> tuple[str, dict[str, Any]]:
    verb = "writes to" if action == "send" else "reads"
    return f"{role}-{action}-{topic}", {
        "action": action,
        "title": f"{role} {verb} {topic}",
        "summary": _ROLES[role],
        "tags": [{"name": role}],
        "channel": {"$ref": f"#/channels/{topic}"},
    }


def _output_channel(name: str) -> dict[str, Any]:
    """Return a topic of the users': what lies on it is their functions' choice."""
    return {
        "address": name,
        "title": name,
        "summary": "Records that your functions send with `context.send`. The topic is yours (EBS_OUTPUT_TOPICS)",
        "description": "Key: chosen by your functions; the partition is that of Java's default partitioner (murmur2).",
        "messages": {},
    }


def _with_key(name: str, message: dict[str, Any], specs: Iterable[TopicSpec], names: Names) -> dict[str, Any]:
    keys = {channel.key for spec in specs if name in (channel := _channel_of(spec, names)).messages}
    key = {"type": "string", "description": "; or ".join(sorted(keys))}
    return message | {"bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}}}


def _protocol(settings: Settings) -> str:
    return "kafka-secure" if settings.security_protocol.endswith("SSL") else "kafka"
