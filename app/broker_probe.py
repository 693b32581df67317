"""Asking once whether a Kafka broker is there, and if not, why, in a few words.

Not done with an `AIOKafkaClient`: it logs an error for each attempt, several lines a second while we wait.
"""

from __future__ import annotations

import asyncio
import socket

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

_TIMEOUT_MS = 3_000  # a paused broker accepts connections but never answers


async def why_unavailable(bootstrap: str) -> str | None:
    """Ask the bootstrap servers in turn; return None at the first that is fit to work with, else the last reason.

    Fit is one that answers for a registered broker and can be reached under the address that it advertises.
    """
    reason: str | None = "no address given"
    for host, port, _family in collect_hosts(bootstrap, randomize=False):
        reason = await _why_unfit(host, port)
        if reason is None:
            return None
    return reason


async def _why_unfit(host: str, port: int) -> str | None:
    try:
        connection = await create_conn(host, port, request_timeout_ms=_TIMEOUT_MS, client_id="ebs-probe")
    except (OSError, KafkaError) as error:
        return in_words(error)
    try:
        metadata = await connection.send(MetadataRequest([]))
    except (OSError, KafkaError) as error:
        return in_words(error)
    finally:
        connection.close()
    advertised = [(broker_host, broker_port) for _node, broker_host, broker_port, *_rack in metadata.brokers]
    if not advertised:
        return "it answers, but no broker has registered yet"
    if (host, port) in advertised:
        return None
    return await _why_unreachable(*advertised[0])


async def _why_unreachable(host: str, port: int) -> str | None:
    try:
        async with asyncio.timeout(_TIMEOUT_MS / 1000):
            _reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return f"it says it is at {host}:{port}, which gives: {in_words(error)}; see its advertised.listeners"
    writer.close()
    return None


def in_words(error: Exception) -> str:
    """Return what a person wants to know of a connection error."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(error) or type(error).__name__
