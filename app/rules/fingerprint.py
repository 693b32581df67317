"""When two errors count as the same: type and message are equal, apart from the parts that differ by task.

Numbers, ids, quoted values, paths and addresses are removed, so a thousand tasks with the same error are one group of
dead letters. The fingerprint is a hash of the rest: the same in every process, on every machine, for ever.
"""

from __future__ import annotations

import functools
import hashlib
import re

_FINGERPRINT_BYTES = 6
_MAX_MESSAGE_CHARS = 2_000
"""Of a message that count; what `app.rules.dead_letters.message_of` leaves, so headers and errors agree."""
_MIN_HEX_CHARS = 8

_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s\"'<>`]+")
# A quote begins where no word ends and ends where no word begins: the apostrophe of "can't" is none.
_QUOTED = re.compile(
    r"""(?<![\w'])'[^'\n]*'(?!\w)|(?<![\w"])"[^"\n]*"(?!\w)|`[^`\n]*`|‘[^’\n]*’|“[^”\n]*”|«[^»\n]*»"""  # noqa: RUF001  # quotes of other alphabets are what is looked for
)
_PATH = re.compile(r"(?<![\w/\\<])(?:[A-Za-z]:[\\/]|\\\\|\.{0,2}/|~/)[^\s:;,\"'()\[\]]+")
_TOKEN = re.compile(r"[\w.:+@%-]+")
_HEX = re.compile(r"[0-9A-Fa-f]+\Z")
_REPEATED = re.compile(r"(<\w+>)(?:\s*[,;]\s*<\w+>)+")
_CUT_QUOTE = re.compile(r"(?<!\w)['\"`][^'\"`\n]*\Z")
_QUOTES = frozenset("'\"`‘“«")  # noqa: RUF001  # as above
"""The characters that can begin a quoted value."""


def fingerprint(error_type: str, message: str) -> str:
    """Return 12 hexadecimal digits for an error; of a dotted type name only the last part counts."""
    return _fingerprint(error_type.rpartition(".")[2], message)


# The attempts of a task mostly fail with the same message, and event and dead letter both need the last fingerprint.
@functools.lru_cache(maxsize=1_000)
def _fingerprint(name: str, message: str) -> str:
    pattern = f"{name}\n{generalised(message)}"
    return hashlib.blake2b(pattern.encode("utf-8", "backslashreplace"), digest_size=_FINGERPRINT_BYTES).hexdigest()


def generalised(message: str) -> str:
    """Return a message with placeholders for whatever differs from one task to the next."""
    text = message[:_MAX_MESSAGE_CHARS]
    if "://" in text:
        text = _ADDRESS.sub("<address>", text)
    if not _QUOTES.isdisjoint(text):
        text = _QUOTED.sub("<value>", text)
    if len(message) >= _MAX_MESSAGE_CHARS:
        # The cut took the quote's end, at another place in each message.
        text = _CUT_QUOTE.sub("<value>", text)
    if "/" in text or "\\" in text:
        text = _PATH.sub("<path>", text)
    text = _TOKEN.sub(_placeholder, text)
    # A list of three ids is the same error as a list of one.
    text = _REPEATED.sub(r"\1", text)
    return " ".join(text.split())


def _placeholder(token: re.Match[str]) -> str:
    word = token[0]
    if len(word) < _MIN_HEX_CHARS and word.isalpha():
        return word  # most are; each of a message is looked at, and failures come by the thousand
    bare = word.rstrip(".:-")
    if "@" in bare:
        return "<address>" + word[len(bare) :]
    if any(character.isdigit() for character in bare):
        return "<n>" + word[len(bare) :]
    if len(bare) >= _MIN_HEX_CHARS and _HEX.match(bare):
        return "<n>" + word[len(bare) :]
    return word
