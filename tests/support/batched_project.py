"""Functions with a fixed cost a call, for single tasks and for batches: what an address or a model costs."""

from __future__ import annotations

import asyncio
import os
import time

from fault_handlers import note

from ebs import BatchContext, Context, Project, Task, cpu_bound

FIXED_COST_S = 0.005
BATCH = 64
SORTS = ("connection", "process", "thread", "coroutine")
BATCHED = {"EBS_PROJECT": "batched_project"}
"""Settings of all processes that have it."""

project = Project()


@project.task("coroutine")
async def coroutine(task: Task, _context: Context) -> int:
    """Wait for an answer."""
    await asyncio.sleep(FIXED_COST_S)
    return task.sequence


@project.task("coroutine-batch", batch=BATCH)
async def coroutine_batch(tasks: list[Task], _context: BatchContext) -> list[int]:
    """Wait for one answer for all."""
    await asyncio.sleep(FIXED_COST_S)
    return [task.sequence for task in tasks]


_connection = asyncio.Lock()
"""Such as a model on a GPU: one call at a time."""


@project.task("connection")
async def connection(task: Task, _context: Context) -> int:
    """Wait for the connection, and for its answer."""
    async with _connection:
        await asyncio.sleep(FIXED_COST_S)
    return task.sequence


@project.task("connection-batch", batch=BATCH)
async def connection_batch(tasks: list[Task], _context: BatchContext) -> list[int]:
    """Wait for the connection, and for one answer for all."""
    async with _connection:
        await asyncio.sleep(FIXED_COST_S)
    return [task.sequence for task in tasks]


@project.task("thread")
def thread(task: Task, _context: Context) -> int:
    """Wait in a thread."""
    time.sleep(FIXED_COST_S)
    return task.sequence


@project.task("thread-batch", batch=BATCH)
def thread_batch(tasks: list[Task], _context: BatchContext) -> list[int]:
    """Wait in a thread, once for all."""
    time.sleep(FIXED_COST_S)
    return [task.sequence for task in tasks]


@project.task("process")
@cpu_bound
def process(task: Task, _context: Context) -> int:
    """Wait in a process."""
    time.sleep(FIXED_COST_S)
    return task.sequence


@project.task("process-batch", batch=BATCH)
@cpu_bound
def process_batch(tasks: list[Task], _context: BatchContext) -> list[int]:
    """Wait in a process, once for all."""
    time.sleep(FIXED_COST_S)
    return [task.sequence for task in tasks]


@project.task("named", batch=16, attempts=2, backoff=0.1)
async def named(tasks: list[Task], context: BatchContext) -> list[str]:
    """Do what the names of the objects say: fail the whole call, end the worker, or return the id of each task."""
    for task in tasks:
        note(task, context.of(task))
    await asyncio.sleep(FIXED_COST_S)
    for task in tasks:
        if task.name == "poison":
            raise ValueError("one of them is poison")
        if task.name == "exit":
            os._exit(7)
    return [task.task_id for task in tasks]
