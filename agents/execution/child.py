"""The inside of a process that runs @cpu_bound handlers. Nothing is imported here that a handler does not need.

Calls and answers are bytes and plain values: an exception that cannot be pickled, or not be read back, must cost its
task only, not the channel that all processes share.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import pickle
import select
import signal
import threading
import time
from contextlib import closing, suppress
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from agents.execution.loading import Address, find
from agents.execution.results import encode_result
from app.errors import HandlerCrashed, SettingsError, TimeLimitExceeded
from app.events import TaskCreated
from app.rules.dead_letters import message_of
from app.rules.stack_trace import stack_trace_of
from app.rules.submitted import WorkerOutputRules
from app.settings.project import load_project
from app.telemetry.log_format import LOG_FORMAT
from ebs.batch_context import BatchContext
from ebs.context import Context

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from ebs.outputs import Outputs

_MAX_PICKLED_BYTES = 1_048_576
"""Of an error on its way to the worker."""
_LIMITS = "its time_limit_s, or EBS_TASK_TIME_LIMIT_S"
CLEANUP_LIMIT_S = 5.0
"""How long a cancelled coroutine is waited for."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One run: the function by its address and name, and the request of its task, or the requests of a batch.

    `run_id` goes back with what is said of its progress; each further task of a batch has the next number. A handler
    that `is_async` gets an event loop for itself.
    """

    run_id: int
    address: Address
    name: str
    tasks: list[TaskCreated]
    time_limit_s: float
    max_result_bytes: int
    rules: WorkerOutputRules
    is_async: bool = False
    is_batch: bool = False


class Answer(NamedTuple):
    """The result as JSON, and what else was produced; or the error: pickled (empty if it cannot be), and in words."""

    result: bytes = b""
    outputs: Outputs | None = None
    pickled_error: bytes = b""
    error_text: str = ""
    stack_trace: str = ""


class News(msgspec.Struct, frozen=True, array_like=True):
    """What a handler says of its progress: a line on the pipe to the worker."""

    run_id: int
    fraction: float
    message: str


encode_call = msgspec.json.Encoder().encode
_decode_call = msgspec.json.Decoder(Call).decode
_encode_news = msgspec.json.Encoder().encode

_news_pipe: list[Connection] = []
"""Where this process reports progress; pebble hands things to a process only through its initializer."""


class ProcessContext(Context):
    """A context whose progress goes to the worker. `cancelled` stays False: this process is killed instead."""

    run_id: int = 0

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how much is done; dropped if the worker cannot keep up with reading."""
        super().progress(fraction, message)
        if self.last_progress is not None:
            _tell(News(self.run_id, *self.last_progress[:2]))


def prepare_process(projects: Sequence[str], news_pipe: Connection, log_level: int, *, apart: bool) -> None:
    """Set up a new process: before its first task, so that no time limit counts what takes long to import.

    One that is `apart` is for handlers that may have ended their worker: it is made the first to go.
    """
    faulthandler.enable()
    if apart:
        _stand_apart()
    # A service manager or a terminal may signal the whole group: the worker decides when its handlers end, by SIGKILL.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="ebs-tether", daemon=True).start()
    logging.basicConfig(level=log_level, format=LOG_FORMAT)
    _news_pipe[:] = [news_pipe]
    for project in projects:
        try:
            load_project(project)
        except SettingsError as error:
            # The run says it again, as the error of its task.
            logging.getLogger(__name__).warning("the worker could import it, its process cannot: %s", error)


def _stand_apart() -> None:
    """Let signals to its process group, and a system that is short of memory, end this process and not its worker."""
    with suppress(OSError):
        os.setsid()
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def run_handler(encoded_call: bytes) -> Answer | list[Answer]:
    """Run a handler; never raises. A batch has an answer for each task, or one if its function raised."""
    try:
        call = _decode_call(encoded_call)
        now_s = time.monotonic()
        contexts: list[Context] = [
            ProcessContext(task, call.time_limit_s, now_s, rules=call.rules, run_id=call.run_id + number)
            for number, task in enumerate(call.tasks)
        ]
        context = contexts[0]
        if call.is_batch:
            context = BatchContext(call.tasks[0], call.time_limit_s, now_s, contexts=contexts)
        result = find(call.address)(call.tasks[0], context)
        if call.is_async:
            result = _result_of(result, call)
        if call.is_batch:
            assert isinstance(result, list)  # of what became of each task
            return [_answer(one, of, call) for one, of in zip(result, contexts, strict=True)]
        return _answer(result, context, call)
    # Even SystemExit: whatever a handler raises is an answer.
    except BaseException as error:  # noqa: BLE001
        return _answer_of(error)


def _answer(result: object, context: Context, call: Call) -> Answer:
    """Return the answer of a task that returned something; a batch function returns errors, too."""
    if call.is_batch and isinstance(result, BaseException):
        return _answer_of(result)
    try:
        return Answer(bytes(encode_result(result, call.max_result_bytes)), context.close_outputs())
    except BaseException as error:  # noqa: BLE001  # what a handler returns is anything, also what its encoding raises
        return _answer_of(error)


def _result_of(coroutine: Any, call: Call) -> object:
    """Run a coroutine as a worker does: cancelled at its time limit, left behind if it does not care."""
    with closing(asyncio.new_event_loop()) as loop:
        return _result_in(loop, coroutine, call)


def _result_in(loop: asyncio.AbstractEventLoop, coroutine: Any, call: Call) -> object:
    run = loop.create_task(coroutine)
    try:
        loop.run_until_complete(asyncio.wait([run], timeout=call.time_limit_s))
    except (asyncio.CancelledError, RuntimeError):  # RuntimeError: the loop was stopped
        raise _meddler(call) from None
    if run.cancelled():
        raise _meddler(call)
    if run.done():
        return run.result()
    run.cancel()
    loop.run_until_complete(asyncio.wait([run], timeout=CLEANUP_LIMIT_S))
    raise over_the_limit(call.name, call.time_limit_s)


def _meddler(call: Call) -> HandlerCrashed:
    return HandlerCrashed(f"handler {call.name} cancelled or stopped something in the event loop that is not its own")


def over_the_limit(handler: str, limit_s: float) -> TimeLimitExceeded:
    """Return the error of a handler that took too long."""
    return TimeLimitExceeded(f"handler {handler} took more than {limit_s:g} s ({_LIMITS})")


def _answer_of(error: BaseException) -> Answer:
    text = f"{type(error).__name__}: {message_of(error)}"
    try:
        pickled = pickle.dumps(error)
        if len(pickled) > _MAX_PICKLED_BYTES:
            pickled = b""  # the text says enough
        else:
            # Here first: to read it back runs the class's own code, which may hang or end the process that does it.
            pickle.loads(pickled)  # noqa: S301  # written in the line above
    except BaseException:  # noqa: BLE001  # an error class is anybody's code
        pickled = b""
    return Answer(b"", None, pickled, text, stack_trace_of(error))


def _tell(news: News) -> None:
    line = _encode_news(news) + b"\n"
    if len(line) > select.PIPE_BUF:
        line = _encode_news(News(news.run_id, news.fraction, "")) + b"\n"
    # Up to PIPE_BUF bytes a write is whole or nothing, so processes need no lock that a killed one would keep.
    with suppress(OSError):  # the pipe is full, or the worker is gone
        os.write(_news_pipe[0].fileno(), line)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)
