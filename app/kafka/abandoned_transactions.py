"""Ends the transactions that dead workers left open, so that readers need not wait for the timeout.

A dead worker's open transaction blocks all `read_committed` readers: the next owner of its partitions, and the readers
of its topics. The broker ends it after the transaction's timeout, plus up to 10 s until its next check (the default).
A worker that claims partitions can end it at once: each worker's consumer has the transactional id as its client id, so
a transaction of our group whose id no member has belongs to a worker that is no longer in the group. A new producer id
for it fences that worker and ends the transaction; if the worker is still alive, it exits as any fenced worker does.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from aiokafka import errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import InitProducerIdRequest

from app.kafka.protocol import DescribeGroups, ListTransactions

if TYPE_CHECKING:
    from typing import Any

    from aiokafka.client import AIOKafkaClient

log = logging.getLogger(__name__)

_ONGOING = "Ongoing"
_TIMEOUT_MS = 10_000
"""Time-out of the empty successor; it never begins a transaction."""


def transactional_id_of(group_id: str, instance: str) -> str:
    """Return the transactional id of a worker of a group.

    The colon is in no group's name, so no id of `ebs-processing-gpu` begins as those of `ebs-processing`.
    """
    return f"{group_id}:{instance}"


async def end_abandoned_transactions(client: AIOKafkaClient, group_id: str) -> list[str]:
    """End the open transactions of workers that are not in the group any more; returns their transactional ids.

    Nothing depends on it: a transaction that cannot be listed or ended (for
    example without the right to do so) ends at its timeout.
    """
    try:
        open_ids = await _open_transactions(client, transactional_id_of(group_id, ""))
        if not open_ids:
            return []
        abandoned = sorted(open_ids - await _client_ids(client, group_id))
        await asyncio.gather(*(_end(client, one) for one in abandoned))
    except (errors.KafkaError, OSError) as error:
        log.info("cannot end the open transactions of dead workers, so they end at their timeout: %r", error)
        return []
    for one in abandoned:
        log.info("ended the open transaction of %s, which has left the group", one)
    return abandoned


async def living_members(client: AIOKafkaClient, group_id: str) -> frozenset[str] | None:
    """Return the ids of the group's members, None if that cannot be had: nothing may be concluded then."""
    try:
        return frozenset([member_id for member_id, *_ in await _members(client, group_id)])
    except (errors.KafkaError, OSError) as error:
        log.info("cannot read the members of the group: %r", error)
        return None


async def _open_transactions(client: AIOKafkaClient, prefix: str) -> set[str]:
    brokers = [broker.nodeId for broker in client.cluster.brokers()]
    answers = await asyncio.gather(*(_ask(client, node_id, ListTransactions([_ONGOING], [])) for node_id in brokers))
    found: set[str] = set()
    for answer in answers:
        if answer.error_code:
            raise errors.for_code(answer.error_code)
        found.update(one for one, *_ in answer.transaction_states if one.startswith(prefix))
    return found


async def _client_ids(client: AIOKafkaClient, group_id: str) -> set[str]:
    return {client_id for _member_id, client_id, *_ in await _members(client, group_id)}


async def _members(client: AIOKafkaClient, group_id: str) -> Any:
    node_id = await client.coordinator_lookup(CoordinationType.GROUP, group_id)
    answer = await _ask(client, node_id, DescribeGroups([group_id]))
    ((code, _group, _state, _protocol_type, _protocol, members),) = answer.groups
    if code:
        raise errors.for_code(code)
    return members


async def _end(client: AIOKafkaClient, transactional_id: str) -> None:
    node_id = await client.coordinator_lookup(CoordinationType.TRANSACTION, transactional_id)
    answer = await _ask(client, node_id, InitProducerIdRequest(transactional_id, _TIMEOUT_MS))
    # ConcurrentTransactions says that the end is under way: just what was wanted.
    if answer.error_code not in (0, errors.ConcurrentTransactions.errno):
        raise errors.for_code(answer.error_code)


async def _ask(client: AIOKafkaClient, node_id: int, request: Any) -> Any:
    if not await client.ready(node_id, group=ConnectionGroup.COORDINATION):
        raise errors.NodeNotReadyError(f"broker {node_id} cannot be reached")
    return await client.send(node_id, request, group=ConnectionGroup.COORDINATION)
