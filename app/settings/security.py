"""The settings that keep others out: how Kafka is reached, and who may call the API.

Each secret may come from a file instead, as Docker and Kubernetes hand them over: `EBS_SASL_PASSWORD_FILE` in place of
`EBS_SASL_PASSWORD`, and so on for every field that is a `SecretStr`.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path  # noqa: TC003  # pydantic reads annotations when it runs
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource

from app.settings.settings.client import keys_in, secret_from_file, what_is_wrong_with_keys

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _upper(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def keys_of(secret: SecretStr) -> tuple[str, ...]:
    """Return the keys of a setting that holds several, separated by commas or white space."""
    return keys_in(secret.get_secret_value())


def _check_keys(value: SecretStr) -> SecretStr:
    wrong = what_is_wrong_with_keys(value.get_secret_value())
    if wrong is not None:
        raise ValueError(wrong)
    return value


def _parse_list(value: object) -> object:
    return tuple(filter(None, re.split(r"[\s,]+", value.strip()))) if isinstance(value, str) else value


def _check_origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc or f"{parts.scheme}://{parts.netloc}" != origin:
            raise ValueError("each is scheme://host or scheme://host:port without a path, such as https://shop.example")
    return value


def _check_networks(value: tuple[str, ...]) -> tuple[str, ...]:
    for network in value:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError("each is an address or a network, such as 10.0.0.7 or 10.0.0.0/8") from None
    return value


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_list)]


class SecuritySettings(BaseSettings):
    """What `Settings` has of passwords, certificates, keys and limits for others."""

    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(_upper)] = (
        Field("PLAINTEXT", description="How Kafka is reached: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
    )
    sasl_mechanism: Annotated[
        Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"], BeforeValidator(_upper)
    ] = Field("", description="With SASL: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI")
    sasl_username: str = Field("", description="User of PLAIN and SCRAM")
    sasl_password: SecretStr = Field(SecretStr(""), description="Password of PLAIN and SCRAM")
    sasl_oauth_token_file: Path | None = Field(
        None, description="File with the token of OAUTHBEARER, read anew for each connection"
    )
    ssl_cafile: Path | None = Field(
        None, description="PEM file of the authorities that the broker's certificate is checked by; unset: the system's"
    )
    ssl_certfile: Path | None = Field(None, description="PEM file of our own certificate, where the broker wants one")
    ssl_keyfile: Path | None = Field(None, description="PEM file of its key; unset: it is in EBS_SSL_CERTFILE")
    ssl_key_password: SecretStr = Field(SecretStr(""), description="What the key is encrypted with")
    ssl_check_hostname: bool = Field(
        default=True, description="The broker's certificate must name the host that is called"
    )

    api_keys_read: Annotated[SecretStr, AfterValidator(_check_keys)] = Field(
        SecretStr(""), description="API keys that may read, separated by commas; see Secure the API"
    )
    api_keys_write: Annotated[SecretStr, AfterValidator(_check_keys)] = Field(
        SecretStr(""), description="API keys that may read and write, separated by commas"
    )
    api_key: Annotated[SecretStr, AfterValidator(_check_keys)] = Field(
        SecretStr(""), description="The key that the `ebs` commands send"
    )
    api_open: bool = Field(
        default=False, description="Let the API start without keys even where other machines can reach it"
    )
    api_published_on: str = Field(
        "",
        description="Address on which a container's port is published; empty: the address that the API listens on",
    )
    metrics_public: bool = Field(default=False, description="The API's /metrics needs no key, where there are keys")
    cors_origins: Annotated[Texts, AfterValidator(_check_origins)] = Field(
        (), description="Sites whose pages may call the API, such as https://shop.example, separated by commas"
    )
    rate_limit_per_s: float = Field(
        0.0, ge=0, le=1_000_000, description="Requests of one client that the API takes in a second; 0: any number"
    )
    rate_limit_burst: int = Field(100, ge=1, le=1_000_000, description="Requests that may come at once before that")
    trusted_proxies: Annotated[Texts, AfterValidator(_check_networks)] = Field(
        (), description="Addresses or networks whose X-Forwarded-For and -Proto are believed, separated by commas"
    )
    web_host: str = Field("0.0.0.0", description="Address that a worker's own pages listen on; they know no keys")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secrets from the files that `<variable>_FILE` names; what is given by hand still wins."""
        return init_settings, SecretFiles(settings_cls), env_settings, dotenv_settings, file_secret_settings


def secret_fields(settings_cls: type[BaseSettings]) -> tuple[str, ...]:
    """Return the names of the fields whose values are never shown."""
    return tuple(name for name, field in settings_cls.model_fields.items() if field.annotation is SecretStr)


class SecretFiles(PydanticBaseSettingsSource):
    """Takes each secret from the file that its variable with `_FILE` behind it names."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  # pydantic's
        """Return a field's text, None if no file is named. Raises `SettingsError`."""
        variable = f"{self.config.get('env_prefix', '')}{field_name}".upper()
        return secret_from_file(variable), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return what the files say, by field."""
        found = {
            name: self.get_field_value(self.settings_cls.model_fields[name], name)[0]
            for name in secret_fields(self.settings_cls)
        }
        return {name: text for name, text in found.items() if text is not None}


def contradiction(settings: SecuritySettings) -> str | None:
    """Return which security settings do not go together and what to do about it, None if all do."""
    return _sasl_contradiction(settings) or _ssl_contradiction(settings)


def _sasl_contradiction(settings: SecuritySettings) -> str | None:
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


def _ssl_contradiction(settings: SecuritySettings) -> str | None:
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
