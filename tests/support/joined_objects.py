"""Objects of `joined_project`, which are split and joined, and what must be true of them at the end."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from checker import read_all
from joined_project import CHAINED, KIND

from app.names import BARE

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT_LENGTHS = 5


def text(number: int) -> str:
    """Return the words of an object: none to four."""
    return text_of(number, number % TEXT_LENGTHS)


def text_of(number: int, count: int) -> str:
    """Return `count` words of an object."""
    return " ".join(f"w{number}x{word}" for word in range(count))


def chain_length(number: int) -> int:
    """Return how many objects there are in the chain that begins with `text(number)`."""
    return number % TEXT_LENGTHS + 1


class JoinTimes(NamedTuple):
    """When the last task of an object ended, when the statistics asked for its join, and when that started."""

    last_end_at_ms: int
    requested_at_ms: int
    joined_at_ms: int


class Joined:
    """What the topics say of all objects that are split and joined."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._kinds: dict[str, str] = {}
        self._children: dict[str, list[str]] = defaultdict(list)
        self._ends: dict[str, list[tuple[str, int, Any]]] = defaultdict(list)
        self._finished: Counter[str] = Counter()
        self._requested: Counter[str] = Counter()
        self._last_end_at_ms: dict[str, int] = defaultdict(int)
        self._requested_at_ms: dict[str, int] = {}
        self._joined_at_ms: dict[str, int] = {}

    async def read(self, bootstrap: str) -> None:
        """Read the topics, committed records only."""
        async for record in read_all(bootstrap, [BARE.objects, BARE.object_events, BARE.task_events]):
            event = json.loads(record.value)
            if record.topic == BARE.objects:
                self._note_object(event)
            elif record.topic == BARE.object_events:
                self._ends[event["object_id"]].append((event["type"], event["tasks_finished"], event["result"]))
            else:
                self._note(event, event["object_id"])

    def differences(self) -> list[str]:
        """Return what is wrong, as sentences: each object has one end, one join, and all results in their order."""
        return [
            found
            for object_id, text in self._texts.items()
            if self._kinds[object_id] in (KIND, CHAINED)
            for found in self._of_one(object_id, text.split())
        ]

    def times(self) -> dict[str, JoinTimes]:
        """Return the times of each object whose join has started."""
        return {
            one: JoinTimes(self._last_end_at_ms[one], self._requested_at_ms[one], at_ms)
            for one, at_ms in self._joined_at_ms.items()
        }

    def _note_object(self, event: dict[str, Any]) -> None:
        object_id = event["object_id"]
        self._texts[object_id], self._kinds[object_id] = event["name"], event["kind"]
        if "parent" in event:
            self._children[event["parent"]["object_id"]].append(event["name"])

    def _note(self, event: dict[str, Any], object_id: str) -> None:
        is_join = event.get("role") == "join"
        if event["type"] == "TASK_FINISHED":
            self._finished[event["task_id"]] += 1
            if not is_join:
                self._last_end_at_ms[object_id] = max(self._last_end_at_ms[object_id], event["at_ms"])
        elif is_join and event["type"] == "TASKS_CREATED":
            self._requested[object_id] += 1
            self._requested_at_ms[object_id] = event["at_ms"]
        elif is_join and event["type"] == "TASK_STARTED":
            self._joined_at_ms.setdefault(object_id, event["at_ms"])

    def _of_one(self, object_id: str, words: list[str]) -> Iterator[str]:
        tasks = [f"{object_id}-{one}" for one in (*range(len(words)), "split", "join")]
        counts = {task: self._finished[task] for task in tasks if self._finished[task] != 1}
        if counts:
            yield f"tasks of {object_id} finished so many times: {counts}"
        if self._requested[object_id] != 1:
            yield f"{object_id} has {self._requested[object_id]} requests for a join"
        result = {"text": " ".join(words), "letters": len("".join(words))}
        if self._ends[object_id] != [("OBJECT_FINISHED", len(words), result)]:
            yield f"{object_id} has the ends {self._ends[object_id]}, its words are {words}"
        children = [" ".join(words[1:])] if words and self._kinds[object_id] == CHAINED else []
        if self._children[object_id] != children:
            yield f"{object_id} has submitted {self._children[object_id]}, wanted {children}"
