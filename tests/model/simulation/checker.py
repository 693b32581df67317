"""What must hold after a schedule, whatever happened in it.

| what | judged by |
| --- | --- |
| each accepted object has exactly its tasks, each event and request stands once | `checker`, as after the fault tests |
| ledger rows, windows and totals equal a recount of the topics | `ebs.recount`, as `ebs recount` does |
| each task ends as its handler's plan says, with that attempt: no attempt is lost, none is spent by a crash | here |
| each instant of a schedule has made one object, and no other instant has | here, `checker` |
| each task that died has one dead letter | here |
| what functions submit and send is there once if their attempt has finished, else not at all | `checker`, here |
| each join has the results of all tasks in their order | here |
| no delayed task and no retry starts early, by a clock that was always right | `commands`, here |
| the committed offsets of all groups are at the ends of their inputs | `is_done`, which the schedule waits for |
| no error gets past those who should end the process | `schedule` |
| where nothing goes wrong, no worker ends | `test_schedules.py` |
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
from aiokafka import TopicPartition
from checker import Topics, judge, note

from app.names import PROCESSING, STATISTICS, WAITING_TABLE
from app.rules.waiting_rows import IN_LINE, TIMED
from app.topics.catalogue import input_topics
from ebs.recount.comparison import AHEAD
from ebs.recount.reading import Cut, Stretch
from ebs.recount.run import Recount
from simulation.functions import MAPPED, SINK, Job
from simulation.loop import EPOCH_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.names import Names
    from simulation.broker import Broker
    from simulation.plan import Plan

ClockHistory = Mapping[str, Sequence[tuple[float, float]]]
_OF_TIMES = re.compile(r"_ms is |: window of |late_events is |histogram is ")
_ENDS = {"TASK_FINISHED", "TASK_DEAD"}


def is_done(broker: Broker, plan: Plan) -> bool:
    """Return whether all groups have committed all that is on their inputs, and no task waits in the table.

    As outputs and offsets commit together, nothing more comes then; markers may still be on their way to changelogs.
    """
    if any(log.stable_end < log.end for log in broker.logs.values()):
        return False
    names = plan.settings.names
    for role, queue in plan.groups:
        group = broker.groups[names.group(role, queue)]
        for topic in input_topics(role, plan.settings, queue):
            for number in range(plan.partitions):
                tp = TopicPartition(topic, number)
                offset = group.offsets.get(tp, (0, ""))[0]
                if broker.logs[tp].read(offset, 1)[0]:
                    return False
    if plan.fired - {(one.key or b"").decode() for one in broker.committed(names.objects)}:
        return False
    changelogs = [names.changelog(role, WAITING_TABLE, queue) for role, queue in plan.groups if role == PROCESSING]
    return not any(_has_waiting(broker, name) for name in changelogs)


def _has_waiting(broker: Broker, changelog: str) -> bool:
    waiting: dict[bytes, bytes | None] = {}
    for record in broker.committed(changelog):
        waiting[(record.key or b"") + b"%d" % record.partition] = record.value
    return any(key.startswith((TIMED, IN_LINE)) and value is not None for key, value in waiting.items())


async def differences(broker: Broker, plan: Plan, clocks: ClockHistory) -> list[str]:
    """Return what is wrong, as sentences. `clocks`: by process, since when (s) its clock is how much ahead (s)."""
    names = plan.settings.names
    topics = _read(broker, names)
    accepted = {one.object_id for one in plan.submitted} | plan.fired
    found = judge(topics, names, accepted=accepted)
    recounted = await Recount(_Reader(broker, names), plan.settings).run()
    # The recount believes the clocks of workers that were ahead; the statistics count what is stamped so as now.
    found += [one for one in map(str, recounted.differences) if not (plan.clocks and _OF_TIMES.search(one))]
    # What was far ahead it leaves out, and says so.
    reasons = recounted.reasons.keys() - ({AHEAD} if plan.clocks else set())
    found += [f"{recounted.reasons[reason]} rows could not be compared: {reason}" for reason in sorted(reasons)]
    found += _check_ends(topics, plan)
    fired = Counter((record.key or b"").decode() for record in broker.committed(names.objects))
    found += [f"object {one} stands {fired[one]} times on {names.objects}" for one in plan.fired if fired[one] > 1]
    found += [f"{one} is the object of no instant" for one in topics.objects if "@" in one and one not in plan.fired]
    finished = _finished(topics)
    found += _check_sent(broker, finished) + _check_chains(topics, finished) + _check_joins(topics)
    if not plan.commands:
        found += _check_early(topics, plan, clocks)
    return found + (_check_order(broker, topics, names, clocks) if plan.in_order else [])


def _read(broker: Broker, names: Names) -> Topics:
    topics = Topics()
    requests = sorted({tp.topic for tp in broker.logs if names.is_of_requests(tp.topic)})
    for name in (names.objects, *requests, names.task_events, names.object_events):
        for record in broker.committed(name):
            note(topics, names, record, msgspec.json.decode(record.value))
    topics.dead_letters = broker.committed(names.dead_letters)
    for record in broker.committed(names.ledger_changelog):
        if record.key and record.value is not None:
            topics.ledger[record.key.decode()] = record.value
    return topics


def _check_ends(topics: Topics, plan: Plan) -> list[str]:
    found = []
    dead_count = 0
    for events in topics.events.values():
        ends = {one["task_id"]: (one["type"], one["attempt"]) for one in events if one["type"] in _ENDS}
        for task_id, end in ends.items():
            wanted = plan.end_of(task_id)
            dead_count += wanted[0] == "TASK_DEAD"
            if end != wanted:
                found.append(f"task {task_id} ended with {end}, planned was {wanted}")
        began = Counter((one["task_id"], one["attempt"]) for one in events if one["type"] == "TASK_STARTED")
        for task_id, (_, last) in ends.items():
            missing = [attempt for attempt in range(1, last + 1) if not began[task_id, attempt]]
            if missing:
                found.append(f"task {task_id} has no TASK_STARTED of attempts {missing}")
    if len(topics.dead_letters) != dead_count:
        found.append(f"{len(topics.dead_letters)} dead letters, {dead_count} tasks died")
    return found


def _finished(topics: Topics) -> set[str]:
    return {one["task_id"] for events in topics.events.values() for one in events if one["type"] == "TASK_FINISHED"}


def _check_sent(broker: Broker, finished: set[str]) -> list[str]:
    """Check the records that functions have sent: one of each finished task without a role."""
    sent = Counter((record.key or b"").decode() for record in broker.committed(SINK))
    wanted = {one for one in finished if not one.endswith(("-split", "-join"))}
    found = [f"a record of {one} stands {count} times on {SINK}" for one, count in sent.items() if count > 1]
    found += [f"{one} stands on {SINK}, but its task has not finished" for one in sorted(set(sent) - wanted)]
    return found + [f"task {one} has finished, but {SINK} has no record of it" for one in sorted(wanted - set(sent))]


def _check_early(topics: Topics, plan: Plan, clocks: ClockHistory) -> list[str]:
    """Check that nothing has begun before it was due, if its worker's clock was always right."""
    found = []
    # Of an object that was submitted twice any record may be the one that counts.
    delayed_until_ms = {
        one.object_id: EPOCH_MS + round(1_000 * (one.at_s + one.delay_s)) for one in reversed(plan.submitted)
    }
    for object_id, events in topics.events.items():
        due_at_ms: dict[tuple[str, int], int] = {}
        for one in events:
            if one["type"] == "TASK_RETRIED":
                # If the clock that said so was ahead, and has gone back since, the pause counts.
                paused_until_ms = _true_ms(one, clocks) + one["due_at_ms"] - one["at_ms"]
                due_at_ms[one["task_id"], one["attempt"] + 1] = min(one["due_at_ms"], paused_until_ms)
        for one in events:
            if one["type"] == "TASK_STARTED" and all(ahead_s == 0 for _, ahead_s in clocks[one["worker"]]):
                wanted_ms = due_at_ms.get((one["task_id"], one["attempt"]), delayed_until_ms.get(object_id, 0))
                if one["at_ms"] < wanted_ms:
                    found.append(f"{one['id']} began {wanted_ms - one['at_ms']} ms early")
    return found


def _true_ms(event: Mapping[str, Any], clocks: ClockHistory) -> int:
    """Return when an event happened, whatever the clock of its worker said."""
    at_ms: int = event["at_ms"]
    history = clocks[event["worker"]]
    for (since_s, ahead_s), (until_s, _) in pairwise(history):
        true_ms = at_ms - round(ahead_s * 1_000)
        if since_s * 1_000 - 1 <= true_ms - EPOCH_MS <= until_s * 1_000 + 1:
            return true_ms
    return at_ms - round(history[-1][1] * 1_000)


def _check_order(broker: Broker, topics: Topics, names: Names, clocks: ClockHistory) -> list[str]:
    """Check that the tasks of each key ran one after another, in the order in which they were asked for."""
    times: dict[str, list[int]] = defaultdict(list)
    for events in topics.events.values():
        for one in events:
            if one["type"] in {"TASK_STARTED", *_ENDS}:
                times[one["task_id"]].append(_true_ms(one, clocks))
    by_key: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    requests = (record for name in broker.topics if names.is_of_requests(name) for record in broker.committed(name))
    for record in requests:
        request = msgspec.json.decode(record.value)
        if "role" not in request and times[request["task_id"]]:
            by_key[request["kind"], request.get("key") or request["object_id"]][request["task_id"]] = None
    return [
        f"task {after} of key {key} began at {min(times[after])}, {before} ended at {max(times[before])}"
        for key, tasks in by_key.items()
        for before, after in pairwise(tasks)
        if min(times[after]) < max(times[before])
    ]


def _check_chains(topics: Topics, finished: set[str]) -> list[str]:
    """Check that each join that finished has submitted the next object of its chain."""
    made = {one["parent"]["task_id"]: one["content"] for one in topics.objects.values() if "parent" in one}
    wanted = {
        f"{one['object_id']}-join": msgspec.to_builtins(job.following())
        for one in topics.objects.values()
        if one["kind"] == MAPPED
        and f"{one['object_id']}-join" in finished
        and (job := msgspec.convert(one["content"], Job)).left
    }
    return [] if made == wanted else [f"joins have submitted {made}, wanted {wanted}"]


def _check_joins(topics: Topics) -> list[str]:
    return [
        f"the join of {object_id} returned {end['result']}, wanted are the numbers of {pieces} pieces"
        for object_id, ends in topics.ends.items()
        for end in ends
        if end["kind"] == MAPPED and end["type"] == "OBJECT_FINISHED"
        if end["result"] != list(range(pieces := topics.objects[object_id]["content"]["pieces"]))
    ]


class _Reader:
    """What `Recount` reads: the whole of the model's topics, as they are."""

    def __init__(self, broker: Broker, names: Names) -> None:
        self._broker = broker
        self._names = names

    async def partitions(self) -> list[int]:
        """Return the numbers of the partitions."""
        return list(range(self._broker.topics[self._names.objects]))

    async def cut(self, number: int) -> Cut:
        """Return what belongs together of a partition: at the end of a schedule that is all."""
        names = self._names
        offsets = self._broker.groups[names.group(STATISTICS)].offsets
        inputs = (names.objects, names.task_events)
        changelogs = (names.ledger_changelog, names.results_changelog, names.windows_changelog)
        tps = [TopicPartition(name, number) for name in (*inputs, *changelogs)]
        return Cut(*(Stretch(tp, 0, offsets[tp][0] if tp in offsets else self._broker.logs[tp].end) for tp in tps))

    async def read(self, stretch: Stretch) -> AsyncIterator[list[Any]]:
        """Yield the committed records of a stretch."""
        records = [one for one in self._broker.logs[stretch.tp].committed() if one.offset < stretch.end]
        if records:
            yield records

    async def changed_since(self, _stretch: Stretch) -> set[bytes]:
        """Return nothing: nothing comes after the cut."""
        return set()
