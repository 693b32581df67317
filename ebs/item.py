"""A task that is to have more than a content: what a split returns, and what a client submits."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Item"]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One task of an object: its content (any JSON value), and its name if it is not that of the object."""

    content: Any
    name: str | None = None
