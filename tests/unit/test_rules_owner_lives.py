"""How deaths are counted from one owner of a partition to the next."""

from __future__ import annotations

import pytest

from app.rules.owner_lives import MAX_LIFE_BYTES, Life, follow, join, name_of, split

MEMBER = "ebs-processing-abc-0b5f7a34-90c1-4c39-8e35-12eb1c6e0f55"
OTHER = "ebs-processing-def-1b5f7a34-90c1-4c39-8e35-99eb1c6e0f99"


@pytest.mark.parametrize("progress", ["", "1:BQYF"])
@pytest.mark.parametrize("life", [Life(), Life("12eb1c6e0f55", 0), Life("", 2), Life("12eb1c6e0f55", 99)])
def test_life_comes_out_as_it_went_in(progress, life):
    """Beside any progress, within its bytes."""
    metadata = join(progress, life)
    assert (progress, life) == split(metadata)
    assert len(metadata) - len(progress) <= MAX_LIFE_BYTES


@pytest.mark.parametrize("metadata", ["", "1:BQYF", "books", "1:BQYF;", ";a.b", "1:x;name"])
def test_metadata_without_a_life_is_left_as_it_is(metadata):
    """A tool may have written it, or an older version."""
    assert (metadata, Life()) == split(metadata)


def test_name_is_of_one_member_only_and_has_no_separator():
    """The end of the UUID that the broker gave it."""
    assert ("12eb1c6e0f55", "a-b-c") == (name_of(MEMBER), name_of("a.b;c"))


@pytest.mark.parametrize(
    ("former", "members", "deaths"),
    [
        (Life(), [MEMBER], 0),  # nobody before
        (Life(name_of(OTHER), 0), [MEMBER, OTHER], 0),  # the partition moved, its owner lives
        (Life(name_of(OTHER), 1), [MEMBER, OTHER], 1),  # so do the deaths before it
        (Life("", 1), [MEMBER], 1),  # it left as it should, before what had begun was done
        (Life(name_of(OTHER), 0), [MEMBER], 1),
        (Life(name_of(OTHER), 1), [MEMBER], 2),
        (Life(name_of(OTHER), 99), [MEMBER], 99),
        (Life(name_of(MEMBER), 1), [MEMBER], 1),  # it is its own successor
        (Life(name_of(OTHER), 1), None, 1),  # nobody says who lives
    ],
)
def test_death_is_an_owner_that_is_gone_and_has_not_said_so(former, members, deaths):
    """All else is none."""
    assert Life(name_of(MEMBER), deaths) == follow(former, MEMBER, members)
