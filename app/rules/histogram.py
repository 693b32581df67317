"""A mergeable histogram of durations with a bounded relative error.

Buckets grow by the factor `GAMMA`, as in DDSketch (Masson, Rim, Lee: "DDSketch", VLDB 2019): a value x in
milliseconds falls into bucket ceil(log(x) / log(GAMMA)), so any quantile is off by at most (GAMMA - 1) / (GAMMA + 1)
= 4.76 % of its true value. Bucket `ZERO` holds 0 ms. A histogram is a plain `dict` of bucket to count: it merges by
adding, and packs into few bytes.
"""

from __future__ import annotations

from math import ceil, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GAMMA = 1.1
RELATIVE_ERROR = (GAMMA - 1) / (GAMMA + 1)
ZERO = -1

_LOG_GAMMA = log(GAMMA)
# Most durations are short; a list lookup is five times as fast as a logarithm in the statistics agent's inner loop.
_SHORT_MS = 8_192
_SHORT_BUCKETS = [ZERO] + [ceil(log(value) / _LOG_GAMMA) for value in range(1, _SHORT_MS)]


def bucket_of(value_ms: int) -> int:
    """Return the bucket of a duration of `value_ms` (0 or more)."""
    if value_ms < _SHORT_MS:
        return _SHORT_BUCKETS[value_ms]
    return ceil(log(value_ms) / _LOG_GAMMA)


def value_of(bucket: int) -> float:
    """Return the duration in ms that represents a bucket: it has the same relative distance to both ends."""
    if bucket == ZERO:
        return 0.0
    return float(2 * GAMMA**bucket / (GAMMA + 1))


def quantile(histogram: Mapping[int, int], q: float) -> float | None:
    """Return the q-quantile (0 to 1, nearest rank) in ms, or None of an empty histogram."""
    total = sum(histogram.values())
    if total == 0:
        return None
    rank = max(1, ceil(q * total))
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= rank:
            return value_of(bucket)
    raise AssertionError("the ranks of a histogram add up to its total")


def merge_into(target: dict[int, int], other: Mapping[int, int]) -> None:
    """Add the counts of `other` to `target`."""
    for bucket, count in other.items():
        target[bucket] = target.get(bucket, 0) + count
