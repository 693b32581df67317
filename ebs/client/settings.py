"""The settings of a client of the API: its address and its key.

`Settings` has both too. These are read without pydantic, because most `ebs` commands need nothing else and start in a
third of the time without it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from ebs.errors import SettingsError

DEFAULT_API_URL = "http://127.0.0.1:8000"
PREFIX = "EBS_"
"""Every setting is the environment variable with this prefix and the field's name in capitals."""

_KEY = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")
_MIN_KEY_CHARS = 16


class ClientSettings(NamedTuple):
    """The address of the API, and the key (empty: none). The key must not be printed."""

    api_url: str
    api_key: str


def client_settings(url: str | None = None, key: str | None = None) -> ClientSettings:
    """Read the environment; a given `url` or `key` wins over it. Raises `SettingsError`."""
    variable = f"{PREFIX}API_KEY"
    where = variable if key is None else "api_key"
    if key is None:
        key = secret_from_file(variable)
    if key is None:
        key = os.environ.get(variable, "")
    wrong = what_is_wrong_with_keys(key)
    if wrong is not None:
        raise SettingsError(f"{where}: {wrong}")
    return ClientSettings(url or os.environ.get(f"{PREFIX}API_URL") or DEFAULT_API_URL, key)


def keys_in(text: str) -> tuple[str, ...]:
    """Return the keys of a text that holds several, separated by commas or white space."""
    return tuple(re.split(r"[\s,]+", text.strip())) if text.strip() else ()


def what_is_wrong_with_keys(text: str) -> str | None:
    """Return what keys must look like, None if all of these do."""
    if all(_KEY.fullmatch(key) for key in keys_in(text)):
        return None
    return (
        f"each key has {_MIN_KEY_CHARS} to 256 characters out of A-Z a-z 0-9 . _ ~ + / = -, several are separated "
        "by commas; make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
    )


def secret_from_file(variable: str) -> str | None:
    """Return what the file says that `<variable>_FILE` names, None if it names none. Raises `SettingsError`."""
    path = os.environ.get(f"{variable}_FILE", "")
    if not path:
        return None
    if os.environ.get(variable):
        raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one of them")
    try:
        return Path(path).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(
            f"{variable}_FILE={path} cannot be read ({reason}): name a file that this user may read"
        ) from None
