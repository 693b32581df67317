"""The statistics as a stream, one update a second."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Response

from api.dependencies import Collaborators, Parts, documented_problems
from api.server.event_stream import MEDIA_TYPE, EventStream, message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

router = APIRouter(prefix="/statistics", tags=["statistics"])

_DOCUMENTED = {
    200: {
        "description": "Events `statistics` with totals, `objects_by_state`, `rates_per_s` of the last seconds (null "
        "at first) and the lag of the view; events `unavailable` while the view has no statistics",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    **documented_problems(422),
}


@router.get("/stream", responses=_DOCUMENTED, response_class=Response, summary="Stream totals and rates, once a second")
async def stream_statistics(
    parts: Parts, *, kinds: Annotated[bool, Query(description="Include the figures of each kind")] = False
) -> Response:
    """Return Server-Sent Events. All clients share one computation; a slow client gets only the latest event."""
    return EventStream(_stream(parts, kinds=kinds), parts.streams.send_timeout_s)


async def _stream(parts: Collaborators, *, kinds: bool) -> AsyncGenerator[bytes, None]:
    async with aclosing(parts.updates.shared.follow()) as updates:
        async for update in updates:
            if update.problem is not None:
                yield message("unavailable", {"detail": update.problem})
            else:
                yield message("statistics", update.with_kinds if kinds else update.short)
