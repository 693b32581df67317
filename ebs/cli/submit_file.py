"""The objects of a file: one on each line (NDJSON), or one JSON document, laid out as people like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from ebs.cli.content import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator


def objects_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield the objects of a file, one JSON text each; lines of NDJSON as they are, so that their numbers stay.

    A file whose first line is not a whole object is one document: an object, or an array of objects. What is neither
    is left to the API, which says what is wrong with each line.
    """
    head: list[bytes] = []
    for line in file:
        head.append(line)
        if line.strip():
            break
    if head and not _is_object(head[-1]):
        text = b"".join(head) + file.read(MAX_BYTES)
        objects = _objects_of(text)
        head = text.splitlines(keepends=True) if objects is None else objects
    yield from head
    yield from file


def _is_object(line: bytes) -> bool:
    from app import json_text
    from app.events import DECODE_ERRORS

    try:
        return isinstance(json_text.decode(line), dict)
    except DECODE_ERRORS:
        return False


def _objects_of(text: bytes) -> list[bytes] | None:
    """Return the objects of a document, each on one line; None if it is no document."""
    import msgspec

    from app import json_text
    from app.events import DECODE_ERRORS

    try:
        if text.lstrip().startswith(b"["):
            return [bytes(json_text.compact(one)) + b"\n" for one in msgspec.json.decode(text, type=list[msgspec.Raw])]
        msgspec.json.decode(text, type=msgspec.Raw)
        return [bytes(json_text.compact(msgspec.Raw(text))) + b"\n"]
    except DECODE_ERRORS:
        return None
