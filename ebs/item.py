"""One task of an object, as whoever submits the object describes it."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Item"]


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """The content of one task, and a name for it if it shall have one of its own."""

    content: Any
    name: str | None = None
