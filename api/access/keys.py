"""API keys and what they allow; a browser's session is a signed date and name in their place.

A key that is taken out of the settings ends its sessions too: they are signed with it, and kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, NamedTuple

from app.settings.settings.security import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.settings.settings.security import SecuritySettings

READ = "read"
WRITE = "write"
SESSION_S = 12 * 3_600
"""How long a browser stays logged in."""

_MAX_CHARS = 512
_NAME_BYTES = 16


class Holder(NamedTuple):
    """Who called: the scopes, and a name that tells keys apart and tells nothing of them."""

    scopes: frozenset[str]
    name: str


class Session(NamedTuple):
    """A browser that is logged in; `name` tells it from all others, and lets nobody in."""

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
        """Return who has this key, None if nobody has."""
        digest = _digest(key[:_MAX_CHARS])
        return self._find((known, digest, known.digest) for known in self._keys)

    def session_of(self, key: str, now_s: int) -> str | None:
        """Return a session for the holder of a key, None if nobody has it."""
        if self.holder_of(key) is None:
            return None
        ends_and_name = f"{now_s + SESSION_S}.{secrets.token_hex(_NAME_BYTES)}"
        return f"{ends_and_name}.{_sign(_digest(key), ends_and_name).hex()}"

    def read_session(self, session: str, now_s: int) -> Session | None:
        """Return what a session says, None if it is over by time or not one of ours."""
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
            # All of them, each in constant time: how long it takes must not tell how much of a guess was right.
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
