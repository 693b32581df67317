"""Who is asking: a person's browser, which gets a page, or a program, which gets the API's JSON at the same path.

The routes here match only what a browser asks. Everything else falls through to the API's own routes, so pages can
stand at the paths that the API has, and no program's answer changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.routing import Match, Route

if TYPE_CHECKING:
    from starlette.types import Scope

FORM = "application/x-www-form-urlencoded"
_HTML = "text/html"
_JSON = "application/json"


class PageRoute(Route):
    """Matches GET of a browser."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Leave to the API what is not a browser's."""
        # The path first: this is asked of each page for every request to the API.
        found = super().matches(scope)
        return found if found[0] is not Match.NONE and wants_page(scope) else (Match.NONE, {})


class FormRoute(Route):
    """Matches POST of a form by a browser."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Leave to the API what is no form, or is sent by a program."""
        found = super().matches(scope)
        return found if found[0] is not Match.NONE and wants_page(scope) and _is_form(scope) else (Match.NONE, {})


class DataRoute(Route):
    """Matches requests that name JSON in `Accept`; for pages whose path the API does not have."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Pass over those who say nothing of JSON."""
        found = super().matches(scope)
        if found[0] is Match.NONE or _JSON not in _qualities(scope) or wants_page(scope):
            return Match.NONE, {}
        return found


def wants_page(scope: Scope) -> bool:
    """Return whether HTML is asked for by name, and not less than JSON: `*/*` alone is a program's."""
    if scope["type"] != "http":
        return False
    qualities = _qualities(scope)
    html = qualities.get(_HTML, 0.0)
    return html > 0 and html >= qualities.get(_JSON, 0.0)


def _is_form(scope: Scope) -> bool:
    return Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower() == FORM


def _qualities(scope: Scope) -> dict[str, float]:
    """Return the `q` of each media type of the Accept header (RFC 9110, 12.5.1)."""
    qualities: dict[str, float] = {}
    for part in ",".join(Headers(scope=scope).getlist("accept")).split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((value.removeprefix("q=") for value in parameters if value.startswith("q=")), "1")
        try:
            qualities[media_type] = float(quality)
        except ValueError:
            qualities[media_type] = 0.0
    return qualities
