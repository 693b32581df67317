"""What goes in and out over HTTP about dead letters (see `api.server.schemas`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.server.schemas import EpochMs, Kind, MaybeEpochMs, ViewAnswer  # noqa: TC001  # pydantic reads annotations when it runs
from app.rules.letter_acts import MAX_REASON_CHARS, LetterState
from app.rules.redrive_runs import RunState  # noqa: TC001  # pydantic reads annotations when it runs

MAX_RATE_PER_S = 100_000
_MAX_MS = 253_402_300_799_999

Fingerprint = Annotated[
    str, Field(pattern=r"^[0-9a-f]{12}$", description="Fingerprint of the error, 12 hexadecimal digits")
]
Instant = Annotated[int, Field(ge=0, le=_MAX_MS, description="UTC epoch milliseconds")]
ErrorText = Annotated[
    str, Field(min_length=1, max_length=200, description="Text in the error's type or message, ignoring case")
]
ObjectId = Annotated[str, Field(min_length=1, max_length=220, description="Only tasks of this object")]
Topic = Annotated[str, Field(min_length=1, max_length=249, description="Topic of the original record")]


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
        None, description="Died at or after this time. Groups: with a letter at or after it"
    )
    before_ms: Instant | None = Field(None, description="Died before this time. Groups: with a letter before it")
    limit: int = Field(50, ge=1, le=1_000, description="Maximum number of entries")
    cursor: str | None = Field(None, description="`next_cursor` of the previous page; groups have no pages")


class RedriveWanted(BaseModel):
    """Which dead letters to redrive; all conditions must hold. Unknown fields are refused, so a typo is not lost."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    fingerprint: Fingerprint | None = None
    kind: Kind | None = None
    error: ErrorText | None = None
    topic: Topic | None = None
    object_id: ObjectId | None = None
    since_ms: Instant | None = Field(None, description="Only letters that died at or after this time")
    before_ms: Instant | None = Field(None, description="Only letters that died before this time")
    all: bool = Field(default=False, description="Must be true if no condition is given")
    dry_run: bool = Field(default=False, description="Only count the matching letters")
    rate_per_s: float | None = Field(None, gt=0, le=MAX_RATE_PER_S, description="Maximum number of letters per second")


class DiscardWanted(BaseModel):
    """Why the letter is discarded."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: str | None = Field(None, min_length=1, max_length=MAX_REASON_CHARS)


class ActAnswer(BaseModel):
    """A redrive or discard of a letter."""

    state: LetterState = Field(description="State of the letter after the act")
    at_ms: EpochMs
    by: str
    reason: str | None
    redrive: int | None = Field(description="Number of the redrive, from 1; null: a discard")


class LetterLinks(BaseModel):
    """Links; `tasks` lists the tasks of the object, null if the object is not known."""

    self: str
    tasks: str | None


class LetterAnswer(BaseModel):
    """A dead letter in a list. null means not known."""

    id: str = Field(description="Partition and offset on `dead-letters`", examples=["3-17"])
    state: LetterState
    at_ms: EpochMs
    fingerprint: str
    error_type: str | None
    error: str | None = Field(description="Message of the error; lists have its first 300 characters")
    topic: str | None
    kind: str | None
    task_id: str | None
    object_id: str | None
    attempts: int
    redrive: int = Field(description="How often the task had been redriven before it died")
    acts: list[ActAnswer]
    links: LetterLinks


class HeaderAnswer(BaseModel):
    """A header. Bytes that are not UTF-8 are shown as replacement characters."""

    name: str
    value: str


class LetterDetail(LetterAnswer):
    """A dead letter in full. The value is JSON if possible; otherwise it is base64, with a text to read."""

    key: str | None
    value: Any
    value_base64: str | None
    value_text: str | None = Field(description="The first 2,000 characters of a value that is not JSON")
    value_bytes: int | None = Field(description="Length of the value; null: the record has no value (a tombstone)")
    headers: list[HeaderAnswer]
    stack_trace: str | None


class LetterList(BaseModel):
    """Dead letters, newest first."""

    dead_letters: list[LetterAnswer]
    next_cursor: str | None = Field(description="`cursor` of the next page; null: this is the last page")
    view: ViewAnswer


class GroupAnswer(BaseModel):
    """All letters with the same error: counts by state, kind and topic, and the latest error."""

    fingerprint: str
    count: int
    states: dict[LetterState, int]
    kinds: dict[str, int] = Field(description="Letters by kind; an empty kind means unknown")
    topics: dict[str, int]
    first_at_ms: EpochMs
    last_at_ms: EpochMs
    error_type: str | None
    error: str | None


class GroupList(BaseModel):
    """Groups of dead letters; the group with the newest letter comes first."""

    groups: list[GroupAnswer]
    view: ViewAnswer


class RedriveAccepted(BaseModel):
    """Kafka has stored the redrive; the task's new first attempt follows."""

    id: str
    state: Literal[LetterState.REDRIVEN]
    redrive: int = Field(description="How often the task has been redriven, including this time")
    task_id: str | None
    object_id: str | None
    links: LetterLinks


class Discarded(BaseModel):
    """The letter is marked as discarded. Its bytes stay on the topic."""

    id: str
    state: Literal[LetterState.DISCARDED]
    reason: str
    links: LetterLinks


class RedriveCount(BaseModel):
    """How many letters a redrive would redrive; `ids` has the first ones."""

    dry_run: Literal[True]
    count: int
    ids: list[str]
    at_limit_count: int = Field(description="Letters that match but whose tasks were already redriven 3 times")


class RunLinks(BaseModel):
    """Links."""

    self: str


class RefusedAnswer(BaseModel):
    """A letter that could not be redriven, and why."""

    id: str
    reason: str


class RunFilter(BaseModel):
    """The conditions of a redrive. Conditions that the request did not have are left out."""

    fingerprint: str | None = None
    kind: str | None = None
    error: str | None = None
    topic: str | None = None
    object_id: str | None = None
    since_ms: int | None = None
    before_ms: int | None = None


class RunAnswer(BaseModel):
    """A redrive by filter. It skips letters that another request redrove or discarded first."""

    id: str
    state: RunState = Field(
        description="INTERRUPTED: its API process has ended; send the same request again to continue"
    )
    filter: RunFilter
    by: str
    rate_per_s: float | None
    redriven_count: int
    refused_count: int
    skipped_count: int
    refused: list[RefusedAnswer] = Field(description="The first refused letters")
    error: str | None = Field(description="The error that delays the redrive or ended it")
    started_at_ms: EpochMs
    ended_at_ms: MaybeEpochMs
    links: RunLinks


class RunList(BaseModel):
    """The last redrives by filter of all API processes, newest first."""

    redrives: list[RunAnswer]
