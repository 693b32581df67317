"""Keeps a system away from topics that are not its own: asked before anything is made, and before anything works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.errors import ForeignTopics, TopicMismatch
from app.topics.ownership import explain_foreign, judge_topics
from app.topics.shapes import explain_mismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from app.topics.catalogue import TopicSpec
    from app.topics.ownership import TopicClaim
    from app.topics.registry import TopicRegistry
    from app.topics.shapes import TopicShape

_LOOKS = 5
"""Looks at a topic that is claimed and not noted yet, over 2 s: whoever made it notes its id within milliseconds."""


class TopicGuard:
    """Judges the topics of `specs` by what `registry` has noted; `adopt`: those that exist become this system's."""

    def __init__(self, specs: Sequence[TopicSpec], registry: TopicRegistry, bootstrap: str, *, adopt: bool) -> None:
        self._specs = specs
        self._registry = registry
        self._bootstrap = bootstrap
        self._adopt = adopt
        self._looks = 0
        self._claimed: set[str] = set()
        self.adopted: set[str] = set()

    async def claim(self, names: Iterable[str]) -> None:
        """Note that topics are about to be made."""
        claimed = await self._registry.write(dict.fromkeys(names, ""))
        self._claimed |= claimed.keys()

    async def made_by_us(self, found: Mapping[str, TopicShape], made: set[str]) -> frozenset[str] | None:
        """Return those of the topics that exist that this system made; None while that is about to be noted.

        `made` are those that this call made. Raises `ForeignTopics` if some are not this system's.
        """
        existing = found.keys() - {self._registry.topic}
        if self._registry.topic not in found:
            if existing and not self._adopt:
                raise ForeignTopics(
                    explain_foreign(existing, self._bootstrap)
                    + f". (This is noted in {self._registry.topic}, which does not exist, or may not be described by "
                    "our user)"
                )
            return frozenset()
        topic_ids = await self._registry.topic_ids(existing)
        claims = await self._registry.read()
        if not topic_ids.keys() >= existing:
            return None  # deleted meanwhile, or another broker has not heard of them yet
        await self._keep_notes(topic_ids, claims)
        ours = {name for name in made & topic_ids.keys() if claims[name].topic_id != topic_ids[name]}
        await self._note(topic_ids, claims, ours)
        return await self._judge(found, topic_ids, claims)

    async def _keep_notes(self, topic_ids: Mapping[str, str], claims: Mapping[str, TopicClaim]) -> None:
        """Note again what others have noted before our claim: compaction keeps the last record of a topic only."""
        noted = {name for name in self._claimed & topic_ids.keys() if claims[name].topic_id == topic_ids[name]}
        self._claimed -= noted
        for adopted in (False, True):
            named = {name: topic_ids[name] for name in noted if claims[name].adopted == adopted}
            await self._registry.write(named, adopted=adopted)

    async def _judge(
        self, found: Mapping[str, TopicShape], topic_ids: dict[str, str], claims: dict[str, TopicClaim]
    ) -> frozenset[str] | None:
        counts = {
            name: found[name].partition_count for name in topic_ids if _is_open(claims.get(name), topic_ids[name])
        }
        empty = set[str]()
        if counts:
            empty = await self._registry.empty_of(counts)
            # Whoever writes to a topic has noted its id before, perhaps since the last look at the notes.
            claims |= await self._registry.read()
        standing = judge_topics(
            topic_ids,
            claims,
            empty=empty,
            fitting={name for name in topic_ids if self._mismatch({name: found[name]}) is None},
        )
        if self._adopt:
            self._check_shapes({name: found[name] for name in topic_ids.keys() - standing.proven})
            await self._note(topic_ids, claims, topic_ids.keys() - standing.proven, adopted=True)
        elif standing.foreign:
            raise ForeignTopics(explain_foreign(standing.foreign, self._bootstrap))
        elif standing.to_note or standing.doubtful:
            self._looks += 1
            if self._looks < _LOOKS:
                return None
            if standing.doubtful:
                raise ForeignTopics(explain_foreign(standing.doubtful, self._bootstrap))
            await self._note(topic_ids, claims, standing.to_note, adopted=True)
        return frozenset(name for name in topic_ids if not claims[name].adopted)

    async def _note(
        self,
        topic_ids: Mapping[str, str],
        claims: dict[str, TopicClaim],
        names: Iterable[str],
        *,
        adopted: bool = False,
    ) -> None:
        noted = await self._registry.write({name: topic_ids[name] for name in names}, adopted=adopted)
        claims |= noted
        if adopted:
            self.adopted |= noted.keys()

    def _check_shapes(self, found: Mapping[str, TopicShape]) -> None:
        mismatch = self._mismatch(found)
        if mismatch is not None:
            raise TopicMismatch(mismatch)

    def _mismatch(self, found: Mapping[str, TopicShape]) -> str | None:
        return explain_mismatch(self._specs, found, self._bootstrap)


def _is_open(claim: TopicClaim | None, topic_id: str) -> bool:
    return claim is not None and claim.topic_id != topic_id
