"""Paths whose segments may hold any character: an id that an outside producer chose may have a slash in it.

Servers hand over a path that is decoded as a whole, so `a%2Fb` looks like two segments. Here it is decoded again from
the bytes that came, all but slash and percent sign; a route says `{name:segment}` to have them decoded in a parameter.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.convertors import StringConvertor, register_url_convertor

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

OBJECT_ID = "{object_id:segment}"
_KEPT = re.compile(r"%(2f|25)", re.IGNORECASE)


class SegmentConvertor(StringConvertor):
    """One segment of a path as `WholeSegments` leaves it, decoded."""

    def convert(self, value: str) -> str:
        """Return the text that the segment stands for."""
        return value.replace("%2F", "/").replace("%25", "%")


register_url_convertor("segment", SegmentConvertor())


class WholeSegments:
    """ASGI middleware, outermost: all that look at the path must see the same one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as the application does."""
        if scope["type"] == "http" and b"%" in scope.get("raw_path", b""):
            scope = {**scope, "path": decoded(scope["raw_path"])}
        await self._app(scope, receive, send)


def decoded(raw_path: bytes) -> str:
    """Return a path decoded, but for the slashes and percent signs within its segments: %2F and %25."""
    path = raw_path.partition(b"?")[0].decode("latin-1")
    return unquote(_KEPT.sub(lambda found: "%25" + found[1].upper(), path))
