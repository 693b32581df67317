"""Which topics belong to this system: those that it made or adopted (`ebs topics --adopt`) are recorded; pure.

A topic's configuration cannot carry a mark of ours, and its shape proves nothing: somebody else's `objects` may have
the same. So `ebs-topics` (compacted, one partition) has a record for each topic of this system, with the topic's id,
which no other topic ever has (KIP-516). A claim is written before a topic is made, its id after: a process that dies in
between leaves a claim, and a topic that is still empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TopicClaim(msgspec.Struct, frozen=True, tag="TOPIC_CLAIMED", omit_defaults=True):
    """A topic belongs to this system. The key is the topic's name; `topic_id` is empty until the topic is made.

    `adopted` is true if somebody else made the topic. Then no message advises to delete the topic.
    """

    topic_id: str
    at_ms: int
    adopted: bool = False


_decode = msgspec.json.Decoder(TopicClaim).decode


def decode_claim(value: bytes) -> TopicClaim | None:
    """Return a claim, None if these bytes are none."""
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def take_claim(claims: dict[str, TopicClaim], name: str, claim: TopicClaim) -> None:
    """Take the next claim on a topic. One without an id takes no noted id away.

    A process that was about to make the topic wrote it, while another one made the topic and noted its id.
    """
    if claim.topic_id or name not in claims:
        claims[name] = claim


@dataclass(frozen=True)
class JudgedTopics:
    """Of the topics that exist: which are `proven` ours, which are to be noted with their ids, and which are not ours.

    `doubtful` ones are claimed and not empty: whoever claimed them is about to note their ids, or has died.
    """

    proven: frozenset[str] = frozenset()
    to_note: frozenset[str] = frozenset()
    doubtful: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


def judge_topics(
    topic_ids: Mapping[str, str], claims: Mapping[str, TopicClaim], *, empty: Iterable[str], fitting: Iterable[str]
) -> JudgedTopics:
    """Judge the topics that exist, by name with their ids.

    `empty`: those that were never written to. `fitting`: those of the shape that ours have. A topic that was claimed
    and is not the one that was noted was recreated, or made by an administrator for us: it is ours while it is empty
    and as we would have made it.
    """
    proven, to_note, doubtful, foreign = set(), set(), set(), set()
    fits = set(fitting)
    blank = fits.intersection(empty)
    for name, topic_id in topic_ids.items():
        claim = claims.get(name)
        if claim is None:
            foreign.add(name)
        elif claim.topic_id == topic_id:
            proven.add(name)
        elif name in blank:
            to_note.add(name)
        elif not claim.topic_id and name in fits:
            doubtful.add(name)
        else:
            foreign.add(name)
    return JudgedTopics(frozenset(proven), frozenset(to_note), frozenset(doubtful), frozenset(foreign))


def explain_foreign(foreign: Iterable[str], bootstrap: str) -> str:
    """Say which topics are not known as ours, and the two ways on; neither deletes anything."""
    names = sorted(foreign)
    shown = ", ".join(names[:_MOST_SHOWN]) + (f" and {len(names) - _MOST_SHOWN} more" if names[_MOST_SHOWN:] else "")
    exist, made, belong = ("topic {} exists", "it", "it belongs") if len(names) == 1 else _MANY
    return (
        f"{exist.format(shown)} at {bootstrap}, and nothing says that this system made {made}. Nothing was written. If "
        f"{belong} to another system, set EBS_NAMESPACE to a name of your own (such as EBS_NAMESPACE=acme): all topics "
        f"and groups of this system begin with it. If {belong} to this system (made by an administrator or an older "
        "version, or restored), run `ebs topics --adopt`"
    )


_MANY = ("topics {} exist", "them", "they belong")
_MOST_SHOWN = 3
