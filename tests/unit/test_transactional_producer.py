"""The end of a transaction: what is not answered is in doubt or harmless, by what the cluster has agreed on."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition, errors
from aiokafka.producer.transaction_manager import TransactionManager, TransactionResult
from aiokafka.structs import OffsetAndMetadata

from app.errors import TransactionInDoubt
from app.kafka import transaction_handlers as handlers
from app.kafka import transactional_producer as producer
from app.kafka.features import forgets_transactions, read_features, transaction_version
from app.kafka.fencing import Membership
from app.kafka.transaction_protocol import ApiVersionsResponseV3, EndTxn, Produce, TxnOffsetCommit

TP = TopicPartition("in", 0)
LOST = errors.KafkaConnectionError("closed")
NOT_SENT = errors.NodeNotReadyError("no connection")
AGAIN, FENCED, EARLY = 14, 90, 51
FEATURES_OF_4_1 = bytes.fromhex(
    "04 0e 67726f75702e76657273696f6e 0001 0001 00"  # group.version 1
    "11 6d657461646174612e76657273696f6e 001b 001b 00"  # metadata.version 27
    "14 7472616e73616374696f6e2e76657273696f6e 0002 0002 00"  # transaction.version 2
)


class Client:
    """Answers one request after the other with what the test wrote down; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[Any] = []

    def get_random_node(self) -> int:
        """Return the only broker."""
        return 1

    async def ready(self, _node_id: int) -> bool:
        """Be there."""
        return True

    async def send(self, _node_id: int, request: Any, **_group: object) -> Any:
        """Answer."""
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def sender(client: Client, manager_type: type[TransactionManager] = TransactionManager) -> Any:
    """Return what handlers need of aiokafka's sender, in the middle of a transaction that commits an offset."""
    manager = manager_type("me", 1_000)
    manager.set_pid_and_epoch(7, 3)
    manager.begin_transaction()
    manager.add_offsets_to_txn({TP: OffsetAndMetadata(5, "")}, "group")
    return SimpleNamespace(
        client=client,
        membership=lambda: Membership(4, "member"),
        leader_epochs={},
        _txn_manager=manager,
        _retry_backoff=0.0,
        _request_timeout_ms=1_000,
        _acks=-1,
        _coordinator_dead=lambda _kind: None,
    )


def ending(*answers: Any, version: int) -> tuple[Any, Client]:
    """Return a handler that ends a transaction, and its client."""
    client = Client(*answers)
    one = sender(client, TransactionManager if version < 2 else producer._ImplicitTransactions)
    one._txn_manager.offset_committed(TP, 5, "group")
    one._txn_manager.committing_transaction()
    handler_type = handlers.OnlyEnd if version < 2 else handlers.BumpingEnd
    return handler_type(one, TransactionResult.COMMIT), client


def committing(*answers: Any, version: int) -> tuple[Any, Client]:
    """Return a handler that commits offsets, and its client."""
    client = Client(*answers)
    handler_type = handlers.FencedCommit if version < 2 else handlers.RepeatableCommit
    one = sender(client)
    _group, offsets, _future = one._txn_manager._pending_txn_offsets[0]
    return handler_type(one, offsets, "group"), client


def offset_answer(code: int) -> Any:
    """Return an answer to a TxnOffsetCommit."""
    return SimpleNamespace(errors=[("in", [(0, code, {})], {})])


@pytest.mark.parametrize("handler_of", [ending, committing])
async def test_what_is_not_answered_is_in_doubt(handler_of):
    """Version 1: nobody knows whether it will still arrive, so it is not sent again."""
    handler, client = handler_of(LOST, version=1)
    with pytest.raises(TransactionInDoubt, match="not answered"):
        await handler.do(1)
    assert 1 == len(client.requests)


@pytest.mark.parametrize("handler_of", [ending, committing])
async def test_timeout_is_no_answer(handler_of):
    """Version 1: a broker that takes too long may still do it."""
    handler, _ = handler_of(errors.RequestTimedOutError(), version=1)
    with pytest.raises(TransactionInDoubt):
        await handler.do(1)


@pytest.mark.parametrize("handler_of", [ending, committing])
async def test_what_was_never_sent_is_sent_again(handler_of):
    """Version 1: without a connection there is no doubt."""
    handler, _ = handler_of(NOT_SENT, version=1)
    assert False is await handler.do(1)


async def test_answer_that_says_again_is_an_answer():
    """Version 1: the coordinator that is loading has done nothing."""
    handler, _ = ending(SimpleNamespace(error_code=AGAIN), SimpleNamespace(error_code=0), version=1)
    assert [False, True] == [await handler.do(1), await handler.do(1)]


@pytest.mark.parametrize("handler_of", [ending, committing])
async def test_with_version_2_what_is_not_answered_is_sent_again(handler_of):
    """What arrives late has an old epoch and is refused."""
    handler, client = handler_of(LOST, version=2)
    assert False is await handler.do(1)
    assert 1 == len(client.requests)


async def test_answer_of_version_2_brings_the_next_epoch():
    """The next transaction runs under it, and its partitions are counted from 0 again."""
    handler, client = ending(SimpleNamespace(error_code=0, producer_id=7, producer_epoch=4), version=2)
    manager = handler._sender._txn_manager
    manager.increment_sequence_number(TP, 12)
    assert True is await handler.do(1)
    (request,) = client.requests
    assert isinstance(request, EndTxn)
    assert ("me", 7, 3, True) == request.fields
    assert (7, 4, 0) == (manager.producer_id, manager.producer_epoch, manager.sequence_number(TP))
    assert manager.is_empty_transaction()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("code", [47, FENCED])
async def test_who_was_fenced_hears_it(version, code):
    """By the old code and by the new one."""
    handler, _ = ending(SimpleNamespace(error_code=code), version=2)
    with pytest.raises(errors.ProducerFenced):
        await handler.do(1)
    handler, _ = committing(offset_answer(code), version=version)
    with pytest.raises(errors.ProducerFenced):
        await handler.do(1)


async def test_offsets_say_who_commits_them():
    """KIP-447: generation and member id of when the partitions were assigned."""
    handler, client = committing(offset_answer(0), version=1)
    assert True is await handler.do(1)
    (request,) = client.requests
    assert isinstance(request, TxnOffsetCommit)
    assert ("me", "group", 7, 3, 4, "member", None, [("in", [(0, 5, -1, "", {})], {})]) == request.fields


async def test_offsets_before_the_markers_are_sent_again():
    """The previous transaction is not quite over."""
    handler, _ = committing(offset_answer(EARLY), offset_answer(0), version=2)
    assert [False, True] == [await handler.do(1), await handler.do(1)]


async def test_records_before_the_markers_are_sent_again_and_others_are_done():
    """One partition's code says nothing of another's."""
    done, early = (SimpleNamespace(get_data_buffer=lambda: b"records", offset=None) for _ in range(2))
    done.done = lambda offset, *_: setattr(done, "offset", offset)
    handler = handlers.ImplicitProduce(sender(Client()), {TP: done, TopicPartition("in", 1): early})
    assert isinstance(handler.create_request(), Produce)
    handler.handle_response(
        SimpleNamespace(topics=[("in", [(0, 0, 42, -1, 0, [], None, {}), (1, EARLY, -1, -1, -1, [], None, {})], {})])
    )
    assert (42, [early]) == (done.offset, handler._to_reenqueue)


def versions(tags: dict[int, bytes], *, newest_produce: int = 12) -> ApiVersionsResponseV3:
    """Return a broker's answer to ApiVersions."""
    return ApiVersionsResponseV3(0, [(0, 0, newest_produce, {}), (26, 0, 5, {}), (28, 0, 5, {})], 0, tags)


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        (versions({2: FEATURES_OF_4_1}), 2),
        (versions({}), 1),
        (versions({2: FEATURES_OF_4_1}, newest_produce=11), 1),
    ],
    ids=["4.1", "no-features", "old-requests"],
)
async def test_version_is_what_the_cluster_agreed_on_and_the_broker_can(answer, version):
    """Both are needed: features are the cluster's, requests are the broker's."""
    assert version == transaction_version(await read_features(Client(answer)))


def test_answer_to_api_versions_is_read_with_its_tags():
    """Its header has none, whatever the version."""
    head = bytes.fromhex("0000 02 0000 0000 000c 00 00000000 01 02")
    told = head + bytes([len(FEATURES_OF_4_1)]) + FEATURES_OF_4_1
    answer = ApiVersionsResponseV3.decode(BytesIO(told))
    assert {"group.version": 1, "metadata.version": 27, "transaction.version": 2} == answer.finalized_features()


class LookingSender(producer._TransactionSender):
    """A sender that looks for coordinators only; what the client answers is written down."""

    def __init__(self, *answers: Any) -> None:
        self.client = self
        self.answers = list(answers)
        self._txn_manager = TransactionManager("me", 1_000)
        self._coordinators = {}
        self._retry_backoff = 0.0

    async def coordinator_lookup(self, _kind: int, _key: str) -> int:
        """Answer."""
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ready(self, _node_id: int, **_group: object) -> bool:
        """Be there."""
        return True

    async def force_metadata_update(self) -> bool:
        """Learn nothing new."""
        return True


async def test_coordinator_is_looked_for_until_a_broker_answers():
    """A connection that is lost meanwhile is no doubt: nothing was asked but who it is."""
    assert 7 == await LookingSender(LOST, LOST, 7)._find_coordinator(1, "me")


async def test_coordinator_that_nobody_may_ask_for_is_not_looked_for_again():
    """The broker says no, and will say it again."""
    one = LookingSender(errors.TransactionalIdAuthorizationFailed("me"), 7)
    with pytest.raises(errors.TransactionalIdAuthorizationFailed):
        await one._find_coordinator(1, "me")
    assert [7] == one.answers


@pytest.mark.parametrize(("level", "forgets"), [(27, False), (28, True), (33, True), (34, False)])
def test_kafka_that_forgets_transactions_is_known_by_its_newest_feature(level, forgets):
    """4.2 to 4.4, even if the cluster still has an older level."""
    supported = bytes.fromhex("02 11 6d657461646174612e76657273696f6e 0007") + level.to_bytes(2) + b"\0"
    assert forgets is forgets_transactions(versions({0: supported, 2: FEATURES_OF_4_1}))
    assert False is forgets_transactions(versions({}))
