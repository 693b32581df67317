"""The worker's consumer: which partitions it takes records of, and who must hear of a change."""

from __future__ import annotations

from typing import Any

from aiokafka import TopicPartition

from app.streaming.consumer import Consumer

A, B = TopicPartition("in", 0), TopicPartition("in", 1)


class FakeThread:
    """The consumer's thread, as far as it hears of changes; `wanted` at the time of each call."""

    def __init__(self) -> None:
        self.consumer: Any = None
        self.told: list[frozenset[TopicPartition]] = []

    def take_again(self) -> None:
        """Note what a waiting `take` would see."""
        self.told.append(self.consumer.wanted)


def test_a_partition_that_is_opened_again_is_taken_at_once():
    """The thread may wait for others just then, a second at worst: at full load the pool ran empty meanwhile."""
    thread = FakeThread()
    consumer: Any = Consumer.__new__(Consumer)
    thread.consumer, consumer._thread, consumer.wanted = consumer, thread, frozenset()
    for wanted in ({A, B}, {A}, {B}, {B}, set(), {A, B}):
        consumer.open_partitions(frozenset(wanted))
    assert [{A, B}, {B}, {A, B}] == thread.told
