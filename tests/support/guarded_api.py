"""Keys of an API that has some, and requests with them."""

from __future__ import annotations

READ, WRITE, OLD = "read-key-0123456789", "write-key-0123456789", "old-write-key-0123456789"
PAGE = {"accept": "text/html"}
FORM = {"content-type": "application/x-www-form-urlencoded", "sec-fetch-site": "same-origin"}


def bearer(key: str) -> dict[str, str]:
    """Return the header that a program sends."""
    return {"authorization": f"Bearer {key}"}


def log_in(api, key, wanted="/", **headers):
    """Send the login form."""
    return api.post("/login", data={"key": key, "next": wanted}, headers=FORM | PAGE | headers)
