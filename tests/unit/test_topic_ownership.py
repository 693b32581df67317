"""Which topics are ours: by the claims that were noted, never by name or shape alone."""

from __future__ import annotations

import pytest
from app.topics.catalogue.ownership import Standing, TopicClaim, decode_claim, explain_foreign, standing_of


def standing(claim: TopicClaim | None, *, empty: bool, fits: bool = True) -> str:
    """Return how a topic with the id `b` stands."""
    claims = {} if claim is None else {"objects": claim}
    found = standing_of({"objects": "b"}, claims, empty=["objects"] * empty, fitting=["objects"] * fits)
    names = [name for name in Standing.__dataclass_fields__ if getattr(found, name)]
    assert 1 == len(names)
    return names[0]


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("empty", [True, False])
def test_topic_without_a_claim_is_foreign_whatever_it_looks_like(empty, fits):
    """Even an empty one of our shape: somebody may be about to write to it."""
    assert "foreign" == standing(None, empty=empty, fits=fits)


@pytest.mark.parametrize("fits", [True, False])
@pytest.mark.parametrize("empty", [True, False])
def test_topic_whose_id_is_noted_is_ours(empty, fits):
    """No other topic ever has its id; its shape is somebody else's question."""
    assert "proven" == standing(TopicClaim("b", 1), empty=empty, fits=fits)


@pytest.mark.parametrize("claimed_id", ["", "a"])
def test_topic_that_was_made_after_our_claim_is_ours_while_it_is_empty(claimed_id):
    """A process that died before it noted the id, or an administrator who made the topic anew, as we would have."""
    assert "to_note" == standing(TopicClaim(claimed_id, 1), empty=True)
    assert "foreign" == standing(TopicClaim(claimed_id, 1), empty=True, fits=False)


def test_topic_that_was_claimed_and_written_to_before_its_id_was_noted_is_in_doubt():
    """Another process may have made it just now, and an outside producer written to it at once."""
    assert "doubtful" == standing(TopicClaim("", 1), empty=False)
    assert "foreign" == standing(TopicClaim("", 1), empty=False, fits=False)


def test_topic_made_anew_that_holds_records_is_foreign():
    """The one that we knew is gone; what took its name may be anybody's."""
    assert "foreign" == standing(TopicClaim("a", 1), empty=False)


def test_bytes_that_are_no_claim_are_told_from_one():
    """A topic `ebs-topics` may be somebody else's, too."""
    assert TopicClaim("a", 1) == decode_claim(b'{"type":"TOPIC_CLAIMED","topic_id":"a","at_ms":1,"more":2}')
    assert [None] * 4 == [
        decode_claim(value) for value in (b"", b"\xff", b"{}", b'{"type":"X","topic_id":"","at_ms":1}')
    ]


@pytest.mark.parametrize("names", [{"objects"}, {"objects", "control"}, set("abcde")])
def test_refusal_names_both_ways_on_and_deletes_nothing(names):
    """The setting if it is somebody else's, the command if it is ours."""
    said = explain_foreign(names, "kafka:9092")
    assert all(text in said for text in (min(names), "kafka:9092", "EBS_NAMESPACE=acme", "`ebs topics --adopt`"))
    assert "delete" not in said
