"""One run of the whole system under one seed, from the first object to the last offset.

A run ends well when all is worked and committed; if it is not so within `_PATIENCE_S` after the trouble, something
stands still for good.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import msgspec

from app.events import ObjectCreated, encode
from app.rules.placement import partition_of
from app.rules.schedules import encode_schedule
from app.topics.catalogue import catalogue
from simulation.broker import Broker
from simulation.checker import differences, is_done
from simulation.faults import Faults
from simulation.functions import SINK, SINK_PARTITIONS
from simulation.loop import EPOCH_MS, NothingToDo, SimulatedLoop, virtual_clock
from simulation.network import Network, connected
from simulation.plan import Plan, group_named
from simulation.process import UNCAUGHT, Process
from simulation.trace import Trace
from simulation.workers import Worker

if TYPE_CHECKING:
    from app.rules.schedules import Schedule as Timed
    from simulation.commands import Command
    from simulation.plan import Deed, Submitted

_PATIENCE_S = 120.0
_RESTART_S = (0.05, 1.5)


class Schedule:
    """A run in the making; `found` is what is wrong after it, as sentences."""

    def __init__(self, seed: int, **given: Any) -> None:
        """Prepare a run; what is `given` wins over what the seed would draw (see `Plan`)."""
        self.plan = plan = Plan(seed, **given)
        self.loop = SimulatedLoop()
        self.trace = Trace(self.loop)
        self.found: list[str] = []
        self.deaths: list[str] = []
        self._rng = random.Random(f"{seed} schedule")
        self._nobody = contextvars.Context()
        topics = {spec.name: spec.partition_count for spec in catalogue(plan.settings)} | {SINK: SINK_PARTITIONS}
        self.broker = Broker(
            topics,
            [plan.settings.names.group(*group) for group in plan.groups],
            stamped={
                one.name
                for one in catalogue(plan.settings)
                if one.config.get("message.timestamp.type") == "LogAppendTime"
            },
            transaction_version=plan.transaction_version,
            may_list=plan.may_list,
            slow_marker_rate=plan.slow_marker_rate,
            rng=random.Random(f"{seed} broker"),
            trace=self.trace,
            later=self._later,
        )
        faults = Faults(random.Random(f"{seed} faults"), plan.fault_rates, plan.fault_apis, plan.trouble_s)
        self.network = Network(
            self.loop,
            random.Random(f"{seed} network"),
            self.broker,
            faults,
            self.trace,
            one_way_s=plan.one_way_s,
        )
        self._workers: dict[str, Worker] = {}
        self._lives: dict[str, int] = {}
        self._clocks: dict[str, float] = {}
        self._clock_history: dict[str, list[tuple[float, float]]] = {}
        self._ended = False
        self._something = asyncio.Event()

    def run(self) -> list[str]:
        """Run to the end; returns what is wrong."""
        state = random.getstate()
        random.seed(self.plan.seed)
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with ExitStack() as stack:
                stack.enter_context(virtual_clock(self.loop))
                stack.enter_context(connected(self.network))
                stack.callback(self._close)
                self.loop.run_until_complete(self._main())
                self.found += self.loop.run_until_complete(differences(self.broker, self.plan, self._clock_history))
        except NothingToDo:
            self.found.append("nothing is left to happen, and work is not done")
        finally:
            logging.disable(level)
            random.setstate(state)
        return self.found

    def report(self) -> str:
        """Return everything that people need to understand a run."""
        return "\n".join([*self.plan.describe(), *self.trace.lines(), *(f"FOUND: {one}" for one in self.found)])

    async def _main(self) -> None:
        for group, count in self.plan.worker_counts.items():
            for number in range(1, count + 1):
                self._start(f"{group}-{number}")
        for one in self.plan.submitted:
            self._later(one.at_s, self._submit, one)
        for at_s, timed in self.plan.timed:
            self._later(at_s, self._set, timed)
        for deed in self.plan.deeds:
            self._later(deed.at_s, self._do, deed)
        for command in self.plan.commands:
            self._later(command.at_s, self._command, command)
        for clock in self.plan.clocks:
            self._later(clock.at_s, self._set_clock, clock.worker, clock.ahead_s)
            self._later(clock.at_s + clock.lasts_s, self._set_clock, clock.worker, 0.0)
        self.broker.on_change = self._something.set
        last_s = max(self.plan.trouble_s, self.plan.submitted[-1].at_s)
        try:
            # What a worker that was ahead has let wait is due so much later.
            patience_s = _PATIENCE_S + 2 * sum(abs(one.ahead_s) for one in self.plan.clocks)
            async with asyncio.timeout(last_s + patience_s):
                await asyncio.sleep(last_s)
                while not is_done(self.broker, self.plan):
                    self._something.clear()
                    await self._something.wait()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            self.found.append(f"work is not done {_PATIENCE_S:g} s after the trouble")

    def _start(self, name: str) -> None:
        if self._ended:
            return
        life = self._lives[name] = self._lives.get(name, 0) + 1
        process = Process(self.loop, name, life, self._died)
        process.clock_ahead_s = self._clocks.get(name, 0.0)
        self._clock_history[str(process)] = [(0.0, process.clock_ahead_s)]
        self.trace.note("%s starts", process)
        group = group_named(name.rpartition("-")[0])
        rng = random.Random(f"{self.plan.seed} {process}")

        async def live() -> None:
            worker = self._workers[name] = Worker(process, group, self.network, self.plan, rng)
            try:
                await worker.run()
            except Exception as error:  # noqa: BLE001  # asyncio would keep it to itself, and the work would stand still
                process.uncaught(error)

        process.run(live())

    def _died(self, process: Process) -> None:
        self.trace.note("%s ends: %s", process, process.cause)
        if process.cause.startswith(UNCAUGHT):
            self.found.append(f"{process} ends: {process.cause}")
        if process.cause not in ("killed", "stopped", "the schedule is over"):
            self.deaths.append(process.cause)
        self._later(self._rng.uniform(*_RESTART_S), self._start, process.name)

    def _do(self, deed: Deed) -> None:
        self.trace.note("%s %s", deed.kind, deed.worker)
        worker = self._workers.get(deed.worker)
        if deed.kind == "start":
            group = deed.worker.rpartition("-")[0]
            self._start(f"{group}-{sum(one.startswith(f'{group}-') for one in self._lives) + 1}")
        elif worker is None or not worker.process.is_alive:
            return
        elif deed.kind == "kill":
            worker.process.end("killed")
        elif deed.kind == "freeze":
            worker.process.freeze()
            self._later(deed.lasts_s, worker.process.thaw)
        else:
            self._later(0, worker.stop)

    def _set_clock(self, name: str, ahead_s: float) -> None:
        self.trace.note("the clock of %s is %+g s ahead", name, ahead_s)
        self._clocks[name] = ahead_s
        worker = self._workers.get(name)
        if worker is not None:
            worker.process.clock_ahead_s = ahead_s
            self._clock_history[str(worker.process)].append((self.loop.now_s, ahead_s))

    def _command(self, command: Command) -> None:
        self.trace.note("command %s %s", command.key, command.value)
        self.broker.write(self.plan.settings.names.control, 0, command.key, command.value)

    def _submit(self, new: Submitted) -> None:
        key = new.object_id.encode()
        wrong = "" if new.partition == partition_of(key, self.plan.partitions) else ", a wrong one"
        self.trace.note("object %s (%s) comes in partition %d%s", new.object_id, new.kind, new.partition, wrong)
        event = ObjectCreated(
            id=f"o-{new.object_id}",
            object_id=new.object_id,
            kind=new.kind,
            task_count=new.task_count if new.job is None else None,
            name="n" if new.job is None else msgspec.json.encode(new.job).decode(),
            content=msgspec.Raw(msgspec.json.encode("c" if new.job is None else new.job)),
            at_ms=EPOCH_MS + round(self.loop.now_s * 1_000),
            key=new.key or msgspec.UNSET,
            delay_s=new.delay_s or msgspec.UNSET,
        )
        self.broker.write(self.plan.settings.names.objects, new.partition, key, encode(event))

    def _set(self, timed: Timed) -> None:
        self.trace.note("schedule %s is set", timed.name)
        key = timed.name.encode()
        number = partition_of(key, self.plan.partitions)
        self.broker.write(self.plan.settings.names.schedules, number, key, encode_schedule(timed))

    def _later(self, delay_s: float, function: object, *arguments: object) -> None:
        self.loop.call_later(delay_s, function, *arguments, context=self._nobody)  # type: ignore[arg-type]

    def _close(self) -> None:
        """End everybody, and let what they do about it run out."""
        self._ended = True
        for worker in self._workers.values():
            worker.process.end("the schedule is over")
        for _ in range(5):
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self.loop.close()
