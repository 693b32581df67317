"""Schedules whose objects nobody could work, or that nobody fires; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.rules.kinds import why_unhandled
from ebs.doctor.facts import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebs.doctor.facts import SystemFacts


def check_schedules(facts: SystemFacts) -> Iterator[Finding]:
    """Yield what keeps schedules from doing what they were set for; nothing if the API does not answer."""
    for one in facts.schedules or ():
        subject = f"schedule {one.name}"
        unhandled = why_unhandled(one.kind, facts.kinds)
        if unhandled is not None:
            why = "the tasks of its objects will die"
            yield Finding(Severity.ERROR, subject, unhandled, why, f"ebs schedule show {one.name}; set it again")
        if one.state == "NEW":
            said = "no distribution worker has taken it over"
            fix = "start a distribution worker: faust -A agents.distribution worker (or ebs up)"
            yield Finding(Severity.WARNING, subject, said, "it does not fire as it was set", fix)
    if facts.schedules:
        paused = sum(one.state == "PAUSED" for one in facts.schedules)
        yield Finding(Severity.OK, "schedules", f"{len(facts.schedules)} set, {paused} paused")
