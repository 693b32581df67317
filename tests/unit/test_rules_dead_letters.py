"""The headers of a dead letter: the names that existing tools read, to the letter."""

from __future__ import annotations

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from app.errors import DecodeError
from app.events import TaskCreated
from app.rules.dead_letters import (
    INCOMPLETE_HEADER,
    MAX_EVENT_STACK_BYTES,
    MAX_MESSAGE_CHARS,
    MAX_STACK_TRACE_BYTES,
    Body,
    Origin,
    dead_letter_headers,
    event_stack_of,
    fitting,
    message_of,
)
from app.rules.fingerprint import fingerprint

ORIGIN = Origin("task-requests", 3, 42, 1_795_489_276_303)
EXPECTED = {
    "kafka_dlt-original-topic": b"task-requests",
    "kafka_dlt-original-partition": b"3",
    "kafka_dlt-original-offset": b"42",
    "kafka_dlt-original-timestamp": b"1795489276303",
    "kafka_dlt-exception-fqcn": b"app.errors.DecodeError",
    "kafka_dlt-exception-message": b"not an event",
    "retry_topic-attempts": b"2",
    "__streams.errors.topic": b"task-requests",
    "__streams.errors.partition": b"3",
    "__streams.errors.offset": b"42",
    "__streams.errors.exception": b"app.errors.DecodeError",
    "__streams.errors.message": b"not an event",
    "ebs-error-fingerprint": fingerprint("DecodeError", "not an event").encode(),
}
TASK = TaskCreated("c-a-1", "a", "a-1", 2, "mail", 1, 3, 5, 1_795_489_276_303, redrive=2)
STACK_TRACES = {"kafka_dlt-exception-stacktrace", "__streams.errors.stacktrace"}


def raised(error: Exception) -> Exception:
    """Return an error that has a stack trace."""
    try:
        raise error
    except type(error) as caught:
        return caught


def test_headers_have_the_names_of_spring_and_of_kafka_streams():
    """Each header once, all values as text."""
    headers = dead_letter_headers(ORIGIN, raised(DecodeError("not an event")), attempts=2)
    assert EXPECTED.keys() | STACK_TRACES == {name for name, _ in headers}
    assert len(EXPECTED) + 2 == len(headers)
    assert EXPECTED == {name: value for name, value in headers if name in EXPECTED}


def test_stack_trace_names_the_place_and_the_error():
    """Both families carry the same trace."""
    headers = dict(dead_letter_headers(ORIGIN, raised(ValueError("boom")), attempts=1))
    trace = headers["kafka_dlt-exception-stacktrace"]
    assert b"ValueError: boom" in trace
    assert b"in raised" in trace
    assert trace == headers["__streams.errors.stacktrace"]


def test_long_stack_trace_keeps_its_end():
    """The end says what happened; the beginning of a deep recursion may go."""
    headers = dict(dead_letter_headers(ORIGIN, raised(ValueError("x" * 50_000 + "end")), attempts=1))
    trace = headers["kafka_dlt-exception-stacktrace"]
    assert MAX_STACK_TRACE_BYTES == len(trace)
    assert trace.endswith(b"xend\n")


def test_own_headers_go_along_and_those_of_an_earlier_death_do_not():
    """A trace id survives; what an earlier death said is replaced, not repeated."""
    first = dead_letter_headers(ORIGIN, raised(ValueError("first")), attempts=1, headers=[("traceparent", b"00-1")])
    origin = ORIGIN._replace(offset=50)
    second = dead_letter_headers(origin, raised(ValueError("second")), attempts=4, headers=first)
    assert ("traceparent", b"00-1") == second[0]
    assert len(first) == len(second)
    told = dict(second)
    assert (b"50", b"second", b"4") == (
        told["kafka_dlt-original-offset"],
        told["kafka_dlt-exception-message"],
        told["retry_topic-attempts"],
    )


def test_error_text_that_is_no_unicode_is_escaped():
    """Half a character in a handler's message must not keep the record from its grave."""
    headers = dict(dead_letter_headers(ORIGIN, raised(ValueError("half \ud83d")), attempts=1))
    assert rb"half \ud83d" == headers["kafka_dlt-exception-message"]
    assert rb"half \ud83d" in headers["kafka_dlt-exception-stacktrace"]


def test_long_message_is_cut():
    """A handler that quotes its whole input must not make a record that the broker refuses."""
    headers = dict(dead_letter_headers(ORIGIN, raised(ValueError("x" * 5_000_000)), attempts=1))
    assert b"x" * MAX_MESSAGE_CHARS == headers["kafka_dlt-exception-message"] == headers["__streams.errors.message"]
    assert 50_000 > sum(len(value) for value in headers.values())


def test_error_that_cannot_say_what_it_is_still_has_headers():
    """An error class is anybody's code: one whose text raises is told by its type."""

    class MuteError(Exception):
        def __str__(self) -> str:
            raise KeyError("text")

    headers = dict(dead_letter_headers(ORIGIN, raised(MuteError()), attempts=1))
    assert headers["kafka_dlt-exception-fqcn"].endswith(b"MuteError")
    assert "(its text cannot be had: KeyError)" == message_of(MuteError())
    assert b"KeyError" in headers["kafka_dlt-exception-message"]


def test_task_is_named_where_it_is_known():
    """The API finds letters by kind, task and object, and counts redrives, without decoding each of them."""
    told = dict(dead_letter_headers(ORIGIN, raised(ValueError("boom")), attempts=5, task=TASK))
    expected = {"ebs-kind": b"mail", "ebs-task-id": b"a-1", "ebs-object-id": b"a", "ebs-redrive": b"2"}
    assert expected == {name: value for name, value in told.items() if name in expected}
    assert fingerprint("builtins.ValueError", "boom").encode() == told["ebs-error-fingerprint"]


def test_redrives_of_a_record_that_is_no_task_are_carried_on():
    """Bytes that nobody can decode count their redrives in a header: without it they would go round for ever."""
    headers = [("ebs-redrive", b"2"), ("ebs-kind", b"old"), ("ebs-error-fingerprint", b"old")]
    told = dead_letter_headers(ORIGIN, raised(ValueError("boom")), attempts=0, headers=headers)
    assert [b"2"] == [value for name, value in told if name == "ebs-redrive"]
    assert "ebs-kind" not in dict(told)
    assert 1 == [name for name, _ in told].count("ebs-error-fingerprint")
    of_a_task = dead_letter_headers(ORIGIN, raised(ValueError("boom")), attempts=0, headers=headers, task=TASK)
    assert 1 == [name for name, _ in of_a_task].count("ebs-redrive")


def test_record_cannot_pass_itself_off_as_an_act():
    """A header that marks acts is taken off: with it the letter would be hidden from the API."""
    told = dead_letter_headers(ORIGIN, raised(ValueError("boom")), attempts=0, headers=[("ebs-act", b"discarded")])
    assert "ebs-act" not in dict(told)


OURS = dead_letter_headers(ORIGIN, ValueError("boom"), attempts=1)


def test_letter_that_fits_is_left_alone():
    """To the byte, null parts too."""
    for body in (Body(b"k", b"v" * 90_000, [("own", b"1"), ("null", None), *OURS]), Body(None, None, OURS)):
        assert body == fitting(body, 200_000)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (Body(b"k", b"v" * 3_000_000, [("own", b"1"), *OURS]), "the first 65536 of 3000000 bytes of its value"),
        (Body(b"k" * 3_000_000, b"v", OURS), "the first 65536 of 3000000 bytes of its key"),
        (Body(b"k", b"v", [("own", b"1" * 3_000_000), *OURS]), "none of its 1 headers (3000113 bytes)"),
        (Body(b"k", None, [(f"own {n}", b"") for n in range(200_000)] + OURS), "none of its 200000 headers"),
        (
            Body(b"k" * 700_000, b"v" * 700_000, [("own", b"1" * 700_000), *OURS]),
            "the first 65536 of 700000 bytes of its key and the first 65536 of 700000 bytes of its value and none",
        ),
    ],
    ids=["value", "key", "header", "headers", "all"],
)
def test_letter_that_is_too_large_is_cut_and_says_so(body, said):
    """Whatever of it is large; what is not stays, and so does why it died."""
    cut = fitting(body, 1_048_588)
    headers = dict(cut.headers)
    assert said in headers[INCOMPLETE_HEADER].decode()
    assert size_of(cut) < 1_048_588
    assert dict(OURS).items() <= headers.items()
    assert (body.key or b"").startswith(cut.key or b"")
    assert (body.value or b"").startswith(cut.value or b"")
    assert ("own" in headers) == (said.startswith("the first") and "none" not in said and len(body.key or b"") == 1)


def test_letter_fits_a_topic_that_takes_little():
    """Then it goes without stack traces, before it does not go at all."""
    deep = [(name, b"x" * MAX_STACK_TRACE_BYTES if name in STACK_TRACES else text) for name, text in OURS]
    cut = fitting(Body(b"k" * 20_000, b"v" * 20_000, deep), 20_000)
    assert size_of(cut) < 20_000
    assert not STACK_TRACES & dict(cut.headers).keys()
    assert b"boom" == dict(cut.headers)["kafka_dlt-exception-message"]


def test_headers_of_another_producer_cannot_make_ours_large():
    """A kind, and a count of redrives, are what the record says."""
    task = TaskCreated("c-a-1", "a", "a-1", 2, "k" * 1_000_000, 1, 3, 5, 1)
    assert len(dict(dead_letter_headers(ORIGIN, ValueError(), attempts=1, task=task))["ebs-kind"]) < 1_000
    given = [("ebs-redrive", b"1" * 1_000_000), ("ebs-incomplete", b"x" * 1_000_000)]
    headers = dict(dead_letter_headers(ORIGIN, ValueError(), attempts=1, headers=given))
    assert len(headers["ebs-redrive"]) < 1_000
    assert INCOMPLETE_HEADER not in headers


def size_of(body: Body) -> int:
    """Return what a letter takes on its topic."""
    return DefaultRecordBatchBuilder.estimate_size_in_bytes(body.key, body.value, body.headers)


def test_stack_trace_of_an_event_is_bounded_and_has_the_end():
    """Also where its text is long and the cut goes through a character of several bytes."""
    stack = event_stack_of(ValueError("é" * 20_000 + "x"))
    assert MAX_EVENT_STACK_BYTES - 4 <= len(stack.encode()) <= MAX_EVENT_STACK_BYTES
    assert stack.endswith("éx\n")
    assert "ValueError: \\ud800\n" == event_stack_of(ValueError("\ud800"))
