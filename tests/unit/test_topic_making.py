"""Which errors a process waits out while it makes its topics, and which end it."""

from __future__ import annotations

import pytest
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    KafkaConnectionError,
    KafkaTimeoutError,
    RequestTimedOutError,
    TopicAuthorizationFailedError,
)

from app.topics.making import _may_pass


@pytest.mark.parametrize("error", [KafkaTimeoutError, RequestTimedOutError, KafkaConnectionError])
def test_slow_broker_is_waited_for(error):
    """A worker that starts while its broker still starts would end with exit code 1, and nobody refused anything."""
    assert _may_pass(error())


@pytest.mark.parametrize("error", [TopicAuthorizationFailedError, IncompatibleBrokerVersion])
def test_refusal_is_final(error):
    """Waiting mends none of these."""
    assert not _may_pass(error())
