"""When a program that ended is started again; pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace

REFUSED = 1
"""Exit code of a program that cannot work as it is configured (`SettingsError`, `TopicMismatch`)."""
UNDECIDED = 74
"""Exit code of a worker that waits for a person: the last line of its log names the command that decides."""
CRASHED = frozenset({70, 71})
"""Exit codes of workers that ended themselves because of a transaction in doubt: they are started again."""
_WHY = {
    REFUSED: "its configuration does not let it run",
    70: "a step failed or is in doubt",
    71: "its partitions went to another worker",
    72: "it made no progress, or its stop hung",
    73: "its topics or its group changed",
    UNDECIDED: "a person has to decide, see its last line",
}
_CURABLE = frozenset({70, 71, 72, 73, UNDECIDED, -signal.SIGKILL, -signal.SIGTERM})
"""Ends after which to start again is the cure, or that come from outside."""
UNEVENTFUL = frozenset({71, 73, -signal.SIGKILL, -signal.SIGTERM})
"""Ends that the last lines of a log say nothing about: they come from outside."""


@dataclass(frozen=True)
class RestartPolicy:
    """How patient to be; a life of at least `healthy_after_s` wipes out the failures before it.

    A program that never had such a life is given up after `crash_limit` ends that no restart is the cure for. One that
    waits for a person never is: its Kafka must run for the command that decides.
    """

    first_pause_s: float = 0.5
    max_pause_s: float = 10.0
    undecided_pause_s: float = 30.0
    """Longer than the session of a worker that has ended: the command that decides needs a group without members."""
    healthy_after_s: float = 10.0
    refusal_limit: int = 3
    crash_limit: int = 8
    """More deaths than a task needs that ends its workers, until it is found (`app.rules.owner_lives`)."""


@dataclass(frozen=True)
class Failures:
    """The failures of a program since it last ran well."""

    in_a_row: int = 0
    refusals_in_a_row: int = 0
    crashes: int = 0
    has_run_well: bool = False


def after_end(
    policy: RestartPolicy,
    before: Failures,
    *,
    exit_code: int,
    ran_s: float,
    refused: frozenset[int] = frozenset({REFUSED}),
) -> tuple[Failures, float | None]:
    """Return the failures with this end counted in, and the pause before the next start; None: do not start again.

    A crash-only end after a healthy life costs no pause: its partitions wait for it.
    """
    healthy = ran_s >= policy.healthy_after_s
    if healthy:
        before = Failures(has_run_well=True)
    refusals = before.refusals_in_a_row + 1 if exit_code in refused and not healthy else 0
    crashes = before.crashes + (exit_code not in _CURABLE)
    after = replace(before, in_a_row=before.in_a_row + 1, refusals_in_a_row=refusals, crashes=crashes)
    if refusals >= policy.refusal_limit or (crashes >= policy.crash_limit and not before.has_run_well):
        return after, None
    if exit_code == UNDECIDED:
        return after, policy.undecided_pause_s
    if exit_code in CRASHED and before.in_a_row == 0:
        return after, 0.0
    doublings = min(before.in_a_row, 30)  # a float overflows at 1,024
    return after, min(policy.first_pause_s * 2**doublings, policy.max_pause_s)


def why_ended(exit_code: int) -> str:
    """Return how a program ended, as the end of a sentence; a negative code is the signal that ended it."""
    if exit_code < 0:
        return f"it was killed ({signal.Signals(-exit_code).name})"
    why = _WHY.get(exit_code)
    return f"{why} (exit code {exit_code})" if why else f"it ended with exit code {exit_code}"
