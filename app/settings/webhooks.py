"""The settings of callbacks over HTTP: where they may go, and how they are signed."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from app.settings.security import SecuritySettings, Texts, keys_of
from app.webhooks.hosts import WebhookHosts, hosts_of
from app.webhooks.signatures import keys_of_secrets


def _check_hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    hosts_of(value)
    return value


def _check_secret(value: SecretStr) -> SecretStr:
    keys_of_secrets(keys_of(value))
    return value


class WebhookSettings(SecuritySettings):
    """What `Settings` has of callbacks."""

    webhook_hosts: Annotated[Texts, AfterValidator(_check_hosts)] = Field(
        (),
        description="Hosts that callbacks may go to, separated by commas: names (`*.shop.example`: all below it; `*`: "
        "all), and the private addresses or networks that they may be at; empty: no callbacks",
    )
    webhook_secret: Annotated[SecretStr, AfterValidator(_check_secret)] = Field(
        SecretStr(""),
        description="Secret that signs callbacks, `whsec_` and base64; several, separated by commas, for a rotation. "
        "Processing workers need it",
    )
    webhook_timeout_s: float = Field(15.0, ge=0.1, le=600, description="How long one callback may take")

    @property
    def allowed_webhook_hosts(self) -> WebhookHosts:
        """Where callbacks may go."""
        return hosts_of(self.webhook_hosts)

    @property
    def webhook_keys(self) -> tuple[bytes, ...]:
        """The keys that callbacks are signed with."""
        return keys_of_secrets(keys_of(self.webhook_secret))
