"""What answers of several rooms have in common. Each room has its own `schemas.py` with its bodies and answers."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from api.server.documented import Documented, field_of
from app import events

_EPOCH_MS = Meta(description="UTC epoch milliseconds", examples=[1_795_489_276_303])
_MAYBE_EPOCH_MS = Meta(description="UTC epoch milliseconds; null: has not happened yet")

Kind = Annotated[events.Kind, field_of(*events.Kind.__metadata__)]
EpochMs = Annotated[int, _EPOCH_MS]
MaybeEpochMs = Annotated[int | None, _MAYBE_EPOCH_MS]
Ms = Annotated[int, Meta(ge=0, description="Milliseconds")]


class ObjectLinks(Documented, frozen=True):
    """Links."""

    self: str
    tasks: str
    events: str
    statistics: str


class ViewAnswer(Documented, frozen=True):
    """How far the answer is behind the topics."""

    lag_records: Annotated[
        int | None, Meta(description="Committed records that the view has not read yet; null: not known")
    ]
    lag_ms: Annotated[
        int | None,
        Meta(description="Age of the view: it contains everything committed before this many milliseconds"),
    ]
    as_of_ms: MaybeEpochMs


class ErrorItem(Documented, frozen=True, omit_defaults=True):
    """One error of a request: a `pointer` into the body (JSON Pointer), or a `parameter` of the query."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class ProblemDocument(Documented, frozen=True, omit_defaults=True):
    """An error (RFC 9457). Programs can rely on `type`; the texts may change."""

    type: Annotated[str, Meta(examples=["urn:ebs:problem:not-found"])]
    title: str
    status: int
    detail: str
    instance: str
    errors: list[ErrorItem] | None = None
