"""When a worker makes no progress: a rule over samples of the worker, without a clock or a broker.

A worker makes no progress if one of these is true for the whole time limit:
- a partition has visible records (up to the last stable offset, which another open transaction may hold back), the
  worker could take them, and its position does not move (the position passes transaction markers, a committed offset
  does not);
- the worker has taken records, or a step is open, and nothing is committed.
Nothing else counts. Time counts only between two samples that both saw it, and a long gap between samples (a stopped
process, a sleeping machine) counts as a short one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiokafka import TopicPartition


class Sample(NamedTuple):
    """The state of a worker at an instant (monotonic, s).

    `ends`: the end of each partition, from a separate request; None if the broker did not answer. `positions`: the next
    offset of each partition that is not held by backpressure. `backed_up`: taken records wait for room at their agent.
    `in_hand`: the work that could continue or be committed, in words. `excuse`: why no progress is needed, such as a
    rebalance; an open step must end in any case.
    """

    at_s: float
    ends: Mapping[TopicPartition, int] | None
    positions: Mapping[TopicPartition, int]
    committed_count: int
    backed_up: bool = False
    in_hand: str = ""
    step_open: bool = False
    excuse: str = ""


class StandstillRule:
    """Checks samples as they come; `limit_s` is the limit without progress, `max_gap_s` the most that a gap counts."""

    def __init__(self, limit_s: float, max_gap_s: float) -> None:
        self._limit_s = limit_s
        self._max_gap_s = max_gap_s
        self._last: Sample | None = None
        self._fetch_still_s: dict[TopicPartition, float] = {}
        self._hand_still_s = 0.0

    def observe(self, sample: Sample) -> str | None:
        """Check a sample; returns what makes no progress, for people, None if all is well."""
        last, self._last = self._last, sample
        if last is None or last.ends is None or sample.ends is None:
            # While the broker does not answer, it is not known whether there is anything to do.
            self._fetch_still_s.clear()
            self._hand_still_s = 0.0
            return None
        passed_s = min(max(0.0, sample.at_s - last.at_s), self._max_gap_s)
        return self._judge_hand(last, sample, passed_s) or self._judge_fetching(last, sample, passed_s)

    def _judge_hand(self, last: Sample, sample: Sample, passed_s: float) -> str | None:
        if sample.committed_count != last.committed_count or not (_must_commit(last) and _must_commit(sample)):
            self._hand_still_s = 0.0
            return None
        self._hand_still_s += passed_s
        if self._hand_still_s < self._limit_s:
            return None
        what = "a step is open" if sample.step_open else sample.in_hand
        return f"{what} and nothing was committed for {self._hand_still_s:.0f} s"

    def _judge_fetching(self, last: Sample, sample: Sample, passed_s: float) -> str | None:
        before, now = _lagging(last), _lagging(sample)
        self._fetch_still_s = {
            tp: self._fetch_still_s.get(tp, 0.0) + passed_s
            for tp in now
            if tp in before and last.positions[tp] == sample.positions[tp]
        }
        still = [tp for tp, still_s in self._fetch_still_s.items() if still_s >= self._limit_s]
        if not still:
            return None
        assert sample.ends is not None  # nothing lags otherwise
        tp = min(still)
        others = f" and {len(still) - 1} more partitions" if len(still) > 1 else ""
        return (
            f"{tp.topic}-{tp.partition}{others} stood still for {self._fetch_still_s[tp]:.0f} s at offset "
            f"{sample.positions[tp]}, with records up to {sample.ends[tp]}"
        )


def _must_commit(sample: Sample) -> bool:
    return sample.step_open or (bool(sample.in_hand) and not sample.excuse)


def _lagging(sample: Sample) -> set[TopicPartition]:
    if sample.ends is None or sample.excuse or sample.backed_up:
        return set()
    # An empty topic whose position is not known (below 0) has nothing to take.
    return {tp for tp, position in sample.positions.items() if sample.ends.get(tp, 0) > max(position, 0)}
