"""A content with a name for a task: splits return items, and clients submit them."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Item"]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task of an object: its content (any JSON value) and its name (default: the name of the object)."""

    content: Any
    name: str | None = None
