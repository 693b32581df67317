"""A project with a split and a join, for tests with real workers: it counts the letters of the words of a name.

A join of the kind `chained` submits an object of the words but the first, as long as there are any. Tasks of another
kind return what they were given.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import msgspec
from fault_handlers import note

from ebs import Item, Project, Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebs import Context

KIND, CHAINED, ECHO = "words", "chained", "echo"
JOINED = {"EBS_PROJECT": "joined_project", "EBS_BACKOFF_S": "1"}
"""Settings of all processes that have it."""
WORK_S = float(os.environ.get("JOINED_WORK_S", "0.02"))

project = Project()


class Counted(msgspec.Struct):
    """A word and how many letters it has."""

    word: str
    letters: int


@project.split(CHAINED, attempts=3)
@project.split(KIND, attempts=3)
def words(task: Task, context: Context) -> Iterator[Item]:
    """Yield the words of the name, each as a task of that name."""
    note(task, context)
    for word in str(task.name).split():
        yield Item({"word": word}, name=word)


@project.task(CHAINED, attempts=3)
@project.task(KIND, attempts=3)
async def count(task: Task[dict[str, str]], context: Context) -> Counted:
    """Count the letters of one word."""
    note(task, context)
    await asyncio.sleep(WORK_S)
    if task.content["word"] == "poison":
        raise ValueError("a poisonous word")
    return Counted(task.content["word"], len(task.content["word"]))


@project.join(KIND, attempts=3)
def total(results: list[Counted], context: Context) -> dict[str, object]:
    """Put the words together again, and add their letters up."""
    note(context.task, context)
    return {"text": " ".join(one.word for one in results), "letters": sum(one.letters for one in results)}


@project.join(CHAINED, attempts=3)
def total_of_chain(results: list[Counted], context: Context) -> dict[str, object]:
    """Do the same, and submit the rest of the words."""
    if results:
        context.submit(CHAINED, name=" ".join(one.word for one in results[1:]))
    return total(results, context)


@project.task(ECHO)
async def echo(task: Task, _context: Context) -> object:
    """Return the content and the name of the task."""
    return [task.content, task.name]
