"""From the security settings to the options that every client of a process is given (`cluster`)."""

from __future__ import annotations

import asyncio
import importlib.util
import ssl
from typing import TYPE_CHECKING, Any

from aiokafka.abc import AbstractTokenProvider

from app.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from app.kafka.settings import KafkaSettings


def kafka_security(settings: KafkaSettings) -> dict[str, Any]:
    """Return the options; none for PLAINTEXT. Raises `SettingsError` for a file that cannot be used.

    The result holds the password: it is never logged, and what keeps it keeps it out of its `repr`.
    """
    if settings.security_protocol == "PLAINTEXT":
        return {}
    options: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL_"):
        options |= _sasl(settings)
    return options


def _sasl(settings: KafkaSettings) -> dict[str, Any]:
    mechanism = settings.sasl_mechanism
    options: dict[str, Any] = {"sasl_mechanism": mechanism}
    if mechanism == "OAUTHBEARER":
        assert settings.sasl_oauth_token_file is not None  # app.kafka.settings.contradiction
        provider = TokenFile(settings.sasl_oauth_token_file)
        provider.read()
        return options | {"sasl_oauth_token_provider": provider}
    if mechanism == "GSSAPI":
        if importlib.util.find_spec("gssapi") is None:
            raise SettingsError(
                "EBS_SASL_MECHANISM=GSSAPI needs the package gssapi: pip install gssapi, or choose another mechanism"
            )
        return options
    password = settings.sasl_password.get_secret_value()
    return options | {"sasl_plain_username": settings.sasl_username, "sasl_plain_password": password}


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    except (OSError, ValueError) as error:
        raise _unusable("EBS_SSL_CAFILE", settings.ssl_cafile, error) from None
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certfile is not None:
        # Never none: OpenSSL would ask for it at the terminal, and a worker would hang there.
        password = settings.ssl_key_password.get_secret_value()
        try:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, lambda: password)
        except (OSError, ValueError) as error:
            variable, path = "EBS_SSL_CERTFILE", settings.ssl_certfile
            if settings.ssl_keyfile is not None and settings.ssl_certfile.is_file():
                variable, path = "EBS_SSL_KEYFILE", settings.ssl_keyfile
            raise _unusable(variable, path, error) from None
    return context


def _unusable(variable: str, path: Path | None, error: Exception) -> SettingsError:
    if isinstance(error, ssl.SSLError):
        reason = "it is no PEM file of the right sort, does not belong to the other one, or its password is wrong"
    else:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return SettingsError(f"{variable}={path} cannot be used ({reason}): name a PEM file that this user may read")


class TokenFile(AbstractTokenProvider):
    """Hands out what a file says now: whoever writes it (such as Kubernetes) keeps the token fresh."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Return the token for a new connection."""
        return await asyncio.get_running_loop().run_in_executor(None, self.read)

    def read(self) -> str:
        """Return the token. Raises `SettingsError`."""
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"EBS_SASL_OAUTH_TOKEN_FILE={self._path} cannot be read "
                f"({getattr(error, 'strerror', None) or 'it is no text'}): name a file that this user may read"
            ) from None
        if not token:
            raise SettingsError(f"EBS_SASL_OAUTH_TOKEN_FILE={self._path} is empty: write the token into it")
        return token
