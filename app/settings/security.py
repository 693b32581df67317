"""The settings that keep others out: how Kafka is reached, and who may call the API.

Each secret may come from a file instead, as Docker and Kubernetes hand them over: `EBS_SASL_PASSWORD_FILE` in place of
`EBS_SASL_PASSWORD`, and so on for every field that is a `SecretStr`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource

from app.kafka.settings import KafkaSettings
from ebs.client.settings import keys_in, secret_from_file, what_is_wrong_with_keys

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


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


class SecuritySettings(KafkaSettings):
    """What `Settings` has of passwords, certificates, keys and limits for others."""

    api_keys_read: Annotated[SecretStr, AfterValidator(_check_keys)] = Field(
        SecretStr(""), description="API keys that may read, separated by commas; see Secure the API"
    )
    api_keys_write: Annotated[SecretStr, AfterValidator(_check_keys)] = Field(
        SecretStr(""), description="API keys that may read and write, separated by commas"
    )
    api_key: Annotated[SecretStr, AfterValidator(_check_keys)] = Field(
        SecretStr(""), description="The key that the `ebs` commands and `ebs.Client` send"
    )
    api_open: bool = Field(
        default=False, description="Let the API start without keys even if other machines can reach it"
    )
    api_published_on: str = Field(
        "",
        description="Address on which a container's port is published; empty: the address that the API listens on",
    )
    metrics_public: bool = Field(default=False, description="Serve the API's /metrics without a key")
    cors_origins: Annotated[Texts, AfterValidator(_check_origins)] = Field(
        (), description="Sites whose pages may call the API, such as https://shop.example, separated by commas"
    )
    rate_limit_per_s: float = Field(
        0.0, ge=0, le=1_000_000, description="Requests per second that the API accepts from one client; 0: no limit"
    )
    rate_limit_burst: int = Field(
        100, ge=1, le=1_000_000, description="Requests that a client may send at once beyond that limit"
    )
    trusted_proxies: Annotated[Texts, AfterValidator(_check_networks)] = Field(
        (),
        description="Addresses or networks of trusted proxies (X-Forwarded-For and -Proto), separated by commas",
    )
    web_host: str = Field(
        "0.0.0.0", description="Address that a worker's own pages listen on; they have no access control"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secrets from the files that `<variable>_FILE` names; values given as arguments still win."""
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
