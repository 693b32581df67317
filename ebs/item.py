"""A content with a name for a task: splits return items, and clients submit them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

__all__ = ["Item"]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task of an object: its content (any JSON value), and its name if it is not that of the object.

    It starts `delay_s` seconds after the object was submitted or its split has finished, or at `due_at`, a datetime
    with a time zone. Without either it starts when its object does. `key` is whose work it is, such as a customer, if
    that is not the key of the object: `per_key` counts by it.
    """

    content: Any
    name: str | None = None
    delay_s: float | None = None
    due_at: datetime | None = None
    key: str | None = None
