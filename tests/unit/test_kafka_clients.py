"""Nobody reaches Kafka past the security settings."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = {
    "AIOKafkaClient",
    "RecordReader",
    "AIOKafkaProducer",
    "AIOKafkaAdminClient",
    "TransactionalProducer",
    "create_conn",
}
CALLS = [
    (f"{path.relative_to(ROOT)}:{call.lineno}", call)
    for package in ("app", "agents", "api")
    for path in sorted((ROOT / package).rglob("*.py"))
    for call in ast.walk(ast.parse(path.read_text()))
    if isinstance(call, ast.Call) and getattr(call.func, "id", "") in CLIENTS
]


@pytest.mark.parametrize("call", [call for _, call in CALLS], ids=[place for place, _ in CALLS])
def test_every_client_of_kafka_is_given_the_security_settings(call):
    """Each call that makes a client passes options on, `**security` or a connection that has it."""
    passed_on = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
    assert [True] == [name.endswith(("security", "connection")) for name in passed_on]


def test_everybody_reads_with_a_reader_that_no_record_can_end():
    """Aiokafka's own consumer is named in one file only."""
    named = [
        str(path.relative_to(ROOT))
        for package in ("app", "agents", "api")
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and "AIOKafkaConsumer" in {name.name for name in node.names}
    ]
    assert ["app/kafka/reading.py"] == named


def test_the_clients_are_found():
    """The search above sees the clients that there are."""
    assert len(CALLS) >= 12
