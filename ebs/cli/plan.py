"""What `ebs up` and `ebs demo` run: the API and the workers of each role and queue, as programs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from app.addresses.ports import LOOPBACK
from app.addresses.web_ports import FIRST_WEB_PORT, reserve_web_port
from app.errors import SettingsError
from app.names import PROCESSING, ROLES, WorkerGroup
from app.rules.worker_heartbeats import shown_role
from ebs import start
from ebs.local.supervisor import Program
from ebs.queues import DEFAULT_QUEUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from app.settings.settings import Settings

API_ROLE = "api"

_DRAIN_S = 3.0  # below the supervisor's grace: what a worker has not handed back by then is killed
_API_REFUSED = frozenset({1, 3})  # 3: uvicorn's code for an application that does not start
_OF_ONE_WORKER = frozenset({"EBS_WORKER_ID", "EBS_WEB_PORT", "EBS_QUEUE"})
_UVICORN_LEVELS = {"crit": "critical", "error": "error", "warn": "warning", "info": "info", "debug": "debug"}


@dataclass(frozen=True)
class Plan:
    """What to run; `kafka_port` None: no Kafka of our own, `settings.broker` is one that exists.

    With `reload` no program is given up: the next save of the project may repair what ends it. `queues` are those that
    the project names; `queue_workers` says how many processing workers a queue has, if not `workers_per_role`.
    """

    settings: Settings
    kafka_port: int | None
    workers_per_role: int = 1
    reload: bool = False
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    queue_workers: Mapping[str, int] = field(default_factory=dict)

    @property
    def log_dir(self) -> Path:
        """Return where each process has its log."""
        return self.settings.data_dir.absolute() / "logs"

    @property
    def api_url(self) -> str:
        """Return where the API can be reached from this machine."""
        return _url_of(self.settings.api_host, self.settings.api_port)

    def with_queues(self, names: Iterable[str]) -> Plan:
        """Return it with the queues of a project. The workers of earlier ones stay: tasks may wait there."""
        return replace(self, queues=(DEFAULT_QUEUE, *sorted({*self.queues, *names} - {DEFAULT_QUEUE})))


def _url_of(host: str, port: int) -> str:
    """Return where to reach what listens on a host's port from this machine."""
    if host in {"0.0.0.0", "::"}:
        host = LOOPBACK
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def worker_names(plan: Plan) -> dict[str, WorkerGroup]:
    """Return the name of every worker, and what it works."""
    names: dict[str, WorkerGroup] = {}
    for group in _groups(plan):
        asked = plan.queue_workers.get(group.queue) if group.role == PROCESSING else None
        count = plan.workers_per_role if asked is None else asked
        name = shown_role(group.role, group.queue, "-")
        is_alone = count == plan.workers_per_role == 1
        names |= {name if is_alone else f"{name}-{number}": group for number in range(1, count + 1)}
    return names


def _groups(plan: Plan) -> list[WorkerGroup]:
    of_processing = dict.fromkeys((*plan.queues, *plan.queue_workers))
    return [
        WorkerGroup(role, queue)
        for role in ROLES
        for queue in (of_processing if role == PROCESSING else (DEFAULT_QUEUE,))
    ]


def api_program(plan: Plan) -> Program:
    """Return the API."""
    settings = plan.settings
    api = start.command("uvicorn", "api.main:http_app", "--host", settings.api_host)
    api += ["--port", str(settings.api_port), "--log-level", _UVICORN_LEVELS[settings.log_level]]
    # It would believe everybody on this machine about who he is: EBS_TRUSTED_PROXIES says whom to believe.
    api += ["--no-proxy-headers"]
    return Program(API_ROLE, [*api, "--timeout-graceful-shutdown", "3"], environment(plan), _API_REFUSED)


def worker_programs(plan: Plan, known: Mapping[str, str]) -> tuple[list[Program], dict[str, str]]:
    """Return the workers that are not `known`, and the address of each one's own pages by its name."""
    env, settings = environment(plan), plan.settings
    found, pages = [], {}
    next_port = settings.web_port or FIRST_WEB_PORT
    for name, group in worker_names(plan).items():
        if name in known:
            continue
        port = _reserve(next_port)
        worker = start.command("faust", "-A", f"agents.{group.role}", "worker", "-l", settings.log_level)
        own = {"EBS_WEB_PORT": str(port), "EBS_QUEUE": group.queue}
        found.append(Program(name, worker, env | own))
        pages[name] = _url_of(env["EBS_WEB_HOST"], port)
        next_port = port + 1
    return found, pages


def _reserve(first: int) -> int:
    # Reserved, not only free: a second `ebs up` looks for ports before these workers listen.
    port = reserve_web_port(first)
    if port is None:
        raise SettingsError(
            f"EBS_WEB_PORT: no port from {first} on is free for a worker's pages: choose another first one"
        )
    return port


def environment(plan: Plan) -> dict[str, str]:
    """Return the environment of every program: this process's own, with what the plan decides."""
    settings = plan.settings
    low_s, high_s = settings.process_time
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_ONE_WORKER}
    return {
        **inherited,
        "EBS_BROKER": settings.broker,
        "EBS_PARTITIONS": str(settings.partitions),
        "EBS_NAMESPACE": settings.namespace,
        "EBS_PROJECT": settings.project,
        "EBS_DATA_DIR": str(settings.data_dir.absolute()),
        "EBS_STATS_DB": str(settings.own_stats_db.absolute()),
        "EBS_PROCESS_TIME": f"{low_s}-{high_s}",
        "EBS_GENERATE": str(settings.generate).lower(),
        "EBS_DRAIN_S": str(min(settings.drain_s, _DRAIN_S)),
        "EBS_API_HOST": settings.api_host,
        "EBS_API_PORT": str(settings.api_port),
        "EBS_API_URL": plan.api_url,
        "EBS_LOG_LEVEL": settings.log_level,
        # What runs here is for this machine, until somebody says otherwise.
        "EBS_WEB_HOST": os.environ.get("EBS_WEB_HOST") or LOOPBACK,
        "PYTHONUNBUFFERED": "1",
    }
