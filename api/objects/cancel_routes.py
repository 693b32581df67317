"""Cancel objects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.control import schemas as control_schemas
from api.control.answers import commander_of, now_ms
from api.dependencies import Parts, documented_problems, json_response, object_links
from api.objects.answers import find_object, row_of
from api.server import problems
from api.server.paths import OBJECT_ID
from app.rules.commands import Cancel, Family, Place
from app.rules.ledger_states import ObjectState, state_of_object

router = APIRouter(prefix="/objects", tags=["objects"])

_ENDED_STATES = {ObjectState.FINISHED, ObjectState.FAILED, ObjectState.CANCELLED}


@router.delete(
    f"/{OBJECT_ID}",
    status_code=202,
    response_model=control_schemas.CancelAccepted,
    responses=documented_problems(404, 409, 422, 503),
    summary="Cancel an object",
)
async def cancel_object(
    object_id: str,
    parts: Parts,
    reason: Annotated[control_schemas.Reason, Query()] = "",
) -> Response:
    """None of its tasks starts any more and running ones are cancelled; what has finished stays finished."""
    state = state_of_object(row_of(await find_object(object_id, parts)))
    if state in _ENDED_STATES:
        detail = f"object {object_id} has ended: it is {state}"
        raise problems.conflict("already-ended", detail, {"state": state})
    command = Cancel(object_id=object_id, at_ms=now_ms(parts), reason=reason)
    seen = await commander_of(parts).put(Place(Family.CANCEL_OBJECT, object_id), command)
    return json_response({"id": object_id, "status": "CANCELLING", "seen": seen, "links": object_links(object_id)}, 202)
