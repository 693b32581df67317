"""What the audit answers, for the OpenAPI document; its answers are held against these models by the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from api.server.schemas import ViewAnswer  # noqa: TC001  # pydantic reads annotations when it runs

if TYPE_CHECKING:
    from pydantic.config import JsonDict

_EXAMPLE: JsonDict = {
    "holds": True,
    "imbalance": 0,
    "tasks_created": 1_500,
    "queued": 20,
    "in_progress": 64,
    "waiting_retry": 3,
    "finished": 1_410,
    "dead": 2,
    "cancelled": 1,
}


class Balance(BaseModel):
    """Both sides of `tasks created = queued + in progress + waiting for retry + finished + dead + cancelled`."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    holds: bool = Field(description="Whether both sides are equal")
    imbalance: int = Field(description="Left less right: above 0 tasks are lost, below 0 counted twice")
    tasks_created: int = Field(description="Tasks that were made, of all time; a redrive makes none")
    queued: int = Field(description="Tasks that wait for a worker")
    in_progress: int = Field(description="Tasks that a handler works on")
    waiting_retry: int = Field(description="Tasks that wait for their next attempt")
    finished: int
    dead: int = Field(description="Tasks that died and were not redriven")
    cancelled: int


class AuditAnswer(Balance):
    """The law over all kinds, and for each kind; `holds` of all is true only if it holds for each."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**_EXAMPLE, "kinds": {"mail": _EXAMPLE}, "view": {"lag_records": 0, "as_of_ms": 1_795_489_276_303}}
            ]
        }
    )

    kinds: dict[str, Balance]
    view: ViewAnswer
