"""Steps: everything of one commits together, nothing of it before, and what is in doubt ends the process."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import InvalidTimestampError
from aiokafka.structs import OffsetAndMetadata
from fake_steps import FakeStore
from fakes import GROUP, FakeStream, FakeWorker, ProcessEnded, Sent, settle, until

from app.errors import RecordTooLarge, StepFailed
from app.kafka.fencing import Membership
from app.streaming.application import EXIT_STEP_FAILED, exit_code_of
from app.streaming.offset_notes import NOT_KEPT, NOTE, NOTE_KEY, NOTED, OffsetNote, decode_notes
from app.streaming.step import FULL_BATCHES, Step
from app.streaming.topic_limits import MAX_BATCH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.streaming.batching import RecordBatch

IN = TopicPartition("in", 0)
BEGAN_MS = 1_800_000_000_000


@pytest.fixture
async def worker():
    """Return a worker that owns partition 0 of `in` from offset 0 on, with a table `counts`."""
    worker = FakeWorker("in")
    await worker.start()
    worker.ownership.give(0, stores={"counts": FakeStore()})
    return worker


def step_over(worker: FakeWorker, *batches) -> Step:
    """Return a step that has gathered batches."""
    return Step(worker.transactions, batches)


async def run(step: Step, body: Callable[[Step], None] = lambda _step: None) -> None:
    """Run a step from its beginning to its end."""
    async with step:
        body(step)


async def run_all(worker: FakeWorker, stream: FakeStream, body: Callable[[Step], None]) -> None:
    """Run steps over a stream until it ends, as an agent does."""
    async for step in worker.transactions.steps(stream):
        await run(step, body)


def send_and_put(step: Step) -> None:
    """Send a record and change a row."""
    step.send("out", 0, b"key", b"value")
    step.rows("counts", 0).put(b"row", b"1")


async def test_step_commits_outputs_rows_and_offsets_together(worker):
    """After the block: records, changelog and offsets are committed in one transaction."""
    async with step_over(worker, worker.batch(0, [b"1", b"2"])) as step:
        assert [b"1", b"2"] == [one.value for batch in step.batches for one in batch.records]
        step.send("out", 3, b"key", b"value", [("header", b"text")])
        step.rows("counts", 0).put(b"row", b"2")
    assert [
        Sent("out", 3, b"key", b"value", [("header", b"text")]),
        Sent(f"{GROUP}-counts-changelog", 0, b"row", b"2", []),
    ] == worker.producer.records
    assert {IN: OffsetAndMetadata(2, "")} == worker.producer.offsets
    assert ["start", "begin", "send", "send", "offsets", "commit"] == worker.producer.calls
    assert 1 == worker.transactions.committed_count


async def test_rows_and_offsets_are_visible_after_the_commit_only(worker):
    """While the commit is under way, stores and offsets are as before: a store is never ahead of its changelog."""
    partition = worker.ownership.partitions[0]
    worker.producer.gate.clear()
    running = asyncio.create_task(run(step_over(worker, worker.batch(0, [b"1"])), send_and_put))
    await until(lambda: "commit" in worker.producer.calls)
    assert ({}, 0) == (partition.stores["counts"].rows, partition.next_offsets["in"])
    worker.producer.gate.set()
    await running
    assert ({b"row": b"1"}, 1) == (partition.stores["counts"].rows, partition.next_offsets["in"])


async def test_step_of_its_own_commits_the_offsets_that_its_body_names(worker):
    """A body that keeps its own books says offset and metadata."""
    async with worker.transactions.step() as step:
        step.commit_offset("in", 0, 7, "books")
    partition = worker.ownership.partitions[0]
    assert {IN: OffsetAndMetadata(7, "books")} == worker.producer.offsets
    assert (7, "books") == (partition.next_offsets["in"], partition.metadata["in"])


async def test_step_that_reads_nothing_commits_an_offset_again(worker):
    """So Kafka says whether the partition is still this worker's; the table keeps the offset, too."""
    worker.ownership.notes_table, worker.ownership.topic_ids = "counts", {"in": "id"}
    await run(step_over(worker, worker.batch(0, [b"1", b"2"])))
    async with worker.transactions.step() as step:
        send_and_put(step)
        step.repeat_offset("in", 0)
        step.repeat_offset("in", 0)
    assert {IN: OffsetAndMetadata(2, "")} == worker.producer.offsets
    assert "value" == worker.producer.sent_to("out")[-1].value.decode()
    assert OffsetNote("id", 2, "cluster") == worker.ownership.partitions[0].offset_notes["in"]


async def test_offset_that_is_repeated_first_is_known_to_the_table(worker):
    """A topic that was recreated, whose records are still to come: its offset is not lost if Kafka forgets it."""
    worker.ownership.notes_table, worker.ownership.topic_ids = "counts", {"in": "id"}
    async with worker.transactions.step() as step:
        step.repeat_offset("in", 0)
    assert OffsetNote("id", 0, "cluster") == worker.ownership.partitions[0].offset_notes["in"]


async def test_step_keeps_its_offsets_in_a_table_too(worker):
    """With the offset of what it read, beside its rows; markers that it passes alone are worth no row."""
    worker.ownership.notes_table, worker.ownership.topic_ids = "counts", {"in": "id"}
    await run(step_over(worker, worker.batch(0, [b"1", b"2"])))
    changelog = f"{GROUP}-counts-changelog"
    (row,) = worker.producer.sent_to(changelog)
    places = {"in": OffsetNote("id", 2, "cluster"), changelog: NOTED}
    assert (NOTE_KEY, places) == (row.key, decode_notes(row.value))
    assert places == worker.ownership.partitions[0].offset_notes
    assert {} == worker.ownership.partitions[0].stores["counts"].rows
    await run(step_over(worker, worker.batch(0, [], start=2, end=4)))
    assert 1 == len(worker.producer.sent_to(changelog))


async def test_first_step_leaves_a_note_in_each_changelog(worker):
    """So that an empty table can be told from one that has lost its rows; once, also if it has no rows to write."""
    worker.ownership.notes_table, worker.ownership.topic_ids = "counts", {"in": "id"}
    partition = worker.ownership.partitions[0]
    partition.stores["more"] = FakeStore()
    for start in (0, 2):
        await run(step_over(worker, worker.batch(0, [b"1", b"2"], start=start)))
    assert [(NOTE_KEY, NOTE)] == [one[2:4] for one in worker.producer.sent_to(f"{GROUP}-more-changelog")]
    assert {"in", f"{GROUP}-counts-changelog", f"{GROUP}-more-changelog"} == partition.offset_notes.keys()
    assert {} == partition.stores["more"].rows


async def test_leader_epochs_of_what_was_taken_go_with_the_offsets(worker):
    """The highest so far; a batch of a format without epochs changes nothing."""
    assert worker.producer.leader_epochs is worker.ownership.leader_epochs
    for start, epoch in ((0, 4), (1, 6), (2, -1)):
        await run(step_over(worker, worker.batch(0, [b"1"], start=start)._replace(leader_epoch=epoch)))
    assert {IN: 6} == worker.producer.leader_epochs


async def test_first_step_keeps_its_offsets_also_if_it_passes_markers_only(worker):
    """It is as good as the offset that it commits: offsets that vanish then must not be refused."""
    worker.ownership.notes_table, worker.ownership.topic_ids = "counts", {"in": "id"}
    await run(step_over(worker, worker.batch(0, [], end=2)))
    (row,) = worker.producer.sent_to(f"{GROUP}-counts-changelog")
    assert OffsetNote("id", 2, "cluster") == decode_notes(row.value)["in"]


async def test_step_of_its_own_only_notes_that_a_topic_is_worked(worker):
    """Once, and again when the topic was recreated: what it finished in between only its metadata tells."""
    worker.ownership.notes_table, worker.ownership.topic_ids = "counts", {"in": "id"}
    for offset in (5, 6):
        async with worker.transactions.step() as step:
            step.commit_offset("in", 0, offset, "books")
    (row,) = worker.producer.sent_to(f"{GROUP}-counts-changelog")
    assert OffsetNote("id", NOT_KEPT, "cluster") == decode_notes(row.value)["in"]


async def test_step_that_sends_without_offsets_ends_the_process(worker):
    """Without offsets the group's coordinator is not asked, and a worker left behind could write."""
    with pytest.raises(ProcessEnded):
        await run(worker.transactions.step(), lambda step: step.send("out", 0, b"key", b"value"))
    assert isinstance(worker.fatal.errors[0], StepFailed)
    assert "must commit offsets" in str(worker.fatal.errors[0])
    assert "commit" not in worker.producer.calls


async def test_step_that_changes_rows_without_offsets_ends_the_process(worker):
    """A row is an output too."""
    with pytest.raises(ProcessEnded):
        await run(worker.transactions.step(), lambda step: step.rows("counts", 0).put(b"row", b"1"))
    assert {} == worker.ownership.partitions[0].stores["counts"].rows


async def test_error_in_the_body_ends_the_process_and_commits_nothing(worker):
    """Whatever it is: the body's error is what the process ends with."""
    error = ValueError("a bug")

    def fail(step: Step) -> None:
        send_and_put(step)
        raise error

    with pytest.raises(ProcessEnded):
        await run(step_over(worker, worker.batch(0, [b"1"])), fail)
    assert [error] == worker.fatal.errors
    assert ["start", "begin"] == worker.producer.calls
    assert {} == worker.ownership.partitions[0].stores["counts"].rows


@pytest.mark.parametrize("call", ["begin", "send", "offsets", "commit"])
async def test_any_failure_of_the_producer_ends_the_process(worker, call):
    """A transaction that is in doubt is never repeated here, and its rows are not written."""
    error = OSError("the broker is away")
    worker.producer.failures[call] = error
    with pytest.raises(ProcessEnded):
        await run(step_over(worker, worker.batch(0, [b"1"])), send_and_put)
    assert [error] == worker.fatal.errors
    assert ({}, 0) == (
        worker.ownership.partitions[0].stores["counts"].rows,
        worker.ownership.partitions[0].next_offsets["in"],
    )


async def test_refused_timestamps_name_the_clock(worker):
    """The broker's own words are a name and a number."""
    worker.producer.failures["send"] = InvalidTimestampError()
    with pytest.raises(ProcessEnded):
        await run(step_over(worker, worker.batch(0, [b"1"])), send_and_put)
    (error,) = worker.fatal.errors
    assert (EXIT_STEP_FAILED, "Set its clock (NTP)") == (exit_code_of(error), str(error)[-19:])


async def test_step_cancelled_in_its_commit_ends_the_process(worker):
    """A cancelled commit is as much in doubt as a failed one."""
    worker.producer.gate.clear()
    running = asyncio.create_task(run(step_over(worker, worker.batch(0, [b"1"]))))
    await until(lambda: "commit" in worker.producer.calls)
    running.cancel()
    with pytest.raises(ProcessEnded):
        await running
    assert [asyncio.CancelledError] == [type(error) for error in worker.fatal.errors]


async def test_step_cancelled_before_it_began_leaves_no_trace(worker):
    """A worker that stops cancels a step that waits for its turn; nothing is in doubt."""
    await worker.transactions.suspend()
    running = asyncio.create_task(run(step_over(worker, worker.batch(0, [b"1"]))))
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ([], ["start"]) == (worker.fatal.errors, worker.producer.calls)


async def test_what_was_worked_already_is_cut_off(worker):
    """A rebalance delivers whole batches again: only what is at or above the committed offset is worked."""
    worker.ownership.partitions[0].next_offsets["in"] = 2
    async with step_over(worker, worker.batch(0, [b"0", b"1", b"2", b"3"])) as step:
        assert [2, 3] == [one.offset for batch in step.batches for one in batch.records]
    assert {IN: OffsetAndMetadata(4, "")} == worker.producer.offsets


async def test_what_was_gathered_twice_is_worked_once(worker):
    """Within one step too."""
    async with step_over(worker, worker.batch(0, [b"0", b"1"]), worker.batch(0, [b"0", b"1", b"2"])) as step:
        assert [0, 1, 2] == [one.offset for batch in step.batches for one in batch.records]


async def test_batch_that_is_wholly_worked_is_dropped(worker):
    """It commits nothing backwards."""
    worker.ownership.partitions[0].next_offsets["in"] = 5
    async with step_over(worker, worker.batch(0, [b"0", b"1"])) as step:
        assert [] == step.batches
    assert {} == worker.producer.offsets


async def test_markers_are_passed_without_records(worker):
    """A stretch without records still advances the offset, or the lag would never end."""
    async with step_over(worker, worker.batch(0, [], start=0, end=3)) as step:
        assert [] == step.batches
    assert {IN: OffsetAndMetadata(3, "")} == worker.producer.offsets


async def test_batch_of_another_assignment_is_dropped(worker):
    """Fetched before a rebalance: fetching began anew at the committed offset since."""
    old = worker.batch(0, [b"0"])
    worker.ownership.assignment = object()
    async with step_over(worker, old) as step:
        assert [] == step.batches
    assert {} == worker.producer.offsets


@pytest.mark.parametrize("active", [True, False])
async def test_batch_of_a_partition_that_is_not_owned_is_dropped(worker, active):
    """Nor is one worked that is still being restored."""
    batches = [worker.batch(1, [b"0"])]
    if not active:
        worker.ownership.give(1).active = False
    async with step_over(worker, *batches) as step:
        assert [] == step.batches
        assert step.partition(1) is None
        assert worker.ownership.partitions[0] is step.partition(0)
    assert {} == worker.producer.offsets


async def test_hole_ends_the_process(worker):
    """Records that are missing are told with their offsets; nothing is committed past them."""
    with pytest.raises(ProcessEnded):
        await run(step_over(worker, worker.batch(0, [b"5"], start=5)), send_and_put)
    (error,) = worker.fatal.errors
    assert isinstance(error, StepFailed)
    assert "records 0 to 4 of in-0 are missing" in str(error)
    assert ["start", "begin"] == worker.producer.calls


async def test_suspend_waits_for_the_current_step(worker):
    """A rebalance goes on only when the step is committed."""
    worker.producer.gate.clear()
    running = asyncio.create_task(run(step_over(worker, worker.batch(0, [b"1"]))))
    await until(lambda: "commit" in worker.producer.calls)
    suspending = asyncio.create_task(worker.transactions.suspend())
    await settle()
    assert not suspending.done()
    assert ["suspend"] == worker.ownership.calls
    worker.producer.gate.set()
    await suspending
    assert running.done()


async def test_no_step_begins_between_suspend_and_resume(worker):
    """What waits goes on under the new assignment, and is judged by it."""
    old = worker.batch(0, [b"old"])
    await worker.transactions.suspend()
    await worker.transactions.suspend()
    seen: list[RecordBatch] = []
    running = asyncio.create_task(run(step_over(worker, old), lambda step: seen.extend(step.batches)))
    await settle()
    assert ["start"] == worker.producer.calls
    worker.transactions.resume([0], Membership(2, "member"), object())
    await running
    assert ([], ["start", "begin", "commit"]) == (seen, worker.producer.calls)
    assert ["suspend", "claim [0]"] == worker.ownership.calls


async def test_stop_lets_the_step_in_hand_finish_and_none_begin(worker):
    """A rebalance that ends while the worker stops must not let a step begin."""
    await worker.transactions.stop()
    worker.transactions.resume([0], Membership(2, "member"), object())
    assert ["start", "stop"] == worker.producer.calls
    assert ["suspend", "stop"] == worker.ownership.calls
    waiting = asyncio.create_task(worker.transactions.begin())
    await settle()
    assert not waiting.done()
    waiting.cancel()


async def test_step_gathers_everything_that_waits(worker):
    """While one step commits the next one gathers: batches grow with load."""
    stream = FakeStream()
    stream.put(worker.batch(0, [b"0"]))
    sizes: list[list[int]] = []
    worker.producer.gate.clear()
    running = asyncio.create_task(
        run_all(worker, stream, lambda step: sizes.append([len(batch.records) for batch in step.batches]))
    )
    await until(lambda: "commit" in worker.producer.calls)
    stream.put(worker.batch(0, [b"1", b"2"], start=1), worker.batch(0, [b"3"], start=3))
    await until(lambda: stream.waiting_count == 0)
    worker.producer.gate.set()
    await worker.producer.commits_reach(2)
    stream.close()
    await running
    assert [[1], [2, 1]] == sizes


async def test_full_step_leaves_records_to_the_next_ones(worker):
    """A few records may have many outputs, which must leave within a transaction's timeout; each is worked once."""
    stream, seen = FakeStream(), []
    worker.ownership.give(1)
    # Of partition 0 two batches: of the first a part is left, of the second all.
    stream.put(worker.batch(0, [b"0", b"1", b"2"]), worker.batch(0, [b"3", b"4"], start=3))
    stream.put(worker.batch(1, [b"0", b"1"]))
    stream.close()

    def body(step: Step) -> None:
        seen.append([])
        for batch in step.batches:
            for one in batch.records:
                if step.is_full:
                    step.leave(batch, one.offset)
                    break
                seen[-1].append((batch.partition, one.value))
                for _ in range(FULL_BATCHES // 2 + 1):
                    step.send("out", 0, b"key", b"x" * MAX_BATCH_BYTES)

    await run_all(worker, stream, body)
    assert [(0, b"%d" % number) for number in range(5)] == [one for step in seen for one in step if one[0] == 0]
    assert [(1, b"0"), (1, b"1")] == [one for step in seen for one in step if one[0] == 1]
    assert 2 == max(map(len, seen))
    assert [5, 2] == [worker.ownership.partitions[number].next_offsets["in"] for number in (0, 1)]


async def test_gathering_stops_at_its_limit(worker):
    """So the memory of a step is bounded: what is over waits in the stream."""
    stream = FakeStream()
    stream.put(*(worker.batch(0, [b"a", b"b"], start=2 * number) for number in range(6)))
    stream.close()
    sizes = []
    async for step in worker.transactions.steps(stream, max_records=4):
        async with step:
            sizes.append(sum(len(batch.records) for batch in step.batches))
            await settle()
    assert [4, 4, 4] == sizes


async def test_stream_that_fails_fails_its_steps(worker):
    """An error of the stream reaches the agent, after what was delivered before it."""

    class BrokenStream(FakeStream):
        async def events(self):
            async for event in super().events():
                yield event
            raise OSError("broken")

    stream = BrokenStream()
    stream.put(worker.batch(0, [b"1"]))
    stream.close()
    seen: list[RecordBatch] = []
    with pytest.raises(OSError, match="broken"):
        await run_all(worker, stream, lambda step: seen.extend(step.batches))
    assert 1 == len(seen)


async def test_outputs_are_split_into_batches_below_the_brokers_limit(worker):
    """Many records go in several batches, in order."""
    async with step_over(worker, worker.batch(0, [b"1"])) as step:
        for number in range(50):
            step.send("out", 0, b"%d" % number, b"x" * 50_000)
    assert [b"%d" % number for number in range(50)] == [one.key for one in worker.producer.sent_to("out")]
    assert 2 < len(worker.producer.batch_sizes)
    assert max(worker.producer.batch_sizes) <= MAX_BATCH_BYTES


async def test_oversize_record_gets_a_batch_of_its_own(worker):
    """It is as large as it is; the records around it stay in batches of ordinary size."""
    sizes = [100, 1_500_000, 100, 1_500_000, 100]
    headers: Any = [("header", b"text"), ("null", None)]
    worker.transactions.topic_limits.record_bytes["out"] = 1 << 21
    async with step_over(worker, worker.batch(0, [b"1"])) as step:
        for size in sizes:
            step.send("out", 0, b"key", b"x" * size, headers)
    assert sizes == [len(one.value or b"") for one in worker.producer.sent_to("out")]
    assert 2 == sum(1 for size in worker.producer.batch_sizes if size > MAX_BATCH_BYTES)


async def test_record_that_its_topic_does_not_take_is_refused_and_the_step_continues(worker):
    """Nothing of it is sent; what fits is, before and after, also where nothing was sent to that topic before."""
    worker.transactions.topic_limits.record_bytes["narrow"] = 10_000
    async with step_over(worker, worker.batch(0, [b"1"])) as step:
        for topic, size in (("out", 1_100_000), ("narrow", 10_000)):
            with pytest.raises(
                RecordTooLarge, match=rf"{topic} takes at most \d+ bytes a record \(max.message.bytes\)"
            ):
                step.send(topic, 0, b"large", b"x" * size)
            for key in (b"before", b"after"):
                step.send(topic, 0, key, b"small")
                with pytest.raises(RecordTooLarge):
                    step.send(topic, 0, b"large", b"", [("large", b"x" * size)])
    assert [b"before", b"after"] == [one.key for one in worker.producer.sent_to("out")]
    assert [b"before", b"after"] == [one.key for one in worker.producer.sent_to("narrow")]


async def test_batches_stay_below_the_limit_of_a_topic_that_takes_less_than_usual(worker):
    """max.message.bytes is of a batch, whatever it is."""
    worker.transactions.topic_limits.record_bytes["narrow"] = 10_000
    async with step_over(worker, worker.batch(0, [b"1"])) as step:
        for _ in range(10):
            step.send("narrow", 0, b"key", b"x" * 4_000)
    assert 10 == len(worker.producer.sent_to("narrow"))
    assert max(worker.producer.batch_sizes) <= 10_000


async def test_record_without_key_and_value_can_be_sent(worker):
    """A tombstone without a key is rubbish, but it must find its way to the dead letters."""
    async with step_over(worker, worker.batch(0, [b"1"])) as step:
        step.send("out", 0, None, None, [("why", b"empty")])
    assert [Sent("out", 0, None, None, [("why", b"empty")])] == worker.producer.sent_to("out")


async def test_all_that_a_step_sends_is_stamped_with_the_instant_of_its_beginning(worker, monkeypatch):
    """Its body counts by the same instant: the recount compares times in rows with the stamps of the rows."""
    ticks_ns = itertools.count(BEGAN_MS * 1_000_000, 1_000_000)
    monkeypatch.setattr(time, "time_ns", lambda: next(ticks_ns))
    async with step_over(worker, worker.batch(0, [b"1"])) as step:
        for _ in range(3):
            step.send("out", 0, b"key", b"value")
    assert {BEGAN_MS} == {step.began_at_ms} == worker.producer.stamps_ms
