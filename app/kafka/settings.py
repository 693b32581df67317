"""The settings of how Kafka is reached; `app.settings` has them among the others."""

from __future__ import annotations

import re
from pathlib import Path  # noqa: TC003  # pydantic reads annotations when it runs
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings

_BROKERS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s,:\[\]]+):\d{1,5}(?:,(?:\[[0-9A-Fa-f:.]+\]|[^\s,:\[\]]+):\d{1,5})*")
_MAX_PORT = 65_535


def _parse_brokers(value: object) -> object:
    if not isinstance(value, str):
        return value
    brokers = value.strip()
    if _BROKERS.fullmatch(brokers) is None:
        raise ValueError("must be HOST:PORT, several separated by commas, such as 127.0.0.1:9092")
    if any(int(broker.rpartition(":")[2]) > _MAX_PORT for broker in brokers.split(",")):
        raise ValueError(f"a port is at most {_MAX_PORT}")
    return brokers


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


class KafkaSettings(BaseSettings):
    """The settings of the connection to Kafka: addresses, security protocol, credentials, certificates."""

    broker: Annotated[str, BeforeValidator(_parse_brokers)] = Field(
        "127.0.0.1:9092", description="Kafka bootstrap servers, HOST:PORT, several separated by commas"
    )
    compression: Literal["none", "lz4", "snappy", "zstd", "gzip"] = Field(
        "lz4", description="How written records are compressed: none, lz4, snappy, zstd or gzip"
    )
    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)] = (
        Field("PLAINTEXT", description="Security protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    )
    sasl_mechanism: Annotated[
        Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"], BeforeValidator(_upper)
    ] = Field("", description="With SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI")
    sasl_username: str = Field("", description="User of PLAIN and SCRAM")
    sasl_password: SecretStr = Field(SecretStr(""), description="Password of PLAIN and SCRAM")
    sasl_oauth_token_file: Path | None = Field(
        None, description="File with the token of OAUTHBEARER; it is read again for each connection"
    )
    ssl_cafile: Path | None = Field(
        None, description="PEM file of the CAs that sign the broker's certificate; unset: the system's"
    )
    ssl_certfile: Path | None = Field(
        None, description="PEM file of the client certificate, if the broker requires one"
    )
    ssl_keyfile: Path | None = Field(None, description="PEM file of its key; unset: it is in EBS_SSL_CERTFILE")
    ssl_key_password: SecretStr = Field(SecretStr(""), description="Password of the key")
    ssl_check_hostname: bool = Field(
        default=True, description="Whether the broker's certificate must contain its host name"
    )


def contradiction(settings: KafkaSettings) -> str | None:
    """Return which of them do not go together and what to do about it, None if all do."""
    return _sasl_contradiction(settings) or _ssl_contradiction(settings)


def _sasl_contradiction(settings: KafkaSettings) -> str | None:
    protocol, mechanism = settings.security_protocol, settings.sasl_mechanism
    has_password = bool(settings.sasl_password.get_secret_value())
    if not protocol.startswith("SASL_"):
        given = _first(
            ("EBS_SASL_MECHANISM", mechanism),
            ("EBS_SASL_USERNAME", settings.sasl_username),
            ("EBS_SASL_PASSWORD", has_password),
            ("EBS_SASL_OAUTH_TOKEN_FILE", settings.sasl_oauth_token_file),
        )
        wanted = "SASL_SSL" if protocol == "SSL" else "SASL_SSL or SASL_PLAINTEXT"
        return given and (
            f"{given} is set, but EBS_SECURITY_PROTOCOL={protocol} does not use it: "
            f"set EBS_SECURITY_PROTOCOL to {wanted}, or unset {given}"
        )
    if not mechanism:
        return (
            f"EBS_SECURITY_PROTOCOL={protocol} needs EBS_SASL_MECHANISM: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, "
            "OAUTHBEARER or GSSAPI, whichever the broker has"
        )
    if mechanism == "OAUTHBEARER":
        return (
            None if settings.sasl_oauth_token_file else "EBS_SASL_MECHANISM=OAUTHBEARER needs EBS_SASL_OAUTH_TOKEN_FILE"
        )
    if mechanism == "GSSAPI":
        return None
    missing = _first(("EBS_SASL_USERNAME", not settings.sasl_username), ("EBS_SASL_PASSWORD", not has_password))
    return missing and f"EBS_SASL_MECHANISM={mechanism} needs {missing} (or {missing}_FILE)".replace(
        " (or EBS_SASL_USERNAME_FILE)", ""
    )


def _ssl_contradiction(settings: KafkaSettings) -> str | None:
    has_key_password = bool(settings.ssl_key_password.get_secret_value())
    if not settings.security_protocol.endswith("SSL"):
        given = _first(
            ("EBS_SSL_CAFILE", settings.ssl_cafile),
            ("EBS_SSL_CERTFILE", settings.ssl_certfile),
            ("EBS_SSL_KEYFILE", settings.ssl_keyfile),
            ("EBS_SSL_KEY_PASSWORD", has_key_password),
            ("EBS_SSL_CHECK_HOSTNAME", not settings.ssl_check_hostname),
        )
        wanted = "SASL_SSL" if settings.security_protocol == "SASL_PLAINTEXT" else "SSL or SASL_SSL"
        return given and (
            f"{given} is set, but EBS_SECURITY_PROTOCOL={settings.security_protocol} does not use it: "
            f"set EBS_SECURITY_PROTOCOL to {wanted}, or unset {given}"
        )
    if settings.ssl_certfile is None:
        given = _first(("EBS_SSL_KEYFILE", settings.ssl_keyfile), ("EBS_SSL_KEY_PASSWORD", has_key_password))
        return given and f"{given} is set without EBS_SSL_CERTFILE: name the certificate too, or unset {given}"
    return None


def _first(*named: tuple[str, object]) -> str | None:
    """Return the first name whose value is there."""
    return next((name for name, value in named if value), None)
