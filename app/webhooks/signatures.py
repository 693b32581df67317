"""How callbacks are signed: Standard Webhooks, version 1 (https://www.standardwebhooks.com), symmetric."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SECRET_PREFIX = "whsec_"  # noqa: S105  # what a secret begins with
_MIN_BYTES, _MAX_BYTES = 24, 64


def keys_of_secrets(secrets: Iterable[str]) -> tuple[bytes, ...]:
    """Return the keys of secrets. Raises `ValueError`, which never repeats a secret, for one that cannot be used."""
    return tuple(map(_key_of, secrets))


def _key_of(secret: str) -> bytes:
    key = b""
    if secret.startswith(SECRET_PREFIX):
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
    if not _MIN_BYTES <= len(key) <= _MAX_BYTES:
        raise ValueError(
            f"each secret is {SECRET_PREFIX} and then {_MIN_BYTES} to {_MAX_BYTES} random bytes in base64. Make one "
            f'with: echo "{SECRET_PREFIX}$(openssl rand -base64 32)"'
        )
    return key


def signed_headers(keys: Sequence[bytes], webhook_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the three headers of a callback; of several keys any one lets the receiver verify it."""
    signed = b"%b.%d.%b" % (webhook_id.encode(), timestamp_s, body)
    digests = (hmac.digest(key, signed, hashlib.sha256) for key in keys)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests),
    }
