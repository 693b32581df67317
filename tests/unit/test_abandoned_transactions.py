"""Ending the transactions of workers that are not in the group any more."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import errors
from fake_coordinator import FakeCoordinator

from app.kafka.abandoned_transactions import end_abandoned_transactions, transactional_id_of

CLUSTER_AUTHORIZATION_FAILED = 31


@pytest.fixture
def coordinator() -> Any:
    """Return a coordinator with three open transactions of the group, one of them of a member, and one of another."""
    coordinator = FakeCoordinator()
    coordinator.open_transactions = {"group:a", "group:b", "group:c", "group-of-another:x"}
    coordinator.member_client_ids = {"group:b", "group:idle"}
    return coordinator


async def test_only_transactions_without_a_member_are_ended(coordinator: Any) -> None:
    """A member's transaction, and one of another group, are left alone."""
    assert ["group:a", "group:c"] == await end_abandoned_transactions(coordinator, "group")
    assert ["group:a", "group:c"] == sorted(coordinator.ended)


async def test_transactions_of_another_queue_are_left_alone(coordinator: Any) -> None:
    """Its group's name begins as that of the default queue, and its members are none of the group's."""
    groups = ("ebs-processing", "ebs-processing-gpu", "acme.ebs-processing")
    coordinator.open_transactions = {transactional_id_of(group, "w-1") for group in groups}
    assert [transactional_id_of(groups[0], "w-1")] == await end_abandoned_transactions(coordinator, groups[0])
    assert [transactional_id_of(groups[1], "w-1")] == await end_abandoned_transactions(coordinator, groups[1])


async def test_members_are_not_asked_for_when_nothing_is_open(coordinator: Any) -> None:
    """Without an open transaction nothing is ended."""
    coordinator.open_transactions = {"group-of-another:x"}
    assert [] == await end_abandoned_transactions(coordinator, "group")
    assert [] == coordinator.ended


async def test_broker_that_does_not_let_us_is_no_failure(coordinator: Any) -> None:
    """A refusal is passed over: the transactions end with their time-out."""
    coordinator.refusal = CLUSTER_AUTHORIZATION_FAILED
    assert [] == await end_abandoned_transactions(coordinator, "group")


async def test_broker_that_is_away_is_no_failure(coordinator: Any) -> None:
    """So is a broker that cannot be reached."""
    coordinator.member_client_ids = set()

    async def lookup(_kind: object, _key: str) -> int:
        raise errors.GroupCoordinatorNotAvailableError

    coordinator.coordinator_lookup = lookup
    assert [] == await end_abandoned_transactions(coordinator, "group")
    assert [] == coordinator.ended
