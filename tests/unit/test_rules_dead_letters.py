"""The headers of a dead letter: the names that existing tools read, to the letter."""

from __future__ import annotations

from app.errors import DecodeError
from app.events import TaskCreated
from app.rules.dead_letters import (
    MAX_MESSAGE_CHARS,
    MAX_STACK_TRACE_BYTES,
    Origin,
    dead_letter_headers,
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
    """The desk finds letters by kind, task and object, and counts redrives, without decoding each of them."""
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
    """A header that marks acts is taken off: with it the letter would be hidden from the desk."""
    told = dead_letter_headers(ORIGIN, raised(ValueError("boom")), attempts=0, headers=[("ebs-act", b"discarded")])
    assert "ebs-act" not in dict(told)
