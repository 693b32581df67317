"""API keys and what they allow; a browser's session is a signed date and name in their place.

If a key is removed from the settings, its sessions end, too: they are signed with the key, and not stored.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, NamedTuple

from app.settings.security import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.settings.security import SecuritySettings

READ = "read"
WRITE = "write"
SESSION_S = 12 * 3_600
"""How long a browser stays logged in."""

_MAX_CHARS = 512
_NAME_BYTES = 16


class Holder(NamedTuple):
    """The caller: the scopes, and a name that differs for each key and does not reveal the key."""

    scopes: frozenset[str]
    name: str


class Session(NamedTuple):
    """A browser that is logged in; `name` identifies the session, and is not a secret."""

    holder: Holder
    name: str
    ends_at_s: int


class _Key(NamedTuple):
    digest: bytes
    holder: Holder


class Keys:
    """The keys that hold; empty means that everybody may do everything."""

    def __init__(self, read: Iterable[str], write: Iterable[str]) -> None:
        scopes_of = {key: frozenset({READ}) for key in read} | {key: frozenset({READ, WRITE}) for key in write}
        self._keys = [_Key(digest, Holder(scopes, digest.hex()[:8])) for digest, scopes in _digested(scopes_of.items())]

    def __bool__(self) -> bool:
        """Return whether there are any."""
        return bool(self._keys)

    def holder_of(self, key: str) -> Holder | None:
        """Return the holder of this key, None if the key is unknown."""
        digest = _digest(key[:_MAX_CHARS])
        return self._find((known, digest, known.digest) for known in self._keys)

    def session_of(self, key: str, now_s: int) -> str | None:
        """Return a session for the holder of a key, None if the key is unknown."""
        if self.holder_of(key) is None:
            return None
        ends_and_name = f"{now_s + SESSION_S}.{secrets.token_hex(_NAME_BYTES)}"
        return f"{ends_and_name}.{_sign(_digest(key), ends_and_name).hex()}"

    def read_session(self, session: str, now_s: int) -> Session | None:
        """Return the session of a cookie, None if it has expired or is not valid."""
        ends_and_name, _, signature = session[:_MAX_CHARS].rpartition(".")
        given = signature.encode("ascii", "replace")
        holder = self._find((known, given, _sign(known.digest, ends_and_name).hex().encode()) for known in self._keys)
        if holder is None:
            return None
        ends_at_s, _, name = ends_and_name.partition(".")
        return Session(holder, name, int(ends_at_s)) if int(ends_at_s) > now_s else None

    @staticmethod
    def _find(pairs: Iterable[tuple[_Key, bytes, bytes]]) -> Holder | None:
        found = None
        for known, given, right in pairs:
            # Compare with all keys, each in constant time, so that the time does not reveal parts of a key.
            if hmac.compare_digest(given, right):
                found = known.holder
        return found


def keys_from(settings: SecuritySettings) -> Keys:
    """Return the keys that the settings have."""
    return Keys(keys_of(settings.api_keys_read), keys_of(settings.api_keys_write))


def _digested(scopes_of: Iterable[tuple[str, frozenset[str]]]) -> list[tuple[bytes, frozenset[str]]]:
    return [(_digest(key), scopes) for key, scopes in scopes_of]


def _digest(key: str) -> bytes:
    # Compared in place of the keys: of one length whatever comes in, and no key lies about in memory twice.
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _sign(digest: bytes, ends_and_name: str) -> bytes:
    return hmac.digest(digest, b"ebs-session-2:" + ends_and_name.encode("utf-8", "surrogateescape"), "sha256")
