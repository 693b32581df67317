"""What a broker cannot read of its log: noted, told in words, and forgotten when it is over."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from app.kafka import refusals as module
from app.kafka.refusals import Refusals, lasting_refusals

A, B = TopicPartition("in", 0), TopicPartition("in", 1)
CORRUPT_MESSAGE, STORAGE_ERROR, NOT_LEADER = 2, 56, 6
FETCH, METADATA = 1, 3


class Client:
    """A broker that answers each Fetch for partitions 0 and 1 with these codes."""

    def __init__(self) -> None:
        self.codes = {A: 0, B: 0}
        self.offsets = {A: 7, B: 9}
        self.now_s = 0.0
        self.api_key = FETCH
        self.refusals = Refusals(clock=lambda: self.now_s)
        self.refusals.watch(self)

    async def send(self, _node_id: int, _request: Any) -> Any:
        """Answer."""
        return SimpleNamespace(API_KEY=self.api_key, topics=[("in", [(n, self.codes["in", n], 50) for n in (0, 1)])])

    async def fetch_for(self, seconds: int) -> dict[TopicPartition, str]:
        """Ask twice a second; returns what is refused then."""
        request = SimpleNamespace(topics=[("in", [(tp.partition, offset, 99) for tp, offset in self.offsets.items()])])
        for _ in range(2 * seconds):
            self.now_s += 0.5
            await self.send(1, request)
        return self.refusals.lasting()


@pytest.fixture
def client(monkeypatch) -> Client:
    """Return a broker; nothing waits."""
    monkeypatch.setattr(module, "_PAUSE_S", 0)
    return Client()


async def test_refusal_that_lasts_names_partition_offset_and_error(client, caplog):
    """In the log once a minute; the other partitions are none of its business."""
    assert {} == await client.fetch_for(2)
    client.codes[B] = CORRUPT_MESSAGE
    assert {} == await client.fetch_for(1)
    words = "the broker cannot read in-1 from offset 9 on (CORRUPT_MESSAGE: see its log)"
    assert {B: words} == await client.fetch_for(30)
    assert words == lasting_refusals()[B]
    assert [(logging.ERROR, words)] == [(one.levelno, one.getMessage()) for one in caplog.records]


async def test_refusal_is_over_with_the_first_answer(client):
    """Another offset is another refusal, and one of a new leader no refusal at all."""
    client.codes[A] = STORAGE_ERROR
    assert "KAFKA_STORAGE_ERROR" in (await client.fetch_for(5))[A]
    client.offsets[A] = 8
    assert {} == await client.fetch_for(1)
    assert "offset 8 on" in (await client.fetch_for(5))[A]
    for code in (0, NOT_LEADER):
        client.codes[A] = STORAGE_ERROR
        assert {A} == (await client.fetch_for(5)).keys()
        client.codes[A] = code
        assert {} == await client.fetch_for(1)


async def test_partition_that_nobody_asks_for_any_more_is_forgotten(client):
    """It was taken away, or is read from another offset by somebody else."""
    client.codes[A] = CORRUPT_MESSAGE
    assert {A} == (await client.fetch_for(5)).keys()
    client.now_s += 6
    assert {} == client.refusals.lasting()


async def test_other_answers_are_not_looked_at(client):
    """Only a Fetch has partitions of this shape."""
    client.api_key, client.codes[A] = METADATA, CORRUPT_MESSAGE
    assert {} == await client.fetch_for(5)
