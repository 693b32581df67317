"""The whole system on this machine: Kafka, topics, API, and workers under a supervisor; what `ebs up` and `demo` run.

Stopping takes under 10 s even if nothing reacts: programs get 4.5 s (and their last words 0.5 s), then Kafka 3.5 s.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.addresses.ports import holder_of, is_free
from app.errors import EmbeddedBrokerError, SettingsError
from app.kafka.cluster import cluster_of
from app.topics.catalogue import catalogue
from app.topics.keeper import RegistryKeeper
from app.topics.making import ensure_topics
from app.topics.output_topics import make_output_topics
from app.topics.queues import retired_queues
from app.topics.registry import TopicRegistry
from ebs.cli.plan import api_program, worker_programs
from ebs.local.embedded_kafka import EmbeddedKafka
from ebs.local.restart_policy import RestartPolicy, why_ended
from ebs.local.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable

    from app.topics.making import TopicReport
    from ebs.cli.plan import Plan
    from ebs.local.kafka_runtime import Progress
    from ebs.local.program_log import ProgramLog
    from ebs.local.supervisor import StopRequest


OWN_ROLE = "ebs"

_NEVER = sys.maxsize
_KAFKA_TRIES = 3
_KAFKA_PAUSE_S = 1.0


class LocalSystem:
    """Runs a plan. `supervisor` and `pages` (of the workers) are there, and `started` set, once programs are under way.

    `log` gets what the programs say, `say(line)` what concerns the whole.
    """

    def __init__(
        self, plan: Plan, *, log: ProgramLog, say: Callable[[str], None], on_download: Progress | None = None
    ) -> None:
        self.plan = plan
        self.supervisor: Supervisor | None = None
        self.pages: dict[str, str] = {}
        self.started = asyncio.Event()
        self._log = log
        self._say = say
        self._on_download = on_download

    async def run(self, request: StopRequest) -> None:
        """Run until `request` says stop; nothing of it is left then. Raises an `EbsError` if it cannot work."""
        settings = self.plan.settings
        if not is_free(settings.api_port, settings.api_host):
            raise SettingsError(
                f"EBS_API_PORT={settings.api_port}: the port is taken on {settings.api_host}"
                f"{holder_of(settings.api_port)}, so the API cannot listen there: choose another one with --port"
            )
        if self.plan.kafka_port is not None and settings.security_protocol != "PLAINTEXT":
            raise SettingsError(
                f"EBS_SECURITY_PROTOCOL={settings.security_protocol} is for an existing Kafka: name it with --broker "
                "HOST:PORT (EBS_BROKER), or unset it: the embedded Kafka listens on loopback, in plain text"
            )
        async with self._kafka(request) as kafka:
            reports = await unless_stopped(request, self._ensure_topics(kafka))
            if reports is None or request.stop.is_set():
                return
            made = sum(report.made for report in reports)
            self._say(f"{len(reports)} topics of {settings.partitions} partitions are ready ({made} of them new)")
            await self._tell_retired_queues()
            if kafka is not None and (new := await make_output_topics(cluster_of(settings), settings)):
                self._say(f"made {', '.join(new)} on the embedded broker (EBS_OUTPUT_TOPICS)")
            await self._supervise(request, kafka)

    def follow_queues(self, names: Iterable[str]) -> list[str]:
        """Start workers for the queues that the project has got; returns the names of those that ran before."""
        assert self.supervisor is not None  # it has started
        before = list(self.pages)
        self.plan = self.plan.with_queues(names)
        workers, pages = worker_programs(self.plan, self.pages)
        self.pages |= pages
        for program in workers:
            self._say(f"the project has a new queue: {program.role} starts")
            self.supervisor.add(program)
        return before

    async def _tell_retired_queues(self) -> None:
        settings, known = self.plan.settings, {*self.plan.queues, *self.plan.queue_workers}
        for queue in await retired_queues(cluster_of(settings), settings.names, known):
            self._say(
                f"no kind has the queue {queue} any more, and nobody works it: `ebs doctor` says whether tasks wait in "
                f"it; --queue {queue}=1 starts a worker that moves them"
            )

    async def _ensure_topics(self, kafka: EmbeddedKafka | None) -> tuple[TopicReport, ...]:
        settings, cluster = self.plan.settings, cluster_of(self.plan.settings)
        specs = catalogue(settings, queues=self.plan.queues)
        # Without it nothing could start, and without us there is no Kafka on which `ebs topics --adopt` could run.
        registry = TopicRegistry(settings.names.topics, cluster)
        adopt = kafka is not None and not await registry.topic_ids([registry.topic])
        reports = await ensure_topics(cluster, specs, say=self._say, adopt=adopt)
        adopted_count = sum(report.adopted for report in reports)
        if adopted_count:
            self._say(f"topic {registry.topic} was gone: {adopted_count} topics of the embedded broker are adopted")
        return reports

    @asynccontextmanager
    async def _kafka(self, request: StopRequest) -> AsyncIterator[EmbeddedKafka | None]:
        if self.plan.kafka_port is None:
            yield None
            return
        settings = self.plan.settings
        kafka = EmbeddedKafka(
            settings.data_dir, self.plan.kafka_port, version=settings.kafka_version, on_download=self._on_download
        )
        try:
            self._say(f"starting Apache Kafka {kafka.version} at {kafka.bootstrap}, its data in {kafka.directory}")
            await unless_stopped(request, kafka.start())
            yield kafka
        finally:
            await _stop(kafka, request)

    async def _supervise(self, request: StopRequest, kafka: EmbeddedKafka | None) -> None:
        workers, self.pages = worker_programs(self.plan, {})
        found = [api_program(self.plan), *workers]
        policy = RestartPolicy(first_pause_s=self.plan.settings.restart_backoff_s)
        if self.plan.reload:
            policy = replace(policy, refusal_limit=_NEVER, crash_limit=_NEVER)
        self.supervisor = Supervisor(found, log=self._log, policy=policy)
        self._say(f"API {self.plan.api_url}/api/objects, its documentation {self.plan.api_url}/docs")
        self._say("the workers' own pages: " + ", ".join(f"{role} {url}" for role, url in self.pages.items()))
        self.started.set()
        running = asyncio.create_task(self.supervisor.run(request))
        keeping = asyncio.create_task(self._keep_kafka(kafka, request))
        noting = asyncio.create_task(self._registry_keeper().run())
        try:
            await asyncio.wait([running, keeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            request.stop.set()
            noting.cancel()
            results = await asyncio.gather(running, keeping, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _registry_keeper(self) -> RegistryKeeper:
        settings = self.plan.settings
        registry = next(one for one in catalogue(settings, queues=self.plan.queues) if one.is_registry)
        return RegistryKeeper(cluster_of(settings), registry, say=self._say)

    async def _keep_kafka(self, kafka: EmbeddedKafka | None, request: StopRequest) -> None:
        """Start Kafka again whenever it dies; the programs wait for it meanwhile."""
        if kafka is None:
            await request.stop.wait()
            return
        while not request.stop.is_set():
            await unless_stopped(request, kafka.wait_until_ended())
            await unless_stopped(request, self._until_room(kafka))
            for tries_left in reversed(range(_KAFKA_TRIES)):
                if request.stop.is_set():
                    return
                self._say(f"Apache Kafka restarts because {_why_kafka_ended(kafka)}; its log: {kafka.files.log_path}")
                try:
                    await unless_stopped(request, kafka.start())
                    break
                except EmbeddedBrokerError:
                    if tries_left == 0:
                        raise
                    await asyncio.sleep(_KAFKA_PAUSE_S)

    async def _until_room(self, kafka: EmbeddedKafka) -> None:
        """Wait while the disk is full: Kafka could not start, and the programs go on once it is there again."""
        full = kafka.files.why_no_room()
        if full:
            self._say(
                f"Apache Kafka has ended, and {full}. It starts again by itself then; its log: {kafka.files.log_path}"
            )
        while kafka.files.why_no_room():  # noqa: ASYNC110  # the system tells no event of it
            await asyncio.sleep(_KAFKA_PAUSE_S)


def _why_kafka_ended(kafka: EmbeddedKafka) -> str:
    code = kafka.exit_code or 0
    return why_ended(code) if code < 0 else f"it ended with exit code {code}"  # a code of ours means something else


async def _stop(kafka: EmbeddedKafka, request: StopRequest) -> None:
    """Stop Kafka, at once if the person at the terminal is in a hurry."""
    stopping = asyncio.create_task(kafka.stop())
    hurried = asyncio.create_task(request.hurry.wait())
    await asyncio.wait([stopping, hurried], return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        kafka.kill()
    hurried.cancel()
    await stopping


async def unless_stopped(request: StopRequest, work: Coroutine[Any, Any, Any]) -> Any:
    """Return what the work returns, or None, the work cancelled, when the request to stop comes first."""
    working = asyncio.create_task(work)
    stopped = asyncio.create_task(request.stop.wait())
    try:
        await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, stopped):
            task.cancel()
        await asyncio.gather(working, stopped, return_exceptions=True)
