"""Every knob, in one frozen object, read once from the environment.

Each field is the environment variable `EBS_<FIELD NAME IN CAPITALS>`; the name of a number ends with its unit.
`load()` turns all wrong values into one `SettingsError` that names the variables and their allowed values.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from app.errors import SettingsError
from app.events import MAX_DEPTH, MAX_RESULT_BYTES
from app.kafka.settings import contradiction
from app.names import Names, why_no_namespace
from app.settings.security import Texts, secret_fields
from app.settings.webhooks import WebhookSettings
from ebs.client.settings import DEFAULT_API_URL, PREFIX
from ebs.queues import DEFAULT_QUEUE, why_no_queue

_PROCESS_TIME = re.compile(r"(?P<low>\d+(?:\.\d+)?)(?:\s*-\s*(?P<high>\d+(?:\.\d+)?))?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_SEEN_AT_MOST = 1.5
"""Ids are forgotten by buckets of half the retention: some are known for so much longer."""


class ProcessTime(NamedTuple):
    """How long the default handler works on a task, in seconds, drawn evenly from low to high (both inclusive)."""

    low_s: float
    high_s: float


def _parse_process_time(value: object) -> object:
    if isinstance(value, ProcessTime):
        return value
    match = _PROCESS_TIME.fullmatch(str(value).strip())
    if match is None:
        raise ValueError("must be seconds or a range of seconds, such as 0, 0.2 or 3-5")
    low = float(match["low"])
    high = float(match["high"] or low)
    if high < low:
        raise ValueError("a range goes from the smaller to the larger number, such as 3-5")
    return ProcessTime(low, high)


def _parse_namespace(value: object) -> object:
    if not isinstance(value, str):
        return value
    namespace = value.strip()
    reason = why_no_namespace(namespace)
    if reason is not None:
        raise ValueError(reason)
    return namespace


def _parse_queue(value: object) -> object:
    reason = why_no_queue(value.strip() if isinstance(value, str) else value)
    if reason is not None:
        raise ValueError(reason)
    return str(value).strip()


def _parse_backoff(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        steps = tuple(float(text) for text in value.split(","))
    except ValueError:
        steps = ()
    if not steps or not all(0 <= step_s <= 86_400 for step_s in steps):
        raise ValueError("must be seconds from 0 to 86400, separated by commas, such as 1,10,60")
    return steps


def _check_topics(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if _TOPIC.fullmatch(name) is None or name in {".", ".."} or name.startswith("__"):
            raise ValueError(
                "each is the name of a topic: 1 to 249 letters, digits, '.', '_' and '-', and none of Kafka's own (__*)"
            )
    return tuple(dict.fromkeys(names))


def _parse_log_level(value: object) -> object:
    if not isinstance(value, str):
        return value
    name = value.strip().lower()
    return {"warning": "warn", "critical": "crit"}.get(name, name)


class Settings(WebhookSettings):
    """The configuration of one process; frozen, so that it can be handed around freely."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    @model_validator(mode="before")
    @classmethod
    def _one_task_of_a_project(cls, given: dict[str, Any]) -> dict[str, Any]:
        return {"tasks_per_object": 1, **given} if given.get("project") else given

    @property
    def names(self) -> Names:
        """What this system's topics and groups are called."""
        return Names(self.namespace)

    @property
    def own_data_dir(self) -> Path:
        """Where this system keeps its stores and its view, apart from those of other namespaces."""
        return self.data_dir / "namespaces" / self.namespace if self.namespace else self.data_dir

    @property
    def own_stats_db(self) -> Path:
        """The SQLite file; where none is named, each namespace has one of its own."""
        if "stats_db" in self.model_fields_set:
            return self.stats_db
        return self.stats_db.with_name(self.names.of(self.stats_db.name))

    namespace: Annotated[str, BeforeValidator(_parse_namespace)] = Field(
        "", description="Prefix of every topic, group and transactional id, so that several systems can share one Kafka"
    )
    partitions: int = Field(8, ge=1, le=1_000, description="Partitions of every topic except control")
    replication_factor: int = Field(1, ge=1, le=15, description="Replicas of each topic that ebs makes")
    min_insync_replicas: int = Field(
        1, ge=1, le=15, description="Replicas that must have a record before Kafka acknowledges it"
    )
    retention_days: int = Field(7, ge=1, le=3_650, description="How long objects, requests and events are kept")
    data_dir: Path = Field(
        Path(".ebs"), description="Folder of the embedded broker's data, the workers' stores and the API's view"
    )
    kafka_version: Literal["4.1.2", "4.4.0", "3.9.2", "3.3.2"] = Field(
        "4.1.2", description="Version of the embedded broker: 4.1.2, 4.4.0 (see Use your own Kafka), 3.9.2 or 3.3.2"
    )
    worker_id: str = Field(
        "",
        max_length=200,
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Fixed name of this worker; empty: a random name at each start",
    )
    session_timeout_s: float = Field(
        10.0, ge=1, le=3_600, description="A worker without a heartbeat for this long loses its partitions"
    )
    transaction_timeout_s: float = Field(
        10.0, ge=1, le=900, description="The broker aborts a transaction that stays open for this long"
    )
    stall_timeout_s: float = Field(
        60.0,
        ge=1,
        le=86_400,
        description="A worker that makes no progress for this long exits, see Exit codes and health",
    )
    restart_backoff_s: float = Field(
        0.5, ge=0, le=60, description="First pause before `ebs up` restarts a dead process"
    )

    tasks_per_object: int = Field(
        3,
        ge=1,
        le=1_000,
        description="Tasks of an object that gives no `tasks` and whose kind has no split; 1 if there is a project",
    )
    max_tasks_per_object: int = Field(1_000, ge=1, le=10_000, description="Maximum number of tasks of an object")
    max_depth: int = Field(
        100, ge=0, le=MAX_DEPTH, description="Maximum number of ancestors of an object, in a chain of context.submit"
    )
    output_topics: Annotated[Texts, AfterValidator(_check_topics)] = Field(
        (),
        description="Topics that functions may send records to, separated by commas, without any namespace",
    )
    generate: bool = Field(default=False, description="Generate objects for empty requests even if a project is set")
    seen_retention_h: float = Field(
        24.0, gt=0, le=24 * 365, description="How long a repeated object id or Idempotency-Key is recognised"
    )

    process_time: Annotated[ProcessTime, NoDecode, BeforeValidator(_parse_process_time)] = Field(
        ProcessTime(3.0, 5.0),
        description="How long the default handler takes, in seconds: 0, 0.2 or a range such as 3-5",
    )
    concurrency: int = Field(
        64,
        ge=1,
        le=2_000,
        description="Tasks that one processing worker runs at once; a call of a batch is one",
    )
    commit_interval_ms: int = Field(50, ge=1, le=10_000, description="Maximum time before finished tasks are committed")
    project: str = Field(
        "", description="Module of your functions, such as shop.work; empty: every task takes EBS_PROCESS_TIME"
    )
    queue: Annotated[str, BeforeValidator(_parse_queue)] = Field(
        DEFAULT_QUEUE, description="The queue whose tasks this processing worker runs"
    )
    task_time_limit_s: float = Field(600.0, gt=0, le=86_400, description="How long one attempt may take")
    handler_processes: int = Field(
        0, ge=0, le=256, description="Processes of one worker for @cpu_bound handlers; 0: one for each CPU"
    )
    max_result_bytes: int = Field(65_536, ge=0, le=MAX_RESULT_BYTES, description="Largest result of a handler, as JSON")
    backoff_s: Annotated[tuple[float, ...], NoDecode, BeforeValidator(_parse_backoff)] = Field(
        (1, 10, 60), description="Seconds from a failed attempt to the next one, plus or minus half; the last repeats"
    )
    max_attempts: int = Field(5, ge=1, le=16, description="Maximum number of attempts; then the task is dead")
    max_task_age_h: float = Field(24.0, gt=0, le=24 * 365, description="Age after which a failed task is not retried")
    breaker_dead_share: float = Field(
        0.0, ge=0, le=1, description="A worker pauses a kind when this share (0 to 1) of its tasks dies; 0: never"
    )
    breaker_window_s: float = Field(
        60.0, ge=1, le=86_400, description="The breaker looks at the tasks that ended within this time"
    )
    breaker_min_tasks: int = Field(
        100, ge=1, le=1_000_000, description="The breaker waits until at least this many tasks have ended"
    )
    drain_s: float = Field(25.0, ge=0, le=3_600, description="How long a stopping worker lets running tasks finish")

    ledger: bool = Field(default=True, description="Keep a row for each object; false only to measure its cost")
    ledger_retention_h: float = Field(
        168.0, gt=0, le=24 * 3_650, description="How long an object is kept after its end, by stream time"
    )
    window_retention_h: float = Field(
        1.0, gt=0, le=24 * 365, description="How long 10 s windows are kept before they merge into longer ones"
    )
    window_grace_s: float = Field(
        10.0,
        ge=0,
        le=86_400,
        description="An event is late if it is read later than this after the end of its 10 s window",
    )

    api_host: str = Field("127.0.0.1", description="Address that `ebs up` serves the API on")
    api_port: int = Field(8000, ge=0, le=65_535, description="Port that `ebs up` serves the API on")
    api_url: str = Field(DEFAULT_API_URL, description="Where the `ebs` commands and `ebs.Client` find the API")
    max_body_bytes: int = Field(1_048_576, ge=1_024, le=64 * 1_048_576, description="Largest HTTP request body")
    max_batch_bytes: int = Field(128 * 1_048_576, ge=1_024, le=1_073_741_824, description="Largest body of a batch")
    max_batch_objects: int = Field(100_000, ge=1, le=1_000_000, description="Maximum number of objects in a batch")
    max_bodies_bytes: int = Field(
        268_435_456,
        ge=1_048_576,
        le=16 * 1_073_741_824,
        description="Maximum bytes of all request bodies in memory, at least EBS_MAX_BATCH_BYTES; above it: 503",
    )
    max_in_flight_bytes: int = Field(
        64 * 1_048_576,
        ge=2_097_152,
        le=1_073_741_824,
        description="Maximum bytes sent to the broker and not acknowledged yet; above it: 429",
    )
    publish_timeout_s: float = Field(
        8.0, gt=0, le=300, description="How long a submission waits for the broker's acknowledgement; then 503"
    )
    view_wait_s: float = Field(
        5.0, ge=0, le=300, description="How long a read waits until the view contains the latest writes"
    )
    stats_db: Path = Field(Path("stats.db"), description="SQLite file that the API keeps up to date once a second")

    web_port: int | None = Field(
        None, ge=0, le=65_535, description="Port of a worker's own pages; unset: the first free one from 6066 on"
    )
    tracing: bool = Field(
        default=False, description="Export OpenTelemetry traces as the OTEL_* variables say; needs the extra otel"
    )
    log_level: Annotated[Literal["crit", "error", "warn", "info", "debug"], BeforeValidator(_parse_log_level)] = Field(
        "info", description="crit, error, warn, info or debug"
    )


def load(**overrides: object) -> Settings:
    """Read the environment; `overrides` (command line options) win over it. Raises `SettingsError`."""
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks the values
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    if settings.min_insync_replicas > settings.replication_factor:
        raise SettingsError(
            f"EBS_MIN_INSYNC_REPLICAS={settings.min_insync_replicas} can never be met with "
            f"EBS_REPLICATION_FACTOR={settings.replication_factor}: lower the first or raise the second"
        )
    if settings.tasks_per_object > settings.max_tasks_per_object:
        raise SettingsError(
            f"EBS_TASKS_PER_OBJECT={settings.tasks_per_object} is over "
            f"EBS_MAX_TASKS_PER_OBJECT={settings.max_tasks_per_object}: lower the first or raise the second"
        )
    remembered_h = settings.seen_retention_h * _SEEN_AT_MOST
    if settings.ledger_retention_h < remembered_h:
        raise SettingsError(
            f"EBS_LEDGER_RETENTION_H={settings.ledger_retention_h:g} is too short: a repeated object id is recognised "
            f"for up to {remembered_h:g} h (EBS_SEEN_RETENTION_H={settings.seen_retention_h:g}), and would begin a row "
            "that never gets tasks: raise the first or lower the second"
        )
    own = next((name for name in settings.output_topics if settings.names.has_topic(name)), None)
    if own is not None:
        raise SettingsError(
            f"EBS_OUTPUT_TOPICS={own}: it is a topic of this system itself: name a topic of your own. Functions make "
            "objects with context.submit"
        )
    wrong = contradiction(settings)
    if wrong is not None:
        raise SettingsError(wrong)
    return settings


@lru_cache(maxsize=1)
def current() -> Settings:
    """Return the settings of this process, read at the first call."""
    return load()


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        field = str(problem["loc"][0]) if problem["loc"] else ""
        name = PREFIX + field.upper() if field else "settings"
        reason = problem["msg"].removeprefix("Value error, ")
        reason = reason[:1].lower() + reason[1:]
        # Nobody's password or key belongs into a log, least of all one with a slip of the finger in it.
        value = "" if field in secret_fields(Settings) else f"={problem.get('input')!s}"
        lines.append(f"{name}{value}: {reason}")
    return "; ".join(lines)
