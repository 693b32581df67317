"""Generated objects for requests without a body.

Name and content are a function of the object's id: a repeated submit of the same id writes the same again. The texts
come from pools drawn once with a fixed seed, because 100,000 objects in one call need 200,000 of them: a pick costs 0.3
us, a mimesis sentence 1 us and a person's patience much more.
"""

from __future__ import annotations

from functools import cache

from mimesis import Text
from mimesis.locales import Locale

_SEED = 20_251_124
_POOL_SIZE = 4_096
_MIN_CONTENT_CHARS = 100
_MAX_CONTENT_CHARS = 200


def name_and_content(object_id: str) -> tuple[str, str]:
    """Return a made-up name and a content of 100 to 200 characters; `object_id` is 32 hexadecimal digits."""
    names, contents = _pools()
    number = int(object_id[:8], 16)
    return names[number % _POOL_SIZE], contents[number // _POOL_SIZE % _POOL_SIZE]


@cache
def _pools() -> tuple[list[str], list[str]]:
    text = Text(Locale.EN, seed=_SEED)
    names = [" ".join(text.words(quantity=2)) for _ in range(_POOL_SIZE)]
    return names, [_content(text) for _ in range(_POOL_SIZE)]


def _content(text: Text) -> str:
    content = str(text.sentence())
    while len(content) < _MIN_CONTENT_CHARS:
        content += " " + text.sentence()
    return content[:_MAX_CONTENT_CHARS].rstrip()
