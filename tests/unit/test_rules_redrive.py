"""What a redrive writes for each kind of letter, when it is refused, and what the acts make of a letter."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plain_names import BARE

from app.events import (
    ObjectCreated,
    TaskCreated,
    TaskDead,
    TaskFinished,
    TasksCreated,
    TaskStarted,
    decode_task_event,
    decode_task_request,
    encode,
)
from app.rules.dead_letters import INCOMPLETE_HEADER, Origin, dead_letter_headers
from app.rules.ledger import apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.ledger_states import TaskState, state_of_task
from app.rules.letter_acts import (
    LetterAct,
    LetterId,
    LetterState,
    act_record,
    is_act,
    parse_letter_id,
    read_act,
    state_after,
)
from app.rules.outgoing import Outgoing
from app.rules.redrive import DeadLetterRecord, RedrivePlan, RedrivePolicy, Refusal
from app.rules.routing import Routes
from app.rules.tally import Tally

NOW_MS = 1_795_489_276_303
POLICY = RedrivePolicy(BARE, Routes(BARE, 4))
REQUEST = TaskCreated("c-a-1", "a", "a-1", 2, "mail", 1, 3, 5, NOW_MS - 9_000, "n", msgspec.Raw(b'"c"'))


def letter_of(
    value: bytes | None, *, topic: str = "task-requests", partition: int = 3, key=b"k", headers=()
) -> DeadLetterRecord:
    """Return the letter that an agent makes of a record of a topic."""
    origin = Origin(topic, partition, 7, NOW_MS - 10_000)
    return DeadLetterRecord(key, value, dead_letter_headers(origin, ValueError("boom"), attempts=5, headers=headers))


def task_letter(**changes) -> DeadLetterRecord:
    """Return the letter of a task."""
    topic = changes.pop("topic", "task-requests")
    partition = changes.pop("partition", 3)
    return letter_of(encode(msgspec.structs.replace(REQUEST, **changes)), topic=topic, partition=partition)


def planned(letter: DeadLetterRecord, **options) -> RedrivePlan:
    """Return the plan of a letter that can be redriven."""
    plan = POLICY.plan(letter, at_ms=NOW_MS, **options)
    assert isinstance(plan, RedrivePlan), plan
    return plan


def refused(letter: DeadLetterRecord, **options) -> Refusal:
    """Return why a letter cannot be redriven."""
    refusal = POLICY.plan(letter, at_ms=NOW_MS, **options)
    assert isinstance(refusal, Refusal), refusal
    return refusal


def test_task_becomes_a_new_first_attempt():
    """Request and fact are of the next generation, attempt 1, made now; what the retries knew of it is gone."""
    retried = {"due_at_ms": NOW_MS, "first_failed_at_ms": NOW_MS, "first_error": "E: x"}
    plan = planned(task_letter(**retried))
    fact = TasksCreated("c-a-1-r1", "a", 2, "mail", 1, 1, 3, NOW_MS, redrive=1)
    request = TaskCreated(
        "c-a-1-r1", "a", "a-1", 2, "mail", 1, 3, 1, NOW_MS, name="n", content=REQUEST.content, redrive=1
    )
    assert Outgoing("task-requests", 3, b"a-1", encode(request), []) == plan.request
    assert Outgoing("task-events", 2, b"a", encode(fact)) == plan.fact
    assert (1, "a-1", "a") == (plan.redrive, plan.task_id, plan.object_id)


def test_each_redrive_is_a_generation_of_its_own():
    """The ids are functions of task and generation: whoever redrives the same letter writes the same ones."""
    ids = [decode_task_request(planned(task_letter(redrive=done)).request.value).id for done in (0, 1, 2)]
    assert ["c-a-1-r1", "c-a-1-r2", "c-a-1-r3"] == ids
    again = POLICY.plan(task_letter(redrive=1), at_ms=NOW_MS + 5)
    assert isinstance(again, RedrivePlan)
    assert "c-a-1-r2" == decode_task_request(again.request.value).id


def test_third_redrive_is_the_last():
    """The limit ends loops; the reason names task and limit."""
    assert "task a-1 has been redriven 3 times, which is the limit" in refused(task_letter(redrive=3)).reason


@pytest.mark.parametrize(("partition", "expected"), [(0, 0), (3, 3), (4, 3), (999, 3)])
def test_request_goes_where_the_first_one_lay(partition, expected):
    """One worker owns both requests and can tell them apart; without that partition the distribution's rule holds."""
    assert expected == planned(task_letter(partition=partition)).request.partition


def test_letter_of_a_retry_tier_goes_back_to_the_requests():
    """A new first attempt does not wait in a tier; bytes that are no task do not either."""
    assert "task-requests" == planned(task_letter(topic="task-requests-retry-10s")).request.topic
    assert "task-requests" == planned(letter_of(b"{", topic="task-requests-retry-10s")).request.topic


def test_own_headers_of_a_task_go_along():
    """A trace goes on in the redriven task; what the death said does not."""
    letter = letter_of(encode(REQUEST), headers=[("traceparent", b"00-1")])
    assert [("traceparent", b"00-1")] == planned(letter).request.headers


def test_edited_task_keeps_what_was_not_edited():
    """Name, content and kind can be replaced one by one, in the request; the fact has the kind only."""
    plan = planned(task_letter(), payload=b'{"content":"better","kind":"sms"}')
    request, fact = decode_task_request(plan.request.value), decode_task_event(plan.fact.value)
    assert ("n", b'"better"', "sms") == (request.name, bytes(request.content), request.kind)
    assert "sms" == fact.kind


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sequence":1}',
        b'{"kind":"a b"}',
        b'{"kind":""}',
        b'{"name":null}',
        b'{"content":"\xff"}',
        b'{"content":1e999}',
        b'{"content":%b}' % (b"[" * 501 + b"]" * 501),
        b"[]",
        b"7",
        b"{",
    ],
)
def test_task_cannot_be_edited_otherwise(payload):
    """A field that is none of the three, or that nobody could read, is refused and not ignored."""
    assert refused(task_letter(), payload=payload).of_payload


IN_QUEUES = RedrivePolicy(BARE, Routes(BARE, 4, {"mail": "gpu", "ad": "default"}))


@pytest.mark.parametrize(
    ("topic", "payload", "goes_to"),
    [
        ("task-requests-gpu", None, "task-requests-gpu"),
        ("task-requests", None, "task-requests-gpu"),
        ("task-requests-old", None, "task-requests-gpu"),
        ("task-requests-gpu", b'{"kind": "ad"}', "task-requests"),
    ],
)
def test_task_goes_to_the_queue_of_its_kind(topic, payload, goes_to):
    """Wherever it died: the kind may have got another queue since, or another kind is put in its place."""
    plan = IN_QUEUES.plan(task_letter(topic=topic), at_ms=NOW_MS, payload=payload)
    assert isinstance(plan, RedrivePlan)
    assert (goes_to, 3) == (plan.request.topic, plan.request.partition)


@pytest.mark.parametrize(
    ("topic", "value", "goes_to"),
    [
        ("task-requests-gpu", b"{", "task-requests-gpu"),
        ("task-requests-old", b"{", "task-requests"),
        ("task-requests", encode(msgspec.structs.replace(REQUEST, object_partition=9)), "task-requests-gpu"),
    ],
)
def test_bytes_of_requests_go_where_somebody_reads_them(topic, value, goes_to):
    """Back to their topic, if a queue has it still; as the kind says, if they are of a task."""
    plan = IN_QUEUES.plan(letter_of(value, topic=topic, partition=3), at_ms=NOW_MS)
    assert isinstance(plan, RedrivePlan)
    assert goes_to == plan.request.topic


def test_bytes_go_back_as_they_were():
    """What no agent could decode returns to its topic and partition, key and bytes untouched, with a count."""
    letter = letter_of(b"\xff{", topic="objects", partition=1, key=None, headers=[("traceparent", b"00-1")])
    plan = planned(letter)
    expected = Outgoing("objects", 1, None, b"\xff{", [("traceparent", b"00-1"), ("ebs-redrive", b"1")])
    assert RedrivePlan(expected, None, 1) == plan


def test_bytes_that_die_again_and_again_reach_the_limit():
    """The header that a redrive writes comes back with the next death, until it is enough."""
    headers: list[tuple[str, bytes]] = []
    for redrive in (1, 2, 3):
        plan = planned(letter_of(b"{", topic="objects", headers=headers))
        assert redrive == plan.redrive
        headers = list(plan.request.headers)
    assert "3 times, which is the limit" in refused(letter_of(b"{", topic="objects", headers=headers)).reason


@pytest.mark.parametrize("count", [b"", b"-1", b"x", b"\xff", b"9" * 40, "²".encode()])
def test_count_that_makes_no_sense_counts_as_none(count):
    """An outside producer may write any header."""
    assert 1 == planned(letter_of(b"{", topic="objects", headers=[("ebs-redrive", count)])).redrive


def test_edited_object_replaces_all_of_it_and_its_key():
    """The edited JSON is written as it is, under the id that it names."""
    payload = b'{"type":"OBJECT_CREATED","object_id":"b","name":"n","content":"c","at_ms":1,"more":2}'
    plan = planned(letter_of(b"{", topic="objects"), payload=payload)
    assert (b"b", payload) == (plan.request.key, plan.request.value)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        ("objects", b'{"name":"n"}'),
        ("objects", b"{"),
        ("task-requests", b'{"type":"OBJECT_CREATED","object_id":"b","name":"n","content":"c","at_ms":1}'),
        ("task-requests", encode(msgspec.structs.replace(REQUEST, object_partition=4))),
        ("task-events", encode(REQUEST)),
    ],
)
def test_edit_that_would_die_again_is_refused(topic, payload):
    """An edited record is checked as its agent will check it; events are no matter of editing."""
    assert refused(letter_of(b"{", topic=topic), payload=payload).of_payload


def test_edited_request_that_was_none_goes_to_the_requests():
    """A request that nobody could decode is replaced as a whole."""
    plan = planned(letter_of(b"{"), payload=encode(REQUEST))
    assert ("task-requests", b"a-1", encode(REQUEST)) == (plan.request.topic, plan.request.key, plan.request.value)


def test_empty_value_needs_a_payload():
    """A tombstone is no record of any topic of ours: to send it again would only bury it again."""
    assert "send an edited payload" in refused(letter_of(None, topic="objects")).reason


@pytest.mark.parametrize("topic", ["control", "ebs-statistics-ledger-changelog", "elsewhere", "task-requests2"])
def test_letter_of_another_topic_is_refused(topic):
    """A header must not make the API write to any topic of the cluster."""
    assert f"it came from '{topic}'" in refused(letter_of(encode(REQUEST), topic=topic)).reason


def test_letter_that_is_not_its_record_as_it_was_needs_a_payload():
    """What was cut off, or lay below the records, cannot go back; the whole record from elsewhere can."""
    headers = [*letter_of(b'{"type"', topic="objects").headers, (INCOMPLETE_HEADER, b"the first 7 of 900 bytes")]
    letter = DeadLetterRecord(b"k", b'{"type"', headers)
    reason = refused(letter).reason
    assert "the first 7 of 900 bytes" in reason
    assert "objects-3@7" in reason
    payload = encode(ObjectCreated(object_id="mended", name="n", content="c", at_ms=NOW_MS))
    request = planned(letter, payload=payload).request
    assert (b"mended", payload) == (request.key, request.value)
    assert INCOMPLETE_HEADER not in dict(request.headers)


def test_letter_without_headers_is_refused():
    """A record that somebody else put onto the topic says neither why nor whence."""
    assert "without saying from where" in refused(DeadLetterRecord(None, b"{}", ())).reason


def test_task_of_a_partition_that_is_none_is_bytes():
    """Its fact could not be written: it goes back as it was, for an agent that may have more partitions now."""
    letter = task_letter(object_partition=4)
    plan = planned(letter)
    assert (None, letter.value) == (plan.fact, plan.request.value)
    assert "EBS_PARTITIONS" in refused(task_letter(object_partition=4, partition=4)).reason


def test_ledger_goes_from_dead_to_finished():
    """The fact makes a dead task wait again, whatever order the events come in, and it is still one task."""
    fact = decode_task_event(planned(task_letter()).fact.value)
    common = ("a", "a-1", 2, "mail", 1, 3)
    old = [
        TasksCreated("c", "a", 2, "mail", 1, 1, 3, NOW_MS - 90),
        TaskStarted("s", *common, 1, NOW_MS - 80, "w", 1),
        TaskDead("d", *common, 1, NOW_MS - 70, "w", 1, 1, "E: x"),
    ]
    new = [
        fact,
        TaskStarted("s-r1", *common, 1, NOW_MS + 10, "w", 1, redrive=1),
        TaskFinished("f-r1", *common, 1, NOW_MS + 20, "w", 1, 1, redrive=1),
    ]
    row, seen, tally = ObjectRow(), [], Tally()
    for event in old + new:
        apply_task_event(row, event, tally)
        seen.append(state_of_task(row.tasks[1]))
    assert [TaskState.DEAD, TaskState.QUEUED, TaskState.IN_PROGRESS, TaskState.FINISHED] == seen[2:]
    for order in itertools.permutations(old + new):
        tally, other = Tally(), ObjectRow()
        for event in (*order, *order):
            apply_task_event(other, event, tally)
        assert TaskState.FINISHED is state_of_task(other.tasks[1])
        assert 1 == sum(counts.tasks_created for counts in tally.windows.values())
        assert 0 == sum(counts.dead_now for counts in tally.windows.values())


def test_act_is_written_into_its_letters_partition_and_read_back():
    """Key and header say what it is, and every process reads the same of it."""
    act = LetterAct(NOW_MS, "127.0.0.1", "not needed", 0, "a1")
    record = act_record("dead-letters", LetterId(3, 17), LetterState.DISCARDED, act)
    assert ("dead-letters", 3, b"3-17", [("ebs-act", b"discarded")]) == (
        record.topic,
        record.partition,
        record.key,
        record.headers,
    )
    assert b'{"at_ms":1795489276303,"by":"127.0.0.1","reason":"not needed","redrive":0,"id":"a1"}' == record.value
    assert is_act(dict(record.headers))
    assert (LetterId(3, 17), LetterState.DISCARDED, act) == read_act(record.key, record.value, dict(record.headers))


@pytest.mark.parametrize(
    ("key", "value", "act"),
    [
        (None, b'{"at_ms":1}', b"redriven"),
        (b"3", b'{"at_ms":1}', b"redriven"),
        (b"3-17", b'{"at_ms":1}', b"dead"),
        (b"3-17", b'{"at_ms":1}', b"praised"),
        (b"3-17", b"{}", b"redriven"),
        (b"3-17", b'{"at_ms":1,"redrive":99999999999999999999}', b"redriven"),
        (b"3-17", None, b"redriven"),
        (b"\xff", b'{"at_ms":1}', b"redriven"),
    ],
)
def test_act_that_says_nothing_is_passed_over(key, value, act):
    """Anybody can write to a topic; a record that only looks like an act changes nothing."""
    assert read_act(key, value, {"ebs-act": act}) is None


def test_letter_that_carries_the_header_of_an_act_is_a_letter():
    """A record that says where it died must never be hidden."""
    assert not is_act({"ebs-act": b"discarded", "kafka_dlt-original-topic": b"objects"})


def test_redriven_outranks_discarded_in_any_order():
    """Two processes may act at once: what was redriven runs, so it is never shown as thrown away."""
    done = [LetterState.DISCARDED, LetterState.REDRIVEN, LetterState.DISCARDED]
    for order in itertools.permutations(done):
        state = LetterState.DEAD
        for one in order:
            state = state_after(state, one)
        assert LetterState.REDRIVEN is state


@given(st.integers(0, 999), st.integers(0, 10**17))
def test_letter_id_is_read_back(partition, offset):
    """An id is the text that it was written as."""
    assert LetterId(partition, offset) == parse_letter_id(str(LetterId(partition, offset)))


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1-1", "01-1", "1-01", "1-1 ", "1-1\n", "a-b", "1-1\u0661", "1-" + "9" * 30]
)
def test_other_text_is_no_letter_id(text):
    """Each letter has one id only, and no id overflows anything."""
    assert parse_letter_id(text) is None
