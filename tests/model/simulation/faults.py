"""What goes wrong with single requests, drawn by the seed until a schedule's time of trouble is over.

To add a fault: name it here with what it does, let `network.Network.carry` do it, and give it a rate in `plan`.

| kind | what happens to the request | what its sender sees |
| --- | --- | --- |
| slow | arrives later, and so does all behind it on its connection | a late answer |
| late | arrives later still | a broken connection, at once: it may repeat the request before this one arrives |
| lost request | never arrives | a broken connection |
| lost answer | is done | a broken connection |
| silent | is done | nothing, until its time-out |
| refused | is answered with an error that says "try again" | that answer |
| killed before, killed after | never arrives, or is done | nothing: it dies |
| frozen after | is done | nothing for a while: it is stopped, maybe for longer than its session lasts |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

APIS = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    8: "OffsetCommit",
    9: "OffsetFetch",
    10: "FindCoordinator",
    11: "JoinGroup",
    12: "Heartbeat",
    13: "LeaveGroup",
    14: "SyncGroup",
    15: "DescribeGroups",
    18: "ApiVersions",
    22: "InitProducerId",
    24: "AddPartitionsToTxn",
    25: "AddOffsetsToTxn",
    26: "EndTxn",
    28: "TxnOffsetCommit",
    66: "ListTransactions",
}
"""The names of the requests that there are, by their key in the protocol."""
OF_TRANSACTIONS = frozenset({"Produce", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"})
"""What a step consists of: trouble here is worth most."""
DELAYS_S: dict[str, tuple[float, float]] = {
    "slow": (0.02, 1.0),
    "late": (0.02, 0.6),
    "lost request": (0.0, 0.1),
    "lost answer": (0.0, 0.1),
    "silent": (0.0, 0.0),
    "refused": (0.0, 0.0),
    "killed before": (0.0, 0.0),
    "killed after": (0.0, 0.0),
    "frozen after": (0.05, 9.0),
}
"""How long each kind takes, from and to."""
KINDS = tuple(DELAYS_S)


class Fault(NamedTuple):
    """What happens to one request."""

    kind: str
    delay_s: float


class Faults:
    """Draws faults: each kind at its rate, of the named requests, up to an instant of virtual time."""

    def __init__(self, rng: random.Random, rates: Mapping[str, float], apis: frozenset[str], until_s: float) -> None:
        self._rng = rng
        self._rates = tuple(rates.items())
        self._apis = apis
        self._until_s = until_s

    def draw(self, api: str, now_s: float) -> Fault | None:
        """Return what happens to a request that is sent now, None if nothing does."""
        if now_s >= self._until_s or api not in self._apis:
            return None
        drawn = self._rng.random()
        for kind, rate in self._rates:
            if drawn < rate:
                return Fault(kind, self._rng.uniform(*DELAYS_S[kind]))
            drawn -= rate
        return None
