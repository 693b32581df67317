"""Which kinds of tasks somebody works on. The rule of all who ask.

The kinds of a project's functions are known. Without a project, or with a function for `"*"`, every kind is known: then
the set of known kinds is None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.events import CALLBACK_KIND
from app.telemetry.near_names import MAX_CHARS, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Collection

_MAX_SHOWN = 10


def why_unhandled(kind: str, handled: Collection[str] | None) -> str | None:
    """Return why no function works on a kind, for people; None if a function does."""
    if kind == CALLBACK_KIND:
        return f"the kind {CALLBACK_KIND} is reserved for callbacks: name another kind"
    if handled is None or kind in handled:
        return None
    return (
        f"no function of the project works on kind {shown(kind)}{did_you_mean(kind, handled)}. There are functions for "
        f'{_list_of(handled)}: name one of these, or add @project.task("{kind[:MAX_CHARS]}") to the project, or '
        '@project.task("*") for all other kinds'
    )


def _list_of(kinds: Collection[str]) -> str:
    names = [shown(kind) for kind in sorted(kinds)[:_MAX_SHOWN]]
    more = len(kinds) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
