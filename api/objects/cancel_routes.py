"""Cancel objects."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from api.control.answers import commander_of
from api.control.schemas import Reason  # noqa: TC001  # FastAPI reads annotations when it runs
from api.dependencies import Parts, documented_problems, json_response, now_ms, object_links
from api.objects.answers import find_object, row_of
from api.objects.schemas import CancelAccepted
from api.server import problems
from api.server.paths import OBJECT_ID
from app.rules.commands import Cancel, CommandKey, Family
from app.rules.ledger_states import ENDED_OBJECT_STATES, state_of_object

router = APIRouter(prefix="/objects", tags=["objects"])


@router.delete(
    f"/{OBJECT_ID}",
    status_code=202,
    response_model=CancelAccepted,
    responses=documented_problems(404, 409, 422, 503),
    summary="Cancel an object",
)
async def cancel_object(
    object_id: str,
    parts: Parts,
    reason: Annotated[Reason, Query()] = "",
) -> Response:
    """Cancel the object's tasks: waiting tasks never start, running ones are cancelled, finished ones stay finished."""
    state = state_of_object(row_of(await find_object(object_id, parts)))
    if state in ENDED_OBJECT_STATES:
        detail = f"object {object_id} has ended: it is {state}"
        raise problems.conflict("already-ended", detail, {"state": state})
    command = Cancel(object_id=object_id, at_ms=now_ms(parts), reason=reason)
    seen = await commander_of(parts).put(CommandKey(Family.CANCEL_OBJECT, object_id), command)
    return json_response(CancelAccepted(object_id, "CANCELLING", seen, object_links(object_id)), 202)
