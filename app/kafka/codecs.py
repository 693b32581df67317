"""Decompressing record batches, up to a bound: aiokafka's own way lets 1 MB on a topic become gigabytes in memory.

Our own batches have lz4, unless EBS_COMPRESSION says otherwise. Brokers unpack snappy and zstd with native libraries
only, which Java cannot load from a temporary folder that is mounted noexec (Kafka 4.4: each produce request fails with
UNKNOWN_SERVER_ERROR). For lz4 they have Java code, too.

| codec | written by |
| --- | --- |
| gzip | one member or several after each other |
| snappy | Java frames it in blocks (xerial), librdkafka does not |
| lz4, zstd | frames |
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import cramjam
from aiokafka.codec import lz4_encode

from app.errors import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_UNPACKED_BYTES = 64 << 20
"""Of one record batch. Producers collect far less in a batch before they compress it."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16
_BLOCK_SIZE_BYTES = 4
_FIRST_GUESS_BYTES = 1 << 12
_USUAL_RATIO = 8


def decompress(codec: int, data: memoryview, limit_bytes: int = MAX_UNPACKED_BYTES) -> bytes:
    """Return the decompressed bytes; `codec` is the number in the attributes of the batch.

    Raises `Unreadable` for an unknown codec, for damaged data, and for more than `limit_bytes`.
    """
    name, unpack = _CODECS.get(codec, ("", None))
    if unpack is None:
        raise Unreadable(f"its compression codec, number {codec}, is not known")
    try:
        return unpack(data, limit_bytes)
    except (zlib.error, cramjam.DecompressionError, ValueError) as error:
        raise Unreadable(f"its {name} data is damaged: {error}") from error


def _gzip(data: memoryview, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    rest: bytes | memoryview = data
    while rest:
        member = zlib.decompressobj(_GZIP_WINDOW)
        # One byte more than the limit, to tell a result of exactly the limit from a larger one.
        parts.append(member.decompress(rest, limit_bytes + 1))
        limit_bytes -= len(parts[-1])
        if limit_bytes < 0:
            raise _too_large()
        if not member.eof:
            raise ValueError("they end too early")
        rest = member.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _snappy(data: memoryview, limit_bytes: int) -> bytes:
    if data[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _snappy_block(data, limit_bytes)
    parts: list[bytes] = []
    at = _XERIAL_HEADER_BYTES
    while at < len(data):
        begin = at + _BLOCK_SIZE_BYTES
        at = begin + int.from_bytes(data[begin - _BLOCK_SIZE_BYTES : begin], "big")
        if at > len(data):
            raise ValueError("they end too early")
        parts.append(_snappy_block(data[begin:at], limit_bytes))
        limit_bytes -= len(parts[-1])
    return b"".join(parts)


def _snappy_block(block: memoryview, limit_bytes: int) -> bytes:
    data = bytes(block)
    if cramjam.snappy.decompress_raw_len(data) > limit_bytes:
        raise _too_large()
    return bytes(cramjam.snappy.decompress_raw(data))


def _growing(decompress_into: Callable[[bytes, bytearray], int]) -> Callable[[memoryview, int], bytes]:
    """Return a decompressor for a codec that does not say beforehand how much comes out."""

    def unpack(data: memoryview, limit_bytes: int) -> bytes:
        packed = bytes(data)
        room_bytes = min(limit_bytes, max(_FIRST_GUESS_BYTES, _USUAL_RATIO * len(packed)))
        while True:
            room = bytearray(room_bytes)
            try:
                return bytes(memoryview(room)[: decompress_into(packed, room)])
            except cramjam.DecompressionError as error:
                if "whole buffer" not in str(error):
                    raise
                if room_bytes == limit_bytes:
                    raise _too_large() from None
            room_bytes = min(limit_bytes, _USUAL_RATIO * room_bytes)

    return unpack


def _too_large() -> Unreadable:
    return Unreadable(f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")


_CODECS: dict[int, tuple[str, Callable[[memoryview, int], bytes]]] = {
    1: ("gzip", _gzip),
    2: ("snappy", _snappy),
    3: ("lz4", _growing(cramjam.lz4.decompress_into)),
    4: ("zstd", _growing(cramjam.zstd.decompress_into)),
}

# aiokafka has no option for the level. Its 9 takes 2.3 us a record, 1 takes 0.12 us and makes one eighth instead of one
# ninth of task events (2026-11-28).
lz4_encode.__defaults__ = (1,)

NUMBERS = {"none": 0, **{name: number for number, (name, _) in _CODECS.items()}}
"""By name, what the attributes of a batch have of its codec."""
