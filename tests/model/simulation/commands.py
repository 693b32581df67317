"""What operators ask of the workers in a schedule, and the clocks that somebody sets: drawn by the seed, too.

| command | for how long |
| --- | --- |
| pause of a kind, or of all; concurrency, tasks of a key at once, rate of a kind | until it is taken back |
| start of what waits for its time, now; cancel of what waits, or of an object | once |

All that would hold tasks up for good is taken back before the trouble is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from app.rules.commands import (
    Cancel,
    CancelWaiting,
    LimitKind,
    LimitRate,
    Pause,
    StartWaiting,
    encode_command,
    filter_name,
)
from simulation.functions import MAPPED, PLAIN
from simulation.loop import EPOCH_MS

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

CLOCK_STEP_S = 90.0
"""By so much a clock is wrong: by more than any worker takes for a difference between healthy ones."""
_MAX_COMMANDS = 8
_KINDS = (MAPPED, PLAIN)


class Command(NamedTuple):
    """A record of `control`, and when it is written; `value` None takes a command back."""

    at_s: float
    key: bytes
    value: bytes | None


class ClockSet(NamedTuple):
    """From when on the clock of a worker is wrong, by how much, and for how long; all its lives have the same clock."""

    at_s: float
    worker: str
    ahead_s: float
    lasts_s: float


def draw_commands(
    rng: random.Random, until_s: float, object_ids: Sequence[str], *, in_order: bool, cancels: bool
) -> list[Command]:
    """Return what operators ask for up to an instant; if `in_order`, no limits that would change the order by key."""
    found = []
    for _ in range(rng.randint(1, _MAX_COMMANDS)):
        at_s = rng.uniform(0.1, until_s * 0.9)
        kind = rng.choice(_KINDS)
        lasting: list[tuple[str, Any]] = [
            ("pause", Pause()),
            (f"pause:{kind}", Pause()),
            (f"rate:{kind}", LimitRate(kind, rng.choice((1.0, 5.0, 50.0)))),
        ]
        if not in_order:
            lasting.append((f"limit:{kind}", LimitKind(kind, concurrency=rng.randint(1, 4))))
            lasting.append((f"limit:{kind}", LimitKind(kind, per_key=rng.randint(1, 2))))
        if rng.random() < 0.5:
            key, command = rng.choice(lasting)
            found.append(Command(at_s, key.encode(), encode_command(command)))
            found.append(Command(rng.uniform(at_s, until_s), key.encode(), None))
            continue
        once: list[tuple[str, Any]] = []
        for told in ({}, {"kind": kind}):
            start, cancel = StartWaiting(_at_ms(at_s), **told), CancelWaiting(_at_ms(at_s), **told)
            once.append((f"start:waiting:{filter_name(start)}", start))
            if cancels:
                once.append((f"cancel:waiting:{filter_name(cancel)}", cancel))
        if cancels:
            object_id = rng.choice(object_ids)
            once.append((f"cancel:object:{object_id}", Cancel(object_id=object_id, at_ms=_at_ms(at_s))))
        key, command = rng.choice(once)
        found.append(Command(at_s, key.encode(), encode_command(command)))
    lasting_keys = {one.key for one in found if one.value is None}
    # Of two commands under one key the first end may come before the second begins.
    return sorted([*found, *(Command(until_s, key, None) for key in lasting_keys)], key=lambda one: one.at_s)


def draw_clocks(rng: random.Random, until_s: float, workers: Sequence[str]) -> list[ClockSet]:
    """Return which clocks are set, forward or back."""
    return sorted(
        ClockSet(
            rng.uniform(0, until_s / 2),
            rng.choice(workers),
            rng.choice((-CLOCK_STEP_S, CLOCK_STEP_S)),
            rng.uniform(0.2, until_s),
        )
        for _ in range(rng.randint(1, 3))
    )


def _at_ms(at_s: float) -> int:
    return EPOCH_MS + round(at_s * 1_000)
