"""Gathering calls: whatever joins, leaves, ends and waits for places, each attempt has one outcome, its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from histories import task_event
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from loaded_handlers import LONG_S, in_hand, limits
from running_handlers import NOW_MS
from virtual_time import VirtualLoop

from agents.execution.batch_calls import BatchCalls
from agents.execution.loading import CallSize
from app.events import TaskCreated
from ebs import Context, Retry

if TYPE_CHECKING:
    from agents.execution.batch_call import CallOutcome, Member

ATTEMPTS = 2
SIZES = (2, 3, 5)
WAIT_S = 1.0


class Running:
    """A call of the function that has not ended."""

    def __init__(self, context: Any, began_at_s: float) -> None:
        self.numbers = [one.task.sequence for one in context.contexts]
        self.began_at_s = began_at_s
        self.ending: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Gathering(RuleBasedStateMachine):
    """Attempts of two functions that come and go, for a few places."""

    @initialize(places=st.integers(1, 3))
    def begin(self, places: int) -> None:
        """Have no attempts yet."""
        self.loop = VirtualLoop()
        self.places = places
        self.calls: list[Running] = []
        self.wrong: list[list[int]] = []
        self.members: dict[int, Member] = {}
        self.joined_at_s: dict[int, float] = {}
        self.outcomes: dict[int, list[CallOutcome]] = {}
        self.left: set[int] = set()
        within = limits(attempts=ATTEMPTS)
        self.functions = [
            replace(in_hand(None, f"shop:{size}", mode="coroutine", within=within), batch=CallSize(size, WAIT_S))
            for size in SIZES
        ]
        self.loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self.batches = BatchCalls(self._run)
        self.batches.has_place = lambda: self.batches.running_count < self.places

    async def _run(self, loaded: Any, context: Any) -> Any:
        call = Running(context, self.loop.time())
        # Not an assertion: it would only fail the call.
        sizes = {SIZES[number % len(SIZES)] for number in call.numbers}
        if len(call.numbers) > loaded.batch.size or sizes != {loaded.batch.size}:
            self.wrong.append(call.numbers)
        self.calls.append(call)
        try:
            return await call.ending
        finally:
            self.calls.remove(call)

    @rule(count=st.integers(1, 4), function=st.integers(0, len(SIZES) - 1), attempt=st.integers(1, ATTEMPTS))
    def join(self, count: int, function: int, attempt: int) -> None:
        """Let attempts begin."""
        for _ in range(count):
            number = len(self.members) * len(SIZES) + function
            task: TaskCreated = task_event(TaskCreated, "o1", number, at_ms=NOW_MS, attempt=attempt)
            context = Context(msgspec.structs.replace(task, content=msgspec.Raw(b"1")), LONG_S)  # type: ignore[arg-type]
            self.outcomes[number] = []
            self.joined_at_s[number] = self.loop.time()
            self.loop.call(self._join, number, function, context)

    def _join(self, number: int, function: int, context: Context) -> None:
        self.members[number] = self.batches.join(self.functions[function], context, self.outcomes[number].append)

    @precondition(lambda self: self.calls)
    @rule(random=st.randoms(use_true_random=False), how=st.sampled_from(("return", "raise", "retry", "some fail")))
    def end_call(self, random: Any, how: str) -> None:
        """Let a call end."""
        call = random.choice(self.calls)
        if how == "return":
            call.ending.set_result(list(call.numbers))
        elif how == "some fail":
            call.ending.set_result([KeyError(one) if random.random() < 0.5 else one for one in call.numbers])
        else:
            call.ending.set_exception(ValueError("poison") if how == "raise" else Retry(1))
        self.loop.settle()

    @precondition(lambda self: self.members)
    @rule(random=st.randoms(use_true_random=False), count=st.integers(1, 6))
    def cancel(self, random: Any, count: int) -> None:
        """Cancel attempts, some perhaps twice or after their end."""
        for number in random.choices(list(self.members), k=count):
            if not self.outcomes[number]:
                self.left.add(number)
            self.loop.call(self.members[number].cancel)

    @rule(places=st.sampled_from((0, 1, 3, 8)))
    def change_places(self, places: int) -> None:
        """Let the pool have more or fewer places."""
        self.places = places
        self.loop.call(self.batches.start_ready)

    @rule(seconds=st.sampled_from((0.1, WAIT_S / 2, WAIT_S, 2 * WAIT_S)))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.pass_time(seconds)

    @rule()
    def hurry(self) -> None:
        """Let a worker stop soon."""
        self.loop.call(self.batches.hurry)

    @invariant()
    def each_attempt_is_in_one_place(self) -> None:
        """Find one outcome of each, or one call that it is in, or that it waits, and not longer than it must."""
        if not hasattr(self, "loop"):
            return
        self.loop.settle()
        assert not self.wrong
        running = [number for call in self.calls for number in call.numbers if not self.outcomes[number]]
        assert len(running) == len(set(running))
        open_count = sum(not one for one in self.outcomes.values())
        assert open_count == len(running) + self.batches.waiting_count
        assert all(len(one) <= 1 for one in self.outcomes.values())
        if self.batches.running_count < self.places:
            assert not self.batches.ready_count
            waiting = [number for number, one in self.outcomes.items() if not one and number not in running]
            assert all(self.loop.time() - self.joined_at_s[one] < WAIT_S + 1e-6 for one in waiting)

    def teardown(self) -> None:
        """With places for all, each attempt comes to its end, with its own result unless it failed or left."""
        if not hasattr(self, "loop"):
            return
        try:
            self._finish()
        finally:
            self.loop.close()

    def _finish(self) -> None:
        self.places = len(self.members) + 1
        self.loop.call(self.batches.hurry)
        self.loop.call(self.batches.start_ready)
        self.loop.settle()
        while self.calls:
            for call in list(self.calls):
                call.ending.set_result(list(call.numbers))
            self.loop.settle()
        for number, outcomes in self.outcomes.items():
            (outcome,) = outcomes
            if isinstance(outcome.error, asyncio.CancelledError):
                assert number in self.left
            elif outcome.error is None:
                assert number == outcome.value
            else:
                assert isinstance(outcome.error, (ValueError, KeyError, Retry))
        assert (0, 0, 0) == (self.batches.running_count, self.batches.ready_count, self.batches.waiting_count)


TestGathering = Gathering.TestCase
TestGathering.settings = settings(max_examples=200, stateful_step_count=40, phases=[Phase.explicit, Phase.generate])
