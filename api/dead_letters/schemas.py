"""What goes in and out over HTTP about dead letters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType
from pydantic import BaseModel, ConfigDict, Field

from api.server.documented import Documented, RequestBody, field_of
from api.server.schemas import EpochMs, Kind, MaybeEpochMs, ViewAnswer
from app import events
from app.rules.letter_acts import MAX_REASON_CHARS, LetterState
from app.rules.letter_filter import LetterFilter
from app.rules.redrive_runs import RunState

MAX_RATE_PER_S = 100_000

_FINGERPRINT = Meta(pattern=r"^[0-9a-f]{12}\Z", description="Fingerprint of the error, 12 hexadecimal digits")
_ERROR = Meta(min_length=1, max_length=200, description="Text in the error's type or message, ignoring case")
_OBJECT_ID = Meta(min_length=1, max_length=220, description="Only tasks of this object")
_TOPIC = Meta(min_length=1, max_length=249, description="Topic of the original record")

Fingerprint = Annotated[str, _FINGERPRINT, field_of(_FINGERPRINT)]
Instant = Annotated[events.Instant, field_of(*events.Instant.__metadata__)]
ErrorText = Annotated[str, _ERROR, field_of(_ERROR)]
ObjectId = Annotated[str, _OBJECT_ID, field_of(_OBJECT_ID)]
Topic = Annotated[str, _TOPIC, field_of(_TOPIC)]


class LettersQuery(BaseModel):
    """Filter for dead letters; a letter must match all conditions."""

    model_config = ConfigDict(frozen=True)

    group_by: Literal["fingerprint"] | None = Field(None, description="Return groups instead of letters")
    kind: Kind | None = None
    error: ErrorText | None = None
    fingerprint: Fingerprint | None = None
    topic: Topic | None = None
    object_id: ObjectId | None = Field(None, description="Only tasks of this object; not for groups")
    state: LetterState | None = Field(None, description="Default: all states")
    since_ms: Instant | None = Field(
        None, description="Died at or after this time, UTC epoch milliseconds. Groups: with a letter at or after it"
    )
    before_ms: Instant | None = Field(
        None, description="Died before this time, UTC epoch milliseconds. Groups: with a letter before it"
    )
    limit: int = Field(50, ge=1, le=1_000, description="Maximum number of entries")
    cursor: str | None = Field(None, description="`next_cursor` of the previous page; groups have no pages")


class RedriveWanted(RequestBody, frozen=True):
    """Which dead letters to redrive; all conditions must hold."""

    fingerprint: Fingerprint | None = None
    kind: Kind | None = None
    error: ErrorText | None = None
    topic: Topic | None = None
    object_id: ObjectId | None = None
    since_ms: Annotated[Instant | None, Meta(description="Died at or after this time, UTC epoch milliseconds")] = None
    before_ms: Annotated[Instant | None, Meta(description="Died before this time, UTC epoch milliseconds")] = None
    all: Annotated[bool, Meta(description="Must be true if no condition is given")] = False
    dry_run: Annotated[bool, Meta(description="Only count the matching letters")] = False
    rate_per_s: (
        Annotated[float, Meta(gt=0, le=MAX_RATE_PER_S, description="Maximum number of letters per second")] | None
    ) = None


class LetterEdit(RequestBody, frozen=True):
    """A new payload. For a task it replaces the fields that it contains (name, content, kind); else it is the value."""

    payload: Annotated[msgspec.Raw | UnsetType, Meta(examples=[{"content": "without the typo"}])] = UNSET


class DiscardWanted(RequestBody, frozen=True):
    """Why the letter is discarded."""

    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS)] | None = None


class ActAnswer(Documented, frozen=True):
    """A redrive or discard of a letter."""

    state: Annotated[LetterState, Meta(description="State of the letter after the act")]
    at_ms: EpochMs
    by: str
    reason: str | None
    redrive: Annotated[int | None, Meta(description="Number of the redrive, from 1; null: a discard")]


class LetterLinks(Documented, frozen=True):
    """Links to the letter, to the tasks of its object, and to its task. null: the letter is not of a task."""

    self: str
    tasks: str | None
    task: str | None


class LetterAnswer(Documented, frozen=True, kw_only=True):
    """A dead letter in a list. null means not known."""

    id: Annotated[str, Meta(description="Partition and offset on `dead-letters`", examples=["3-17"])]
    state: LetterState
    at_ms: EpochMs
    fingerprint: str
    error_type: str | None
    error: Annotated[str | None, Meta(description="Message of the error; lists have its first 300 characters")]
    topic: str | None
    kind: str | None
    task_id: str | None
    object_id: str | None
    attempts: int
    redrive: Annotated[int, Meta(description="How often the task had been redriven before it died")]
    acts: list[ActAnswer]
    links: LetterLinks


class HeaderAnswer(Documented, frozen=True):
    """A header. Bytes that are not UTF-8 are shown as replacement characters."""

    name: str
    value: str


class LetterDetail(LetterAnswer, frozen=True, kw_only=True):
    """A dead letter in full. The value is JSON if possible; otherwise it is base64, with a text to read."""

    key: str | None
    value: Any
    value_base64: str | None
    value_text: Annotated[str | None, Meta(description="The first 2,000 characters of a value that is not JSON")]
    value_bytes: Annotated[
        int | None, Meta(description="Length of the value; null: the record has no value (a tombstone)")
    ]
    headers: list[HeaderAnswer]
    stack_trace: str | None


class LetterList(Documented, frozen=True):
    """Dead letters, newest first."""

    dead_letters: list[LetterAnswer]
    next_cursor: Annotated[str | None, Meta(description="`cursor` of the next page; null: this is the last page")]
    view: ViewAnswer


class GroupAnswer(Documented, frozen=True):
    """All letters with the same error: counts by state, kind and topic, and the latest error."""

    fingerprint: str
    count: int
    states: dict[LetterState, int]
    kinds: Annotated[dict[str, int], Meta(description="Letters by kind; an empty kind means unknown")]
    topics: dict[str, int]
    first_at_ms: EpochMs
    last_at_ms: EpochMs
    error_type: str | None
    error: str | None


class GroupList(Documented, frozen=True):
    """Groups of dead letters; the group with the newest letter comes first."""

    groups: list[GroupAnswer]
    view: ViewAnswer


class RedriveAccepted(Documented, frozen=True):
    """Kafka has stored the redrive; the task's new first attempt follows."""

    id: str
    state: Literal["REDRIVEN"]
    redrive: Annotated[int, Meta(description="How often the task has been redriven, including this time")]
    task_id: str | None
    object_id: str | None
    links: LetterLinks


class Discarded(Documented, frozen=True):
    """The letter is marked as discarded. Its bytes stay on the topic."""

    id: str
    state: Literal["DISCARDED"]
    reason: str
    links: LetterLinks


class RedriveCount(Documented, frozen=True):
    """How many letters a redrive would redrive; `ids` has the first ones."""

    dry_run: Literal[True]
    count: int
    ids: list[str]
    at_limit_count: Annotated[int, Meta(description="Letters that match but whose tasks were already redriven 3 times")]


class RunLinks(Documented, frozen=True):
    """Links."""

    self: str


class RefusedAnswer(Documented, frozen=True):
    """A letter that could not be redriven, and why."""

    id: str
    reason: str


class RunAnswer(Documented, frozen=True):
    """A redrive by filter. It skips letters that another request redrove or discarded first."""

    id: str
    state: Annotated[
        RunState,
        Meta(description="INTERRUPTED: its API process has ended; send the same request again to continue"),
    ]
    filter: LetterFilter
    by: str
    rate_per_s: float | None
    redriven_count: int
    refused_count: int
    skipped_count: int
    refused: Annotated[list[RefusedAnswer], Meta(description="The first refused letters")]
    error: Annotated[str | None, Meta(description="The error that delays the redrive or ended it")]
    started_at_ms: EpochMs
    ended_at_ms: MaybeEpochMs
    links: RunLinks


class RunList(Documented, frozen=True):
    """The last redrives by filter of all API processes, newest first."""

    redrives: list[RunAnswer]
