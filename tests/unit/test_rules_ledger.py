"""The ledger: a row is a join of events, and the tally hears of each transition once."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from histories import BASE_MS, SEEDS, Life, delivered, histories, object_created, task_event, types_of
from hypothesis import given, settings

from app.events import (
    MAX_RESULT_BYTES,
    ObjectCreated,
    TaskCancelled,
    TaskDead,
    TaskFailed,
    TaskFinished,
    TaskRetried,
    TasksCreated,
    TaskStarted,
    decode_task_event,
    encode,
)
from app.rules.counts import WINDOW_MS, Counts, add_counts
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_descriptions import describe_object, describe_task
from app.rules.ledger_rows import MAX_ATTEMPTS, MAX_REDRIVES, ObjectRow, decode_row, encode_row, has_result_row
from app.rules.ledger_states import ENDED_STATES, ObjectState, TaskState, ended_at_ms, state_of_object, state_of_task
from app.rules.results import MAX_ERROR_CHARS, ResultRow, Results, decode_result_row, result_key, results_prefix
from app.rules.tally import Tally
from app.topics.catalogue import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

SOME = settings(max_examples=60, deadline=None)

COUNTED: dict[Any, str] = {
    ObjectCreated: "objects_created",
    TasksCreated: "tasks_created",
    TaskStarted: "tasks_started",
    TaskFinished: "tasks_finished",
    TaskFailed: "tasks_failed",
    TaskRetried: "tasks_retried",
    TaskDead: "tasks_died",
    TaskCancelled: "tasks_cancelled",
}
GAUGES = [name for name in Counts.__struct_fields__ if name.endswith("_now")]


def join(
    events: Iterable[Any], row: ObjectRow | None = None, tally: Tally | None = None, results: Results | None = None
) -> tuple[ObjectRow, Tally]:
    """Apply events to a row (default: an empty one)."""
    row, tally = row or ObjectRow(), tally or Tally()
    for event in events:
        apply_one(row, event, tally, results)
    return row, tally


def apply_one(row: ObjectRow, event: Any, tally: Tally, results: Results | None = None) -> int:
    """Apply an event of any type."""
    if isinstance(event, ObjectCreated):
        return apply_object_created(row, event, tally)
    return apply_task_event(row, event, tally, results)


def kept(events: Iterable[Any], *, steps: int = 1) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the object's row and those of its tasks' results, after as many steps that each read the rows anew."""
    arriving = list(events)
    row, stored = ObjectRow(), dict[bytes, bytes]()
    size = -(-len(arriving) // steps)
    for first in range(0, len(arriving), size):
        results = Results(stored.get)
        join(arriving[first : first + size], row, None, results)
        stored |= dict(results.changed())
        row = decode_row(encode_row(row))
    return encode_row(row), stored


def total(tally: Tally) -> Counts:
    """Add up the totals of all kinds."""
    counts = Counts()
    for of_kind in tally.totals().values():
        add_counts(counts, of_kind)
    return counts


def story(*lives: Life, at_ms: int = BASE_MS) -> list[Any]:
    """Return the events of an object with one task, a second apart."""
    events: list[Any] = [object_created("7f3a", at_ms=at_ms)]
    for number, (event_type, attempt, redrive) in enumerate(types_of(lives), 1):
        at = at_ms + number * 1_000
        events.append(task_event(event_type, "7f3a", 0, at_ms=at, attempt=attempt, redrive=redrive))
    return events


@SOME
@given(histories() | histories(callbacks=True), SEEDS)
def test_any_order_and_any_repetition_give_the_same_row_and_counts(events, seed):
    """Whatever is delivered late, early or again: the same bytes in the table, the same windows."""
    row, tally = join(events)
    other_row, other_tally = join(delivered(events, seed))
    assert encode_row(row) == encode_row(other_row)
    assert tally.totals() == other_tally.totals()
    assert tally.windows == other_tally.windows
    assert all(counts.imbalance == 0 for counts in tally.totals().values())


@SOME
@given(histories(), SEEDS)
def test_event_that_is_known_changes_nothing(events, seed):
    """Each event is news exactly once; applied again it is refused and leaves row and windows alone."""
    row, tally = ObjectRow(), Tally()
    for event in Random(seed).sample(events, len(events)):
        assert apply_one(row, event, tally)
        before = encode_row(row), total(tally)
        assert not apply_one(row, event, tally)
        assert before == (encode_row(row), total(tally))


@SOME
@given(histories())
def test_each_event_counts_once_in_the_window_of_its_time(events):
    """The windows equal a plain recount of the events by time; a redrive makes no new task."""
    expected: dict[str, Counter[int]] = {name: Counter() for name in COUNTED.values()}
    for event in events:
        if not (isinstance(event, TasksCreated) and event.redrive):
            expected[COUNTED[type(event)]][event.at_ms // WINDOW_MS * WINDOW_MS] += getattr(event, "count", 1)
    _, tally = join(events)
    for name, by_window in expected.items():
        counted = {start_ms: getattr(counts, name) for (start_ms, _), counts in tally.windows.items()}
        assert by_window == Counter({start_ms: count for start_ms, count in counted.items() if count})


@SOME
@given(histories())
def test_durations_add_up_to_those_of_the_events(events):
    """Time spent is that of finished and failed attempts, waits are those of the starts."""
    counts = total(join(events)[1])
    finished = [event for event in events if isinstance(event, TaskFinished)]
    spent_ms = sum(event.spent_ms for event in events if isinstance(event, TaskFailed | TaskFinished))
    waits_ms = [event.wait_ms for event in events if isinstance(event, TaskStarted)]
    assert spent_ms == counts.spent_ms
    assert sum(waits_ms) == counts.wait_ms
    assert max(waits_ms, default=0) == counts.wait_max_ms
    assert max((event.spent_ms for event in finished), default=0) == counts.spent_max_ms
    assert len(finished) == sum(counts.spent_histogram.values())
    assert len(waits_ms) == sum(counts.wait_histogram.values())


@SOME
@given(histories(), SEEDS)
def test_law_holds_after_each_event_in_any_order(events, seed):
    """Tasks created = queued + in progress + waiting for retry + finished + dead + cancelled, each of them 0 or more.

    Also where a task's events overtake its creation, or come again: it is in a state once it is counted as created.
    """
    row, tally = ObjectRow(), Tally()
    for event in delivered(events, seed):
        apply_one(row, event, tally)
        counts = total(tally)
        known = [task for task in row.tasks if task.marks & 1]
        assert len(known) == counts.tasks_created
        assert 0 == counts.imbalance
        assert all(getattr(counts, name) >= 0 for name in GAUGES)


def test_windows_have_no_states():
    """States are of now: a window that showed them would depend on the order in which its events came."""
    _, tally = join(story(Life(2, "finished")))
    assert all(0 == getattr(counts, name) for counts in tally.windows.values() for name in GAUGES)


def test_redrive_under_another_kind_stays_with_its_object():
    """An edited kind changes the handler: the object is what it was, and the law holds for each kind."""
    row, tally = join(story(Life(1, "dead")))
    assert 1 == tally.totals()["default"].dead_now
    edited = [
        task_event(kind, "7f3a", 0, at_ms=BASE_MS, redrive=1, kind="mail")
        for kind in (TasksCreated, TaskStarted, TaskFinished)
    ]
    for number, event in enumerate(edited, 1):
        join([event], row, tally)
        assert {"default"} == set(tally.totals())
        counts = tally.totals()["default"]
        assert (1, 0, 0) == (counts.tasks_created, counts.dead_now, counts.imbalance), number
    assert ("default", ObjectState.FINISHED) == (row.kind, state_of_object(row))
    assert (2, 1, 1) == (counts.tasks_started, counts.tasks_finished, counts.finished_now)


@SOME
@given(histories())
def test_object_has_an_end_when_all_of_its_tasks_have(events):
    """The instant of the last end, None while a task has not ended."""
    row, _ = join(events)
    states = [state_of_task(task) for task in row.tasks]
    if row.tasks and set(states) <= ENDED_STATES:
        assert max(task.ended_at_ms for task in row.tasks) == ended_at_ms(row)
    else:
        assert ended_at_ms(row) is None


@SOME
@given(histories("finished"), SEEDS)
def test_finished_object_is_counted_once_with_its_time(events, seed):
    """An object finishes when its last task does, wherever its creation comes in the order."""
    row, tally = join(delivered(events, seed))
    counts = total(tally)
    end_ms = max(event.at_ms for event in events if isinstance(event, TaskFinished))
    spent_ms = max(0, end_ms - events[0].at_ms)
    assert ObjectState.FINISHED is state_of_object(row)
    assert end_ms == row.finished_at_ms
    assert (1, spent_ms, spent_ms, 1) == (
        counts.objects_finished,
        counts.object_ms,
        counts.object_max_ms,
        sum(counts.object_histogram.values()),
    )
    assert 1 == tally.at(end_ms, "default").objects_finished


@SOME
@given(histories())
def test_row_survives_its_table(events):
    """What is stored is read back, in the middle of a life too."""
    row, _ = join(events)
    assert row == decode_row(encode_row(row))


@SOME
@given(histories(), SEEDS)
def test_results_and_errors_are_a_join_too(events, seed):
    """Any order, any repetition, in one step or in several: the same rows, those of the tasks that have something."""
    row, rows = kept(events)
    assert (row, rows) == kept(delivered(events, seed))
    assert (row, rows) == kept(delivered(events, seed + 1), steps=4)
    said = {event.sequence for event in events if isinstance(event, TaskFinished | TaskFailed | TaskDead)}
    assert {result_key(b"7f3a", sequence) for sequence in said} == set(rows)
    tasks = decode_row(row).tasks
    assert [sequence in said for sequence in range(len(tasks))] == [has_result_row(task) for task in tasks]


@SOME
@given(histories(), SEEDS)
def test_row_of_a_task_has_its_result_and_its_last_error(events, seed):
    """The last attempt's error of the last generation that failed, its death's before that of its failure."""
    _, rows = kept(delivered(events, seed))
    for key, packed in rows.items():
        sequence = int.from_bytes(key[-4:], "big")
        own = [event for event in events if getattr(event, "sequence", None) == sequence]
        finished = [bytes(event.result) for event in own if isinstance(event, TaskFinished)]
        failures = {
            (event.redrive or 0, isinstance(event, TaskDead), event.attempt): event.error
            for event in own
            if isinstance(event, TaskFailed | TaskDead)
        }
        last_error = failures[max(failures)] if failures else ""
        assert ResultRow(finished[0] if finished else b"", last_error) == decode_result_row(packed)


def test_result_of_a_later_generation_counts_in_any_order():
    """Also where two generations finished, which no worker does: the higher one's result, the lower one's mark."""
    first = task_event(TaskFinished, "7f3a", 0, at_ms=BASE_MS, result=b"1")
    again = task_event(TaskFinished, "7f3a", 0, at_ms=BASE_MS, result=b"2", redrive=1)
    empty = task_event(TaskFinished, "7f3a", 0, at_ms=BASE_MS, redrive=2)
    rows = [kept(events) for events in ([first, again, empty], [empty, again, first], [again, first, again, empty])]
    assert rows[0] == rows[1] == rows[2]
    assert [b"2"] == [decode_result_row(packed).result for packed in rows[0][1].values()]


def test_task_that_returns_nothing_and_does_not_fail_has_no_row():
    """So tasks without results cost nothing."""
    assert {} == kept(story(Life(1, "finished")))[1]


def test_rows_of_an_object_lie_together_in_the_order_of_its_tasks():
    """Whatever other ids there are, so all results of an object are one range of keys."""
    ids = [b"a", b"a\0", b"a\0\0\0\0", b"aa", b"b", b"\0", "\u00e4".encode()]
    keys = sorted(result_key(one, sequence) for one in ids for sequence in (0, 1, 2, 255, 256, 9_999))
    for one in ids:
        own = [result_key(one, sequence) for sequence in (0, 1, 2, 255, 256, 9_999)]
        first = keys.index(own[0])
        assert own == keys[first : first + len(own)]
        assert own == [key for key in keys if key.startswith(results_prefix(one))]


def test_largest_row_that_events_can_make_fits_into_a_record():
    """Ten thousand tasks, all attempts of all generations, the longest texts and the highest figures."""
    top_ms = 253_402_300_799_999
    longest = {
        "kind": "\U0001f600" * 64,
        "at_ms": top_ms,
        "wait_ms": top_ms,
        "spent_ms": top_ms,
        "result": b'"' + b"r" * (MAX_RESULT_BYTES - 2) + b'"',
        "error": "\U0001f600" * (MAX_ERROR_CHARS + 1),
    }
    object_id = "\U0001f600" * 200
    row, tally, results = ObjectRow(), Tally(), Results(lambda _key: None)
    types = (TasksCreated, TaskStarted, TaskFailed, TaskRetried, TaskFinished, TaskDead, TaskCancelled)
    events = [
        task_event(one, object_id, 0, task_count=10_000, attempt=attempt, redrive=redrive, **longest)
        for redrive in range(MAX_REDRIVES + 1)
        for attempt in range(1, MAX_ATTEMPTS + 1)
        for one in types
    ]
    join([*events, object_created(object_id, at_ms=top_ms, kind="k" * 64, task_count=10_000)], row, tally, results)
    decoded = [decode_task_event(encode(event)) for event in events[-len(types) :]]
    assert events[-len(types) :] == decoded
    worst = row.tasks[0]
    row.tasks = [worst] * 10_000
    overhead_bytes = 1_000
    assert len(encode_row(row)) + len(object_id.encode()) < MAX_RECORD_BYTES - overhead_bytes
    assert all(len(key) + len(packed) < MAX_RECORD_BYTES - overhead_bytes for key, packed in results.changed())


FINISHED, DEAD = Life(1, "finished"), Life(2, "dead")
STORIES = [
    ([Life(1, "queued")], TaskState.QUEUED, ObjectState.DISTRIBUTED),
    ([Life(1, "running")], TaskState.IN_PROGRESS, ObjectState.PROCESSING),
    ([Life(1, "waiting for retry")], TaskState.RETRYING, ObjectState.PROCESSING),
    ([Life(2, "queued")], TaskState.RETRYING, ObjectState.PROCESSING),
    ([Life(3, "running")], TaskState.IN_PROGRESS, ObjectState.PROCESSING),
    ([FINISHED], TaskState.FINISHED, ObjectState.FINISHED),
    ([Life(3, "finished")], TaskState.FINISHED, ObjectState.FINISHED),
    ([DEAD], TaskState.DEAD, ObjectState.FAILED),
    ([DEAD, Life(1, "queued")], TaskState.QUEUED, ObjectState.DISTRIBUTED),
    ([DEAD, Life(1, "running")], TaskState.IN_PROGRESS, ObjectState.PROCESSING),
    ([DEAD, FINISHED], TaskState.FINISHED, ObjectState.FINISHED),
    ([DEAD, DEAD, DEAD, DEAD], TaskState.DEAD, ObjectState.FAILED),
    ([DEAD, DEAD, DEAD, FINISHED], TaskState.FINISHED, ObjectState.FINISHED),
    ([Life(1, "cancelled before the start")], TaskState.CANCELLED, ObjectState.CANCELLED),
    ([Life(1, "cancelled while it ran")], TaskState.CANCELLED, ObjectState.CANCELLED),
    ([DEAD, Life(1, "cancelled before the start")], TaskState.CANCELLED, ObjectState.CANCELLED),
]


@pytest.mark.parametrize(("lives", "task_state", "object_state"), STORIES)
def test_state_follows_the_story(lives, task_state, object_state):
    """Each story ends in the state that its last event says, and only there is the task counted."""
    row, tally = join(story(*lives))
    counts = total(tally)
    gauges = {name: getattr(counts, name) for name in GAUGES}
    name = {TaskState.RETRYING: "retrying_now"}.get(task_state, f"{task_state.value.lower()}_now")
    assert (task_state, object_state) == (state_of_task(row.tasks[0]), state_of_object(row))
    assert dict.fromkeys(GAUGES, 0) | {name: 1} == gauges


def test_object_without_events_of_tasks_is_created():
    """An object that nobody has distributed yet is CREATED and has no tasks to show."""
    row, _ = join([object_created("7f3a", at_ms=BASE_MS, task_count=3)])
    assert ObjectState.CREATED is state_of_object(row)
    assert (3, []) == (row.task_count, row.tasks)


def test_object_fails_only_when_all_of_its_tasks_have_ended():
    """One dead task beside one that runs is PROCESSING; the object is FAILED once the other has ended."""
    events = [
        task_event(kind, "7f3a", sequence, at_ms=BASE_MS, task_count=2)
        for sequence, kind in [(0, TasksCreated), (1, TasksCreated), (0, TaskStarted), (0, TaskDead), (1, TaskStarted)]
    ]
    row, tally = join(events)
    assert ObjectState.PROCESSING is state_of_object(row)
    join([task_event(TaskFinished, "7f3a", 1, at_ms=BASE_MS, task_count=2)], row, tally)
    assert ObjectState.FAILED is state_of_object(row)
    assert (0, 0) == (row.finished_at_ms, total(tally).objects_finished)


def test_start_that_comes_before_its_creation_is_in_progress():
    """An event that overtook the others already tells its state; what is unknown of other tasks stays so."""
    row, _ = join([task_event(TaskStarted, "7f3a", 1, at_ms=BASE_MS, task_count=3)])
    assert [TaskState.UNKNOWN, TaskState.IN_PROGRESS, TaskState.UNKNOWN] == [state_of_task(one) for one in row.tasks]
    assert ObjectState.PROCESSING is state_of_object(row)


@pytest.mark.parametrize("redrive", [0, 1, 2, 3])
def test_creation_that_is_heard_of_first_is_queued(redrive):
    """Of any generation: what a late event of an earlier one says does not take the task back."""
    row, tally = join([task_event(TasksCreated, "7f3a", 0, at_ms=BASE_MS, redrive=redrive)])
    assert TaskState.QUEUED is state_of_task(row.tasks[0])
    if redrive:
        join([task_event(TaskDead, "7f3a", 0, at_ms=BASE_MS, redrive=redrive - 1)], row, tally)
        assert TaskState.QUEUED is state_of_task(row.tasks[0])


def test_description_of_an_object_tells_counts_and_instants():
    """People read ids, states and times under plain names."""
    row, _ = join(story(Life(2, "finished")))
    expected = {
        "id": "7f3a",
        "kind": "default",
        "state": "FINISHED",
        "tasks_total": 1,
        "tasks_done": 1,
        "tasks_in_progress": 0,
        "tasks_dead": 0,
        "tasks_cancelled": 0,
        "time_spent_ms": 6_024,
        "created_at_ms": BASE_MS,
        "distributed_at_ms": BASE_MS + 1_000,
        "finished_at_ms": BASE_MS + 6_000,
        "ended_at_ms": BASE_MS + 6_000,
    }
    assert expected == describe_object("7f3a", row)


def test_description_of_an_object_that_failed_tells_when_it_ended():
    """It has not finished; once it is redriven it goes on, and has no end."""
    row, _ = join(story(DEAD))
    told = describe_object("7f3a", row)
    assert ("FAILED", None, row.tasks[0].ended_at_ms) == (told["state"], told["finished_at_ms"], told["ended_at_ms"])
    again, _ = join(story(DEAD, Life(1, "running")))
    assert describe_object("7f3a", again)["ended_at_ms"] is None


def test_description_of_what_has_not_happened_is_none():
    """An instant that has not come is None, never 0."""
    told = describe_object("7f3a", ObjectRow())
    assert {None} == {told[name] for name in ("created_at_ms", "distributed_at_ms", "finished_at_ms", "ended_at_ms")}
    assert ("CREATED", 0, 0) == (told["state"], told["tasks_total"], told["tasks_done"])


def test_description_of_a_task_tells_attempts_and_the_last_error():
    """A task shows how often it was tried over all generations, and why it last failed; redriven, it has no end."""
    row, _ = join(story(DEAD, Life(1, "running")))
    expected = {
        "id": "7f3a-0",
        "sequence": 0,
        "role": "task",
        "state": "IN_PROGRESS",
        "attempts": 3,
        "created_at_ms": BASE_MS + 1_000,
        "started_at_ms": BASE_MS + 9_000,
        "ended_at_ms": None,
        "wait_ms": 12,
        "spent_ms": 6_024,
        "error": "ValueError: no",
    }
    assert expected == describe_task("7f3a", row, 0, ResultRow(b"", "ValueError: no"))


def test_event_at_the_beginning_of_time_counts_like_any_other():
    """Event time 0 is legal: it leaves its mark, once."""
    event = object_created("7f3a", at_ms=0)
    row, tally = join([event, event])
    assert 1 == tally.at(0, "default").objects_created
    assert state_of_object(row) is ObjectState.CREATED


def test_finish_at_the_beginning_of_time_counts_once():
    """A finish at time 0 is a finish, also when the creation is heard of later."""
    events = [task_event(kind, "7f3a", 0, at_ms=0) for kind in (TasksCreated, TaskStarted, TaskFinished)]
    row, tally = join([*events, object_created("7f3a", at_ms=0)])
    assert (1, 1) == (tally.at(0, "default").objects_finished, sum(total(tally).object_histogram.values()))
    assert 1 == row.finished_at_ms


def test_event_without_a_mark_is_refused():
    """An event type that was forgotten in `mark_task` must not count as another one."""

    class TaskForgotten(TaskCancelled, frozen=True, gc=False, tag="TASK_FORGOTTEN"):
        """A new type."""

    known = task_event(TaskCancelled, "7f3a", 0, at_ms=BASE_MS)
    with pytest.raises(TypeError, match="no mark is defined for TaskForgotten"):
        join([TaskForgotten(**msgspec.structs.asdict(known))])


def test_windows_are_kept_apart_by_kind():
    """An object counts for its own kind only."""
    mail = [
        object_created("1", at_ms=BASE_MS, kind="mail"),
        task_event(TasksCreated, "1", 0, at_ms=BASE_MS, kind="mail"),
    ]
    _, tally = join(mail)
    assert {"mail"} == {kind for _, kind in tally.windows}
