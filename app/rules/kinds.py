"""Which kinds have a function, and the error message for an unknown kind. All rooms use this rule.

The kinds of a project's functions are known. Without a project, or with a function for `"*"`, every kind is known: then
the set of known kinds is None.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from app.events import CALLBACK_KIND

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_MAX_SHOWN = 10
_MAX_CHARS = 100
_ALIKE = 0.6
"""How like a name must be to be offered, 0 to 1: `difflib`'s own choice."""


def why_unhandled(kind: str, handled: Collection[str] | None) -> str | None:
    """Return why no function works on a kind, for people; None if a function does."""
    if kind == CALLBACK_KIND:
        return f"the kind {CALLBACK_KIND} is reserved for callbacks: name another kind"
    if handled is None or kind in handled:
        return None
    return (
        f"no function of the project works on kind {shown(kind)}{did_you_mean(kind, handled)}. There are functions for "
        f'{_list_of(handled)}: name one of these, or add @project.task("{kind[:_MAX_CHARS]}") to the project, or '
        '@project.task("*") for all other kinds'
    )


def did_you_mean(kind: str, known: Iterable[str]) -> str:
    """Return a hint with similar names, such as ` (did you mean "mail"?)`; "" if there are none."""
    alike = difflib.get_close_matches(kind[:_MAX_CHARS], list(known), n=3, cutoff=_ALIKE)
    return f" (did you mean {' or '.join(map(shown, alike))}?)" if alike else ""


def shown(kind: str) -> str:
    """Return a kind in quotes, on one line, and not too long."""
    text = kind if len(kind) <= _MAX_CHARS else f"{kind[:_MAX_CHARS]}…"
    # Escape codes are escaped: other producers can give a kind any name.
    return f'"{text}"' if text.isprintable() else ascii(text)


def _list_of(kinds: Collection[str]) -> str:
    names = [shown(kind) for kind in sorted(kinds)[:_MAX_SHOWN]]
    more = len(kinds) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
