"""Heartbeats: what a worker says of itself, and when it counts as gone."""

from __future__ import annotations

import json

import msgspec
import pytest

from app.rules.worker_heartbeats import (
    MAX_RUNNING_SHOWN,
    Heartbeat,
    RunningTask,
    WaitingCount,
    WorkerFigures,
    WorkerIdentity,
    decode_heartbeat,
    heartbeat_of,
    is_gone,
    waiting_of,
)

IDENTITY = WorkerIdentity("processing-1", "processing", "0.1.0", "host", 42, 1_000, "gpu")


def test_heartbeat_is_that_of_the_contract():
    """The names that other programs read on the topic."""
    running, waiting = [RunningTask("a-0", 900, 0.4, "half")], [WaitingCount("retry", 2, 1_700)]
    figures = WorkerFigures([1, 3], 2, 900, 1_500, draining=True, running=running, waiting=waiting, abandoned=1)
    assert {
        "worker": "processing-1",
        "role": "processing",
        "partitions": [1, 3],
        "in_flight": 2,
        "oldest_running_ms": 900,
        "last_progress_at_ms": 1_500,
        "version": "0.1.0",
        "host": "host",
        "pid": 42,
        "started_at_ms": 1_000,
        "at_ms": 2_000,
        "draining": True,
        "running": [{"task_id": "a-0", "for_ms": 900, "progress": 0.4, "message": "half"}],
        "waiting": [{"reason": "retry", "waiting_count": 2, "next_due_at_ms": 1_700}],
        "abandoned": 1,
        "standing_still": "",
        "refused": "",
        "queue": "gpu",
    } == json.loads(heartbeat_of(IDENTITY, figures, 2_000))


def test_heartbeat_stays_small():
    """Thousands of running tasks with pages of text: those that run longest are shown, with the start of it."""
    running = [RunningTask(f"a-{number}", number, None, "x" * 10_000) for number in range(2_000)]
    value = heartbeat_of(IDENTITY, WorkerFigures(in_flight=2_000, running=running), 1)
    heartbeat = decode_heartbeat(value)
    assert heartbeat is not None
    assert [1_999, 1_998] == [task.for_ms for task in heartbeat.running[:2]]
    assert (MAX_RUNNING_SHOWN, 2_000) == (len(heartbeat.running), heartbeat.in_flight)
    assert len(value) < 10_000


def test_odd_words_of_a_handler_do_not_stop_the_heart():
    """Half a character in a progress message is escaped: a heartbeat that failed would make its worker look gone."""
    heartbeat = decode_heartbeat(
        heartbeat_of(IDENTITY, WorkerFigures(running=[RunningTask("a", 1, 0.5, "x\ud83d")]), 1)
    )
    assert heartbeat is not None
    assert r"x\ud83d" == heartbeat.running[0].message


def test_what_a_newer_or_older_worker_says_is_understood():
    """Unknown fields are passed over, missing ones have defaults."""
    value = b'{"worker":"w","role":"new","at_ms":2,"started_at_ms":1,"mood":"fine"}'
    assert Heartbeat("w", "new", 2, 1) == decode_heartbeat(value)


@pytest.mark.parametrize("value", [b"", b"no json", b"\xff", b"{}", b'{"worker":"\xff"}', b'{"a":' + b"[" * 10_000])
def test_what_is_no_heartbeat_is_nobody(value):
    """Garbage on the topic is not an error."""
    assert decode_heartbeat(value) is None


def test_worker_is_gone_after_ten_seconds():
    """Exactly ten are still patience; a clock that is behind makes nobody gone."""
    assert [False, True, False] == [is_gone(0, now_ms) for now_ms in (10_000, 10_001, -5)]


def test_workers_of_two_roles_may_share_a_name():
    """EBS_WORKER_ID may be the same for all roles of a machine; each keeps a key of its own."""
    assert b"processing.gpu/processing-1" == IDENTITY.key()
    in_default = msgspec.structs.replace(IDENTITY, queue="default")
    assert b"processing/processing-1" == in_default.key()


def test_what_waits_at_all_workers_adds_up():
    """Each tier once, with what all of them hold, and the first of what is due."""
    told = [
        WaitingCount("retry", 2, 900),
        WaitingCount("delay", 1),
        WaitingCount("retry", 3, 700),
        WaitingCount("retry", 0),
    ]
    assert [WaitingCount("retry", 5, 700), WaitingCount("delay", 1)] == waiting_of(told)
