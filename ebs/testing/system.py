"""The system in memory: one object after the other, by the rules and the engine of the workers.

What the workers would write is kept as records and read again: requests start tasks, events go to the ledger, and the
ledger asks for the join and tells the end.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from agents.engine.kind_limits import KindLimits
from agents.engine.lane import Ready
from agents.engine.pool import Pool
from agents.engine.produced_records import ProducedRecords
from agents.engine.split_outputs import SplitOutputs
from agents.execution.executor import Executor
from agents.execution.loading import Handlers, handlers_of, limits_of
from app import json_text
from app.errors import DecodeError
from app.events import DECODE_ERRORS, ItemRecord, ObjectCreated, decode_object, decode_task_request, encode
from app.rules.control import ControlState
from app.rules.distribution import split
from app.rules.kinds import why_unhandled
from app.rules.routing import Routes
from app.rules.submitted import WorkerOutputRules
from app.settings.settings import load
from app.topics.shapes import TopicShape
from ebs.client.bodies import body_of, chosen_id
from ebs.testing.ledger import MemoryLedger
from ebs.testing.memory_lanes import MemoryLanes, record_of
from ebs.testing.produced import Produced
from ebs.testing.recording import RecordingOutcomes

if TYPE_CHECKING:
    from agents.execution.loading import LoadedHandler, RunLimits
    from app.events import TaskCreated
    from app.rules.new_tasks import NewTasks
    from app.settings.settings import Settings
    from ebs.client.bodies import NewObject
    from ebs.errors import EbsError
    from ebs.project import Project
    from ebs.testing.object_run import ObjectRun

_WORKER = "ebs.testing"
_PARTITION = 0
_ANY_HOST = ("*", "0.0.0.0/0", "::/0")


class _Body(msgspec.Struct):
    """The body of a submit, as a client writes it."""

    kind: str
    name: str = ""
    content: msgspec.Raw = json_text.NULL
    tasks: int | list[ItemRecord] | None = None
    delay_s: float | msgspec.UnsetType = msgspec.UNSET
    due_at: datetime | msgspec.UnsetType = msgspec.UNSET
    key: str | msgspec.UnsetType = msgspec.UNSET


class MemorySystem:
    """Runs objects of one project; `refused` is the error for an object that the API would not take."""

    def __init__(self, project: Project, refused: type[EbsError]) -> None:
        project.check()
        self._settings = settings = _settings()
        self._project = project
        self._refused = refused
        self._handlers = _in_this_process(handlers_of(project, "", _limits_of(settings, project)))
        self._clock = _Clock()
        control = ControlState()
        self._lanes: Any = MemoryLanes(settings.names)
        self._outcomes = RecordingOutcomes(
            self._lanes,
            worker=_WORKER,
            clock_ms=self._clock.now_ms,
            waiting=self._lanes,
            splits=SplitOutputs(
                settings.names, Routes(settings.names, 1), max_task_count=settings.max_tasks_per_object
            ),
            produced=ProducedRecords(
                settings.names,
                partition_count=1,
                output_topics=defaultdict(lambda: TopicShape("", 1, 1)),
                check_size=self._lanes.check_size,
            ),
            limits=KindLimits(self._handlers, control, partition_count=1),
            draw=lambda low, high: (low + high) / 2,
        )
        self._pool = Pool(
            self._handlers,
            self._outcomes,
            control,
            concurrency=settings.concurrency,
            worker=_WORKER,
            clock_ms=self._clock.now_ms,
            on_end=lambda _: self._ended.set(),
            on_fault=self._break,
        )
        self._ended = asyncio.Event()
        self._fault: BaseException | None = None
        self._ledger = MemoryLedger()
        self._produced = Produced()
        self._due: list[tuple[int, int, TaskCreated]] = []
        self._numbers = count()

    async def run(self, wanted: NewObject) -> ObjectRun:
        """Run an object to its end."""
        event, made = self._submitted(wanted)
        self._ledger.created(event)
        self._follow(made)
        executor = self._pool.executor = Executor(self._handlers)
        executor.calls.has_place = lambda: not executor.calls.running_count
        try:
            while self._due:
                await self._work(self._next())
                self._commit()
        finally:
            await self._pool.close()
            await executor.close()
        return self._outcomes.told(event, self._ledger, self._produced)

    def _submitted(self, wanted: NewObject) -> tuple[ObjectCreated, NewTasks]:
        """Return the object and its first tasks, as API and distribution make them."""
        object_id = chosen_id(wanted)
        data = body_of(wanted, object_id)
        settings, now_ms = self._settings, self._clock.now_ms()
        try:
            body = msgspec.json.decode(data, type=_Body)
            wrong = why_unhandled(body.kind, self._project.kinds)
            if wrong is not None:
                raise self._refused(wrong)
            record = encode(_object_of(body, object_id or "", now_ms))
            event = decode_object(record)
            made = split(
                event,
                _PARTITION,
                record_bytes=len(record),
                default_task_count=settings.tasks_per_object,
                max_task_count=settings.max_tasks_per_object,
                at_ms=now_ms,
                splits=event.asked_tasks is None and self._project.has("split", event.kind),
                joins=self._project.has("join", event.kind),
            )
        except (DecodeError, *DECODE_ERRORS) as error:
            # In the record, the field `tasks` has one of two other names.
            raise self._refused(
                str(error).replace("`$.task_count", "`$.tasks").replace("`$.items", "`$.tasks")
            ) from None
        return event, made

    def _next(self) -> list[tuple[TaskCreated, int]]:
        """Return the next task with its number; of a batch function, those that its call would get in a worker."""
        due_at_ms, number, task = heappop(self._due)
        tasks = [(task, number)]
        loaded = self._handlers.for_task(task)
        if loaded.batch is not None:
            until_ms = max(due_at_ms, self._clock.now_ms()) + loaded.batch.wait_s * 1_000
            while self._due and len(tasks) < loaded.batch.size:
                next_at_ms, number, task = self._due[0]
                if next_at_ms > until_ms or self._handlers.for_task(task) is not loaded:
                    break
                due_at_ms = next_at_ms
                tasks.append((task, number))
                heappop(self._due)
        self._clock.pass_until(due_at_ms)
        return tasks

    async def _work(self, tasks: list[tuple[TaskCreated, int]]) -> None:
        for task, number in tasks:
            record = record_of(task, number, self._settings.names.task_requests)
            self._pool.start(Ready(self._lanes.lane, record, task, number))
        self._pool.hurry()
        while self._pool.running:
            self._ended.clear()
            await self._ended.wait()
            if self._fault is not None:
                raise self._fault

    def _break(self, fault: BaseException) -> None:
        """End the run with an error of our own code."""
        self._fault = fault
        self._ended.set()

    def _commit(self) -> None:
        """Take what an attempt has written to where it is read."""
        names = self._settings.names
        for one in self._lanes.take():
            if one.topic == names.task_events:
                self._ledger.apply(one.value)
            elif one.topic == names.task_requests:
                self._push(decode_task_request(one.value or b""))
            elif one.topic != names.dead_letters:
                self._produced.take(one, is_object=one.topic == names.objects)
        for task in self._lanes.take_waiting():
            self._push(task)
        for made in self._ledger.new_tasks(self._clock.now_ms()):
            self._follow(made)

    def _follow(self, made: NewTasks) -> None:
        for request in made.requests:
            self._push(request)
        self._ledger.apply(encode(made.fact))

    def _push(self, task: TaskCreated) -> None:
        due_at_ms = self._clock.now_ms() if task.due_at_ms is msgspec.UNSET else task.due_at_ms
        heappush(self._due, (due_at_ms, next(self._numbers), task))


def _object_of(body: _Body, object_id: str, now_ms: int) -> ObjectCreated:
    is_list = isinstance(body.tasks, list)
    return ObjectCreated(
        object_id=object_id,
        kind=body.kind,
        name=body.name,
        content=body.content,
        at_ms=now_ms,
        task_count=None if is_list else body.tasks,  # type: ignore[arg-type]  # told apart in the line above
        items=body.tasks if is_list else msgspec.UNSET,  # type: ignore[arg-type]  # likewise
        delay_s=body.delay_s,
        due_at=body.due_at,
        key=body.key,
    )


class _Clock:
    """Real time, and what the pauses would have taken."""

    def __init__(self) -> None:
        self._skipped_ms = 0

    def now_ms(self) -> int:
        """Return the time, in epoch ms."""
        return time.time_ns() // 1_000_000 + self._skipped_ms

    def pass_until(self, due_at_ms: int) -> None:
        """Let it be an instant, if it is not yet."""
        self._skipped_ms += max(0, due_at_ms - self.now_ms())


class _AnyTarget(WorkerOutputRules, frozen=True):
    """Lets functions send to any topic, and name any host for callbacks: a test sends nothing."""

    def why_not_sent(self, _topic: str, /) -> str | None:
        return None


def _settings() -> Settings:
    """Return the settings that hold for any project; none is imported, as this one is here already."""
    task_count = load(project="any").tasks_per_object
    return load(project="", tasks_per_object=task_count)


def _limits_of(settings: Settings, project: Project) -> RunLimits:
    limits = limits_of(settings)
    rules = {**msgspec.structs.asdict(limits.outputs), "kinds": project.kinds, "webhook_hosts": _ANY_HOST}
    return limits._replace(outputs=_AnyTarget(**rules))


def _in_this_process(handlers: Handlers) -> Handlers:
    """Return handlers of which none needs another process: it could not see what a test has put into this one."""

    def here(loaded: LoadedHandler) -> LoadedHandler:
        return replace(loaded, mode="thread" if loaded.mode == "process" else loaded.mode, address=None)

    return Handlers(
        here(handlers.default),
        {kind: here(loaded) for kind, loaded in handlers.by_kind.items()},
        {role: here(loaded) for role, loaded in handlers.by_role.items()},
    )
