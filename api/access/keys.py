"""API keys and what they allow; a browser's session is a signed date in their place.

A key that is taken out of the settings ends its sessions too: they are signed with it, and kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, NamedTuple

from app.security_settings import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.security_settings import SecuritySettings

READ = "read"
WRITE = "write"
SESSION_S = 12 * 3_600
"""How long a browser stays logged in."""

_MAX_CHARS = 512


class Holder(NamedTuple):
    """Who called: the scopes, and a name that tells keys apart and tells nothing of them."""

    scopes: frozenset[str]
    name: str


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
        ends_at_s = str(now_s + SESSION_S)
        return f"{ends_at_s}.{_sign(_digest(key), ends_at_s).hex()}"

    def holder_of_session(self, session: str, now_s: int) -> Holder | None:
        """Return whose session this is, None if it is over or not one of ours."""
        ends_at_s, _, signature = session[:_MAX_CHARS].partition(".")
        if not ends_at_s.isdecimal() or not ends_at_s.isascii() or int(ends_at_s) <= now_s:
            return None
        given = signature.encode("ascii", "replace")
        return self._find((known, given, _sign(known.digest, ends_at_s).hex().encode()) for known in self._keys)

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


def _sign(digest: bytes, ends_at_s: str) -> bytes:
    return hmac.digest(digest, b"ebs-session:" + ends_at_s.encode(), "sha256")
