"""Checks once whether a Kafka broker answers, and if not, says why in a few words.

Not done with an `AIOKafkaClient`: it logs an error for each attempt, several lines a second while we wait.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from app.errors import AccessRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.kafka.cluster import Cluster

_TIMEOUT_MS = 3_000  # a paused broker accepts connections but never answers
_MISTRUST = (
    AuthenticationFailedError,
    IllegalSaslStateError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    ssl.SSLError,
    # aiokafka's SCRAM raises it when the broker does not prove that it knows the password either.
    ValueError,
)


async def why_unavailable(cluster: Cluster) -> str | None:
    """Ask the bootstrap servers in turn; return None at the first that is fit to work with, else the last reason.

    A server is fit if it is a registered broker and can be reached at its advertised address. Raises `AccessRefused` at
    the first server that answers but does not accept our credentials, or has the wrong certificate.
    """
    reason: str | None = "no address given"
    for host, port, _family in collect_hosts(cluster.bootstrap, randomize=False):
        try:
            reason = await _why_unfit(host, port, cluster)
        except _MISTRUST as error:
            raise AccessRefused(_explain(f"{host}:{port}", error, cluster.security)) from None
        if reason is None:
            return None
    return reason


async def _why_unfit(host: str, port: int, cluster: Cluster) -> str | None:
    try:
        connection = await cluster.within(_TIMEOUT_MS).connection(host, port, "ebs-probe")
    except _MISTRUST:
        raise
    except (OSError, KafkaError) as error:
        return _with_hint(in_words(error), error, cluster.security)
    try:
        metadata = await connection.send(MetadataRequest([]))
    except (OSError, KafkaError) as error:
        return _with_hint(in_words(error), error, cluster.security)
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


def _explain(address: str, error: Exception, security: Mapping[str, Any]) -> str:
    protocol, mechanism = security.get("security_protocol", "PLAINTEXT"), security.get("sasl_mechanism")
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message or str(error)
        return (
            f"the certificate of the Kafka broker at {address} is not trusted ({reason}): name its authority with "
            "EBS_SSL_CAFILE; where it does not name this host, set EBS_SSL_CHECK_HOSTNAME=false"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"no TLS with the Kafka broker at {address} ({error.reason or error}): is EBS_SECURITY_PROTOCOL={protocol} "
            "that of this listener? A broker that wants our certificate gets it from EBS_SSL_CERTFILE"
        )
    if isinstance(error, UnsupportedSaslMechanismError | IllegalSaslStateError):
        return (
            f"the Kafka broker at {address} does not take EBS_SASL_MECHANISM={mechanism} on this listener: choose one "
            f"that it has enabled, or another EBS_SECURITY_PROTOCOL than {protocol}"
        )
    # Not its text: some brokers repeat in it what was sent.
    return (
        f"the Kafka broker at {address} refuses the credentials (EBS_SASL_MECHANISM={mechanism}, "
        f"user {security.get('sasl_plain_username') or 'of the token'}): check EBS_SASL_USERNAME and EBS_SASL_PASSWORD"
        if mechanism != "OAUTHBEARER"
        else f"the Kafka broker at {address} refuses the token: check EBS_SASL_OAUTH_TOKEN_FILE"
    )


def _with_hint(reason: str, error: Exception, security: Mapping[str, Any]) -> str:
    """Add what else may be behind a connection that was made and then came to nothing."""
    if isinstance(error, TimeoutError | ConnectionResetError | KafkaConnectionError):
        protocol = security.get("security_protocol", "PLAINTEXT")
        wants = ", and does it want a certificate (EBS_SSL_CERTFILE)?" if protocol.endswith("SSL") else "?"
        return f"{reason}; is EBS_SECURITY_PROTOCOL={protocol} that of this listener{wants}"
    return reason


def in_words(error: Exception) -> str:
    """Return a connection error in words for people."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ConnectionResetError | KafkaConnectionError):
        return "it closes the connection"
    return str(error) or type(error).__name__
