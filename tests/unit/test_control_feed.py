"""The reader of `control`: a change that could not be told is told again. What it reads: tests/integration."""

from __future__ import annotations

import pytest
from aiokafka.structs import ConsumerRecord

from agents.engine.control_feed import ControlFeed
from app.kafka.cluster import Cluster
from app.rules.control import ControlState


def test_change_that_could_not_be_reported_is_reported_with_the_next_read():
    """Otherwise the state would have it, nobody would act on it, and the next reading would see nothing new."""
    told: list[str] = []

    def on_change() -> None:
        told.append("told")
        if len(told) == 1:
            raise RuntimeError("as if the engine failed half way")

    feed = ControlFeed(Cluster("nowhere:9092"), ControlState(), "control", on_change=on_change)
    value = b'{"type":"PAUSE","at_ms":1,"reason":""}'
    record = ConsumerRecord("control", 0, 0, 1, 0, b"pause", value, None, 5, len(value), ())
    with pytest.raises(RuntimeError):
        feed._apply([record])
    feed._apply([])
    feed._apply([])
    assert ["told", "told"] == told
