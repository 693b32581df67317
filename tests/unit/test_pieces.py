"""What a split returns: each item is checked as it comes, and no split can fill the memory of its worker."""

from __future__ import annotations

from itertools import count, repeat
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from ebs import Item, Reject
from ebs.pieces import MAX_ITEM_BYTES, MAX_ITEMS, MAX_SPLIT_BYTES, pieces_from, pieces_of_split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_ROOM = MAX_ITEM_BYTES - len('{"content":""}')


async def yielded(items: Any) -> AsyncIterator[Any]:
    """Yield items as an `async def` split does, without ever letting the event loop go on."""
    for one in items:
        yield one


async def both(make: Any) -> tuple[Any, Any]:
    """Return what a plain split and an async one come to: the items, or the reason of their refusal."""

    def said(error: Reject) -> str:
        return str(error)

    try:
        plain: Any = msgspec.json.decode(pieces_of_split(make(), "work:f"))
    except Reject as error:
        plain = said(error)
    try:
        awaited: Any = msgspec.json.decode(await pieces_from(yielded(make()), "the split work:f"))
    except Reject as error:
        awaited = said(error)
    return plain, awaited


async def test_items_are_contents_with_or_without_a_name() -> None:
    """A bare value is an item's content."""
    expected = [{"content": 1}, {"content": ["a"], "name": "n"}, {"content": None}]
    assert (expected, expected) == await both(lambda: [1, Item(["a"], name="n"), None])
    assert ([], []) == await both(list)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        pytest.param(count, f"has more than {MAX_ITEMS:,} items", id="items without end"),
        pytest.param(lambda: repeat("x" * _ROOM), f"more than {MAX_SPLIT_BYTES:,} bytes together", id="bytes"),
        pytest.param(lambda: ["x" * (_ROOM + 1)], f"item 0 of the split work:f has {MAX_ITEM_BYTES + 1:,}", id="large"),
        pytest.param(lambda: [1, Item(2, name=5)], "item 1 of the split work:f, a int, cannot", id="name"),  # type: ignore[arg-type]  # that is the fault
        pytest.param(lambda: ["\ud800"], "surrogates not allowed", id="surrogate"),
        pytest.param(lambda: [msgspec.Raw(b'1}, {"content":2')], "JSON is malformed", id="two in one"),
        pytest.param(lambda: [msgspec.Raw(b'{"a":')], "Input data was truncated", id="half a value"),
        pytest.param(lambda: [object()], "a object, cannot be sent as JSON", id="no JSON"),
    ],
)
async def test_items_that_cannot_be_tasks_are_refused_at_once(items: Any, words: str) -> None:
    """Without an end or not: what is taken is bounded by count and bytes."""
    plain, awaited = await both(items)
    assert words in plain
    assert plain == awaited


async def test_largest_item_fits() -> None:
    """Exactly at the bound."""
    plain, _ = await both(lambda: ["x" * _ROOM])
    assert _ROOM == len(plain[0]["content"])


async def test_as_many_items_as_an_object_may_have_fit() -> None:
    """Exactly at the bound, and none is taken beyond the first one that is too many."""
    assert MAX_ITEMS == len(msgspec.json.decode(await pieces_from(yielded(range(MAX_ITEMS)), "f")))
    taken = count()
    with pytest.raises(Reject):
        await pieces_from(yielded(taken), "f")
    assert MAX_ITEMS + 1 == next(taken)


@pytest.mark.parametrize("returned", ["abc", b"abc", {"a": 1}, None, 5])
def test_what_is_no_list_of_items_is_refused(returned: Any) -> None:
    """A text is no list of its letters."""
    with pytest.raises(Reject, match=f"returned a {type(returned).__name__}: return or yield the content of each task"):
        pieces_of_split(returned, "work:f")
