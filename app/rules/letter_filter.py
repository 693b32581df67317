"""Which dead letters match: the fields of a filter, and how a letter is compared with them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from app.rules.letter_acts import LetterState  # msgspec reads annotations when it runs


class _Described(Protocol):
    """What letters and groups have in common."""

    @property
    def kind(self) -> str: ...
    @property
    def topic(self) -> str: ...
    @property
    def error_type(self) -> str: ...
    @property
    def message(self) -> str: ...


class _Letter(_Described, Protocol):
    @property
    def state(self) -> LetterState: ...
    @property
    def object_id(self) -> str: ...


class _Group(_Described, Protocol):
    @property
    def first_at_ms(self) -> int: ...
    @property
    def last_at_ms(self) -> int: ...


class LetterFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """All conditions must hold; None: whatever. `error` is looked for in type and message, in any case.

    Times are epoch ms, `before_ms` is excluded.
    """

    fingerprint: str | None = None
    kind: str | None = None
    error: str | None = None
    topic: str | None = None
    object_id: str | None = None
    since_ms: int | None = None
    before_ms: int | None = None
    state: LetterState | None = None

    def only(self, state: LetterState) -> LetterFilter:
        """Return this filter for letters of one state."""
        return msgspec.structs.replace(self, state=state)

    def takes(self, letter: _Letter) -> bool:
        """Return whether a letter matches. The scan has already selected by time and fingerprint."""
        return self.state in {None, letter.state} and self.object_id in {None, letter.object_id} and self._takes(letter)

    def takes_group(self, group: _Group) -> bool:
        """Return whether letters of a group may be meant, their state and object aside: a group does not know them."""
        return (
            (self.since_ms is None or group.last_at_ms >= self.since_ms)
            and (self.before_ms is None or group.first_at_ms < self.before_ms)
            and self._takes(group)
        )

    def _takes(self, one: _Described) -> bool:
        return (
            self.kind in {None, one.kind}
            and self.topic in {None, one.topic}
            and (self.error is None or self.error.casefold() in f"{one.error_type}: {one.message}".casefold())
        )


CONDITIONS = tuple(name for name in LetterFilter.__struct_fields__ if name != "state")
"""The filter of a redrive of many letters: only dead letters match."""


def filter_from(asked: object) -> LetterFilter:
    """Return the filter of a query or a body that has fields of these names."""
    return msgspec.convert(asked, LetterFilter, from_attributes=True)
