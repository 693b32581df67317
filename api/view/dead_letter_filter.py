"""Which dead letters are meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from api.view.dead_letter_summaries import Group, Summary
    from app.rules.letter_acts import LetterState
    from app.rules.redrive_runs import Wanted


class Filter(NamedTuple):
    """Which letters; None: whatever. `error` is looked for in type and message; epoch ms, `before_ms` excluded."""

    fingerprint: str | None = None
    kind: str | None = None
    error: str | None = None
    topic: str | None = None
    state: LetterState | None = None
    since_ms: int | None = None
    before_ms: int | None = None

    def takes(self, summary: Summary) -> bool:
        """Return whether a letter is meant, its time and fingerprint aside: those are what a scan goes by."""
        return (
            (self.kind is None or summary.kind == self.kind)
            and (self.topic is None or summary.topic == self.topic)
            and (self.state is None or summary.state is self.state)
            and self._takes_error(summary.error_type, summary.message)
        )

    def takes_group(self, group: Group) -> bool:
        """Return whether letters of a group may be meant, their state aside."""
        return (
            (self.kind is None or group.kind == self.kind)
            and (self.topic is None or group.topic == self.topic)
            and (self.since_ms is None or group.last_at_ms >= self.since_ms)
            and (self.before_ms is None or group.first_at_ms < self.before_ms)
            and self._takes_error(group.error_type, group.message)
        )

    def _takes_error(self, error_type: str, message: str) -> bool:
        return self.error is None or self.error.casefold() in f"{error_type}: {message}".casefold()


def filter_of(wanted: Wanted, state: LetterState | None) -> Filter:
    """Return the filter of what a run means."""
    return Filter(wanted.fingerprint, wanted.kind, wanted.error, wanted.topic, state, wanted.since_ms, wanted.before_ms)
