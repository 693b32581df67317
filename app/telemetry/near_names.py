"""What is said of a name that nobody knows: the known ones that are like it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CHARS = 100
"""So much of a name is shown and compared."""
_ALIKE = 0.6
"""How like a name must be to be offered, 0 to 1: `difflib`'s own choice."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the names that are like one, for a sentence: ` (did you mean "mail"?)`; "" if none is."""
    alike = difflib.get_close_matches(name[:MAX_CHARS], list(known), n=3, cutoff=_ALIKE)
    return f" (did you mean {' or '.join(map(shown, alike))}?)" if alike else ""


def shown(name: str) -> str:
    """Return a name in quotes, on one line, and not too long."""
    text = name if len(name) <= MAX_CHARS else f"{name[:MAX_CHARS]}…"
    # What a terminal would obey is escaped: other producers call a kind what they like.
    return f'"{text}"' if text.isprintable() else ascii(text)
