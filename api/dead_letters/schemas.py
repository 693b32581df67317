"""What goes in and out over HTTP about dead letters (see `api.server.schemas`)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.server.schemas import EpochMs, Kind, MaybeEpochMs, ViewAnswer  # noqa: TC001  # pydantic reads annotations when it runs
from app.rules.letter_acts import MAX_REASON_CHARS, LetterState
from app.rules.redrive_runs import RunState  # noqa: TC001  # pydantic reads annotations when it runs

MAX_RATE_PER_S = 100_000
_MAX_MS = 253_402_300_799_999

Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$", description="Of the error, 12 hexadecimal digits")]
Instant = Annotated[int, Field(ge=0, le=_MAX_MS, description="UTC epoch milliseconds")]
ErrorText = Annotated[
    str, Field(min_length=1, max_length=200, description="Text that the error's type or message contains, in any case")
]
Topic = Annotated[str, Field(min_length=1, max_length=249, description="Topic that the letter came from")]


class LettersQuery(BaseModel):
    """Which dead letters to show; all conditions must hold."""

    model_config = ConfigDict(frozen=True)

    group_by: Literal["fingerprint"] | None = Field(None, description="Groups instead of letters")
    kind: Kind | None = None
    error: ErrorText | None = None
    fingerprint: Fingerprint | None = None
    topic: Topic | None = None
    state: LetterState | None = Field(None, description="Left out: all")
    since_ms: Instant | None = Field(None, description="From this time on; groups: those that grew since")
    before_ms: Instant | None = Field(None, description="Before this time; groups: those that began before")
    limit: int = Field(50, ge=1, le=1_000, description="At most so many")
    cursor: str | None = Field(None, description="`next_cursor` of the page before; groups have none")


class RedriveWanted(BaseModel):
    """Which dead letters to redrive; all conditions must hold. Unknown fields are refused, so a typo is not lost."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    fingerprint: Fingerprint | None = None
    kind: Kind | None = None
    error: ErrorText | None = None
    topic: Topic | None = None
    since_ms: Instant | None = Field(None, description="Only letters from this time on")
    before_ms: Instant | None = Field(None, description="Only letters before this time")
    all: bool = Field(default=False, description="Must be true where no condition is given")
    dry_run: bool = Field(default=False, description="Only count")
    rate_per_s: float | None = Field(None, gt=0, le=MAX_RATE_PER_S, description="Letters a second at most")


class DiscardWanted(BaseModel):
    """Why nobody wants the letter any more."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    reason: str | None = Field(None, min_length=1, max_length=MAX_REASON_CHARS)


class ActAnswer(BaseModel):
    """Something that was done to a letter."""

    state: LetterState = Field(description="What it made of the letter")
    at_ms: EpochMs
    by: str
    reason: str | None
    redrive: int | None = Field(description="Generation of the task that it began; null: a discard")


class LetterLinks(BaseModel):
    """Where to go from here; `tasks`: of its object, null where that is not known."""

    self: str
    tasks: str | None


class LetterAnswer(BaseModel):
    """A dead letter in a list; null: not known."""

    id: str = Field(description="Partition and offset of `dead-letters`", examples=["3-17"])
    state: LetterState
    at_ms: EpochMs
    fingerprint: str
    error_type: str | None
    error: str | None = Field(description="The error's message; in lists its first 300 characters")
    topic: str | None
    kind: str | None
    task_id: str | None
    object_id: str | None
    attempts: int
    redrive: int = Field(description="How often it had been redriven before it died")
    acts: list[ActAnswer]
    links: LetterLinks


class HeaderAnswer(BaseModel):
    """A header; bytes that are no UTF-8 are shown as replacement characters."""

    name: str
    value: str


class LetterDetail(LetterAnswer):
    """A dead letter with all that is known; its value as JSON if it is, else as base64 and text to look at."""

    key: str | None
    value: Any
    value_base64: str | None
    value_text: str | None = Field(description="The first 2,000 characters of a value that is no JSON")
    value_bytes: int | None = Field(description="Length of the value; null: it is empty (a tombstone)")
    headers: list[HeaderAnswer]
    stack_trace: str | None


class LetterList(BaseModel):
    """Dead letters, newest first."""

    dead_letters: list[LetterAnswer]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null: this is the last one")
    view: ViewAnswer


class GroupAnswer(BaseModel):
    """All letters of one error: counts by state, kind and topic, and the latest error of them."""

    fingerprint: str
    count: int
    states: dict[LetterState, int]
    kinds: dict[str, int] = Field(description="The kind is empty where it is not known")
    topics: dict[str, int]
    first_at_ms: EpochMs
    last_at_ms: EpochMs
    error_type: str | None
    error: str | None


class GroupList(BaseModel):
    """Groups of dead letters, the one that grew last first."""

    groups: list[GroupAnswer]
    view: ViewAnswer


class RedriveAccepted(BaseModel):
    """The broker has the redrive; the task follows."""

    id: str
    state: Literal[LetterState.REDRIVEN]
    redrive: int = Field(description="How often it has been redriven now")
    task_id: str | None
    object_id: str | None
    links: LetterLinks


class Discarded(BaseModel):
    """The letter is marked; its bytes stay on the topic."""

    id: str
    state: Literal[LetterState.DISCARDED]
    reason: str
    links: LetterLinks


class RedriveCount(BaseModel):
    """What a redrive would do; `ids` are the first ones."""

    dry_run: Literal[True]
    count: int
    ids: list[str]
    at_limit_count: int = Field(description="Further letters that match but have been redriven 3 times")


class RunLinks(BaseModel):
    """Where to go from here."""

    self: str


class RefusedAnswer(BaseModel):
    """A letter that could not be redriven, and why."""

    id: str
    reason: str


class RunFilter(BaseModel):
    """What a redrive was asked for; a condition that is not there was not asked for."""

    fingerprint: str | None = None
    kind: str | None = None
    error: str | None = None
    topic: str | None = None
    since_ms: int | None = None
    before_ms: int | None = None


class RunAnswer(BaseModel):
    """A redrive of many letters; letters are skipped that somebody else was quicker with."""

    id: str
    state: RunState = Field(description="INTERRUPTED: its API process is gone; the same request goes on from there")
    filter: RunFilter
    by: str
    rate_per_s: float | None
    redriven_count: int
    refused_count: int
    skipped_count: int
    refused: list[RefusedAnswer] = Field(description="The first ones")
    error: str | None = Field(description="What keeps it from going on, or ended it")
    started_at_ms: EpochMs
    ended_at_ms: MaybeEpochMs
    links: RunLinks


class RunList(BaseModel):
    """The last redrives of many letters, of all API processes, newest first."""

    redrives: list[RunAnswer]
