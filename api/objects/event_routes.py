"""An object's events: a list of those so far, or a stream that ends when the object has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response

from api.dependencies import Collaborators, Parts, documented_problems, json_response, now_ms, object_links
from api.objects import schemas
from api.objects.answers import find_object
from api.objects.event_story import Place, Story, Told, parse_place
from api.server import problems
from api.server.event_stream import HEARTBEAT, MEDIA_TYPE, EventStream, message
from api.server.paths import OBJECT_ID
from api.view.answers import describe_view
from api.view.behind import ViewBehind
from api.view.event_log import EventsUnavailable, TooSlow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

router = APIRouter(prefix="/objects", tags=["objects"])

_DEFAULT_LIMIT = 1_000
_MAX_LIMIT = 10_000
_MAX_LIST_BYTES = 8 * 1_048_576

_DOCUMENTED = {
    200: {
        "description": "With `Accept: text/event-stream`: a stream. Each event has its type, its JSON, and an id to "
        "resume from. The event `end` is the last one, with the object's state; `error` says why the stream ends early",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    },
    **documented_problems(404, 422, 503),
}


@router.get(
    f"/{OBJECT_ID}/events",
    response_model=schemas.EventPage,
    responses=_DOCUMENTED,
    summary="List or stream the events of an object",
)
async def read_events(
    object_id: str,
    request: Request,
    parts: Parts,
    *,
    after: Annotated[str | None, Query(description="Only events after the event with this id")] = None,
    limit: Annotated[
        int, Query(ge=1, le=_MAX_LIMIT, description="Maximum number of events in a list")
    ] = _DEFAULT_LIMIT,
    last_event_id: Annotated[
        str | None, Header(description="Same as `after`; browsers send it when they reconnect")
    ] = None,
) -> Response:
    """Return the events in the order of the topics. Any API process can continue exactly after a given event."""
    found = await find_object(object_id, parts)
    partition = parts.view.partition_of(object_id)
    place = _parse_after(last_event_id or after, partition, "Last-Event-ID" if last_event_id else "after")
    story = Story(object_id, partition, found, place, now_ms(parts))
    if MEDIA_TYPE in request.headers.get("accept", ""):
        return EventStream(_stream(story, parts), parts.streams.send_timeout_s)
    try:
        return await _list(story, parts, limit)
    except EventsUnavailable as error:
        raise problems.unavailable("events-unavailable", str(error)) from error


def _parse_after(text: str | None, partition: int, parameter: str) -> Place | None:
    if not text:
        return None
    place = parse_place(text)
    if place is None or place.partition != partition:
        detail = f"Input should be the id of an event of this object, such as {Place(partition, 1234).text()}"
        raise problems.invalid([{"detail": detail, "parameter": parameter}])
    return place


async def _list(story: Story, parts: Collaborators, limit: int) -> Response:
    told: list[Told] = story.first()
    size_bytes = 0
    async for more in story.past(parts.events, None):
        told += more
        size_bytes += sum(len(one.data) for one in more)
        if len(told) > limit or size_bytes > _MAX_LIST_BYTES:
            break
    listed = told[:limit]
    complete = len(listed) == len(told) and size_bytes <= _MAX_LIST_BYTES
    next_after = None if complete else listed[-1].place.text()
    path = object_links(story.object_id).events
    following = None if next_after is None else f"{path}?after={next_after}&limit={limit}"
    answer = schemas.EventPage(
        object_id=story.object_id,
        state=story.state,
        ended=story.ended,
        events=[_listed(one) for one in listed],
        next_after=next_after,
        links=schemas.PageLinks(path, following),
        view=describe_view(parts.view, now_ms(parts)),
    )
    return json_response(answer)


def _listed(told: Told) -> Any:
    """Return an event with all its fields; `schemas.EventOfObject` has those that every event has."""
    fields: dict[str, object] = msgspec.json.decode(told.data)
    return {"event_id": told.place.text(), **fields}


async def _stream(story: Story, parts: Collaborators) -> AsyncGenerator[bytes, None]:
    """Yield what has been, then what comes, until the object has ended."""
    try:
        for one in _messages(story.first()):
            yield one
        async for one in _past_only(story, parts) if story.ended else _followed(story, parts):
            yield one
        if not story.ended:
            # The ledger knows an end that these events do not tell: what is left of them, read as of any ended object.
            story = _told_again(story, parts)
            async for one in _past_only(story, parts):
                yield one
        yield message("end", {"object_id": story.object_id, "state": story.state})
    except (TooSlow, EventsUnavailable) as error:
        reason = "too-slow" if isinstance(error, TooSlow) else "events-unavailable"
        detail = f"{error}; go on with Last-Event-ID"
        yield message("error", {"reason": reason, "detail": detail})


async def _past_only(story: Story, parts: Collaborators) -> AsyncGenerator[bytes, None]:
    async for told in story.past(parts.events, None):
        for one in _messages(told):
            yield one


async def _followed(story: Story, parts: Collaborators) -> AsyncGenerator[bytes, None]:
    generation = parts.view.generation
    async with parts.events.follow(story.object_id, story.partition) as tail:
        async for told in story.past(parts.events, tail.begin):
            for one in _messages(told):
                yield one
        silent_s = 0.0
        while not story.ended:
            records = await tail.get(parts.streams.look_s)
            for one in _messages(story.take(records)):
                yield one
            if generation != parts.view.generation:
                raise EventsUnavailable("the topics were recreated")
            if records:
                silent_s = 0.0
            elif _told_again(story, parts).ended:
                return
            else:
                silent_s += parts.streams.look_s
            if silent_s >= parts.streams.heartbeat_s:
                silent_s = 0.0
                yield HEARTBEAT


def _told_again(story: Story, parts: Collaborators) -> Story:
    """Return the rest of a story, from what the ledger knows by now. Raises `EventsUnavailable`."""
    try:
        found = parts.view.look_up(story.object_id)
    except ViewBehind as error:
        raise EventsUnavailable(str(error)) from error
    if found is None:
        raise EventsUnavailable("the object has expired")
    return Story(story.object_id, story.partition, found, story.last, now_ms(parts))


def _messages(told: list[Told]) -> list[bytes]:
    return [message(one.type, one.data, one.place.text()) for one in told]
