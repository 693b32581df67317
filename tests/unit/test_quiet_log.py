"""Of a library's errors that are alike one is told every few seconds, with the number of the others."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

import pytest

from app.telemetry.quiet_log import OneOfThoseAlike

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARY = "some_kafka"


class Log:
    """What a handler with the filter writes; `now_s` is its clock."""

    def __init__(self, handler: logging.StreamHandler[io.StringIO]) -> None:
        self._handler = handler
        self.now_s = 100.0

    @property
    def lines(self) -> list[str]:
        """What was written."""
        return self._handler.stream.getvalue().splitlines()


@pytest.fixture
def log() -> Iterator[Log]:
    """Return a log of everything."""
    handler = logging.StreamHandler(io.StringIO())
    one = Log(handler)
    handler.addFilter(OneOfThoseAlike(LIBRARY, silence_s=5, clock_s=lambda: one.now_s))
    root = logging.getLogger()
    root.addHandler(handler)
    yield one
    root.removeHandler(handler)


def refused(node: int = 0, logger: str = f"{LIBRARY}.client") -> None:
    """Log what is logged again and again."""
    logging.getLogger(logger).error("no connection to node %d: %s", node, "refused")


def test_first_one_is_reported_at_once_and_the_next_with_the_number_between(log: Log) -> None:
    """Nothing is silent for longer than it should be."""
    for now_s in (100.0, 100.1, 104.9, 105.0, 106.0, 110.0, 115.0):
        log.now_s = now_s
        refused()
    told = "no connection to node 0: refused"
    assert [told, f"{told} (2 alike before it)", f"{told} (1 alike before it)", told] == log.lines


def test_what_differs_is_told(log: Log) -> None:
    """Another node, another logger of the library, everybody else, and what is no trouble."""
    logging.getLogger(f"{LIBRARY}.client").setLevel(logging.INFO)
    for _ in range(2):
        refused(0)
        refused(1)
        refused(0, f"{LIBRARY}.consumer")
        refused(0, f"{LIBRARY}_of_another")
        logging.getLogger(f"{LIBRARY}.client").info("connected")
    counts = {line: log.lines.count(line) for line in log.lines}
    assert {"no connection to node 0: refused": 4, "no connection to node 1: refused": 1, "connected": 2} == counts


def test_memory_is_bounded(log: Log) -> None:
    """Of thousands of errors the first ones are forgotten, and told anew."""
    for number in range(3_000):
        refused(number)
    refused(2_999)
    refused(0)
    assert (3_001, "no connection to node 0: refused") == (len(log.lines), log.lines[-1])
