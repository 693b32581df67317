"""Unpacking: what no producer of ours writes costs nothing but itself, whatever it is."""

from __future__ import annotations

import gzip
import importlib.util
import os
import struct
from typing import TYPE_CHECKING, Any

import cramjam
import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from crafted import (
    ATTRIBUTES_AT,
    COUNT_AT,
    LAST_DELTA_AT,
    MAGIC_AT,
    TRANSACTIONAL,
    batch,
    body,
    changed,
    marker,
    sized,
    summed,
    values,
    varint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from app.kafka import codecs, reading
from app.kafka.codecs import MAX_UNPACKED_BYTES
from app.kafka.unpacking import Fetched, Unpacking
from app.kafka.unreadable import UnreadableRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import ConsumerRecord

TP = TopicPartition("objects", 3)
GZIP, SNAPPY, LZ4, ZSTD = range(1, 5)
CODECS = {"gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}
GOOD = values(5, b"five", b"six")


def unpacking(
    data: bytes,
    begin: int = 0,
    *,
    aborted: Sequence[tuple[int, int]] = (),
    isolation: int = READ_COMMITTED,
) -> Unpacking:
    """Return what a fetch from `begin` on makes of its bytes."""
    check_crcs = True
    return Unpacking(TP, Fetched(data), aborted, begin, None, None, check_crcs, isolation)


def read(data: bytes, begin: int = 0) -> tuple[list[tuple[int, bytes | str | None]], int]:
    """Return of each record its offset and value, or why it has none, and where to go on."""
    unpacked = unpacking(data, begin)
    return [told(record) for record in unpacked], unpacked.next_fetch_offset


def told(record: ConsumerRecord) -> tuple[int, bytes | str | None]:
    """Return a record's offset and its value, or why it cannot be read."""
    assert TP == (record.topic, record.partition)
    if isinstance(record, UnreadableRecord):
        assert record.value is None
        return record.offset, str(record.error)
    return record.offset, record.value


def damaged(data: bytes) -> bytes:
    """Return a batch with a bit that has turned."""
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def with_codec(codec: int, packed: bytes, *, count: int = 1) -> bytes:
    """Return a batch whose records are these compressed bytes."""
    return batch(0, packed, count=count, attributes=codec)


def plain(*bodies: bytes) -> bytes:
    """Return what is compressed in a batch."""
    return b"".join(sized(one) for one in bodies)


def lz4(data: bytes) -> bytes:
    """Compress as Java does."""
    return bytes(cramjam.lz4.compress(data))


def zstd(data: bytes) -> bytes:
    """Compress as librdkafka does."""
    return bytes(cramjam.zstd.compress(data))


def snappy(data: bytes) -> bytes:
    """Compress as librdkafka does."""
    return bytes(cramjam.snappy.compress_raw(data))


def original_fetcher() -> Any:
    """Return aiokafka's fetcher as it is without ours."""
    spec = importlib.util.find_spec("aiokafka.consumer.fetcher")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_aiokafka_unpacks_with_ours():
    """Every consumer of a process that reads with a `RecordReader`, once it is imported."""
    assert (Fetched, Unpacking) == (reading.fetcher.MemoryRecords, reading.fetcher.PartitionRecords)


@pytest.mark.parametrize("codec", [0, *CODECS.values()], ids=["none", *CODECS])
def test_sound_batches_are_what_aiokafka_makes_of_them(codec):
    """Every field of every record, from the middle of a batch on."""
    headers = [("trace", b"1"), ("null", None), ("é", b"\xff")]
    data = b"".join(values(base, b"a" * 3_000, b"", os.urandom(40), codec=codec, headers=headers) for base in (0, 3, 9))
    original, check_crcs = original_fetcher(), True
    given_of = original.PartitionRecords
    expected = list(given_of(TP, original.MemoryRecords(data), [], 1, None, None, check_crcs, READ_COMMITTED))
    assert [1, 2, 3, 4, 5, 9, 10, 11] == [record.offset for record in expected]
    assert expected == list(unpacking(data, 1))


@pytest.mark.parametrize(
    ("codec", "packed"),
    [
        (GZIP, gzip.compress(plain(body(0, b"one"))) + gzip.compress(plain(body(1, b"two")))),
        (SNAPPY, snappy(plain(body(0, b"one"), body(1, b"two")))),
        (
            SNAPPY,
            b"\x82SNAPPY\0\0\0\0\1\0\0\0\1"
            + b"".join(
                len(one).to_bytes(4, "big") + one
                for one in map(snappy, (plain(body(0, b"one")), plain(body(1, b"two"))))
            ),
        ),
        (LZ4, lz4(plain(body(0, b"one"), body(1, b"two")))),
        (ZSTD, zstd(plain(body(0, b"one"), body(1, b"two")))),
    ],
    ids=["gzip-members", "snappy-raw", "snappy-java", "lz4", "zstd"],
)
def test_other_producers_frames_are_unpacked(codec, packed):
    """What Java and librdkafka make of the same codec."""
    assert ([(0, b"one"), (1, b"two")], 2) == read(with_codec(codec, packed, count=2))


def test_header_whose_name_is_no_utf8_costs_its_record_only():
    """Key, value and headers are kept, so that it can be put right and sent again."""
    bad = body(1, b"bad", key=b"k", headers=[(b"fine", b"1"), (b"na\xffme", None)])
    unpacked = unpacking(batch(7, [body(0, b"before"), bad, body(2, b"after")]))
    before, record, after = unpacked
    assert [(7, b"before"), (9, b"after")] == [told(before), told(after)]
    assert (8, "the name of its header na\\xffme is not UTF-8") == told(record)
    assert isinstance(record, UnreadableRecord)
    assert (b"k", b"bad", (("fine", b"1"), ("na\\xffme", None))) == (record.key, record.raw, record.headers)
    assert (True, 8, 3) == (record.is_record, record.last_offset, record.serialized_value_size)
    assert 10 == unpacked.next_fetch_offset


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\0" + varint(0) + varint(1) + sized(b"k") + varint(1 << 30) + b"v", "a part of 1073741824 bytes"),
        (b"\0" + varint(0) + varint(1) + varint(400) + b"k", "a part of 400 bytes"),
        (b"\0" + varint(0) + varint(1) + sized(b"k") + sized(b"v") + varint(-3), "headers do not add up: -3 of them"),
        (b"\0" + varint(0) + varint(1) + sized(b"k") + sized(b"v") + varint(9), "headers do not add up"),
        (b"\0" + varint(0) + varint(1) + sized(b"k") + sized(b"v") + varint(1) + varint(-1), "headers do not add up"),
        (b"\0" + varint(0) + varint(1) + sized(b"k") + sized(b"v") + varint(0) + b"more", "4 bytes follow"),
        (b"\0" + b"\xff" * 20, "does not add up"),
        (b"\0" + varint(0) + varint(400) + sized(b"k") + sized(b"v") + varint(0), "its offset would be 407"),
        (b"\0" + varint(0) + varint(-4) + sized(b"k") + sized(b"v") + varint(0), "its offset would be 3"),
        (b"\0", "does not add up"),
    ],
)
def test_record_that_does_not_add_up_costs_nothing_else(bad, reason):
    """Lengths that point nowhere, numbers without an end, negative counts, an offset of somewhere else."""
    records, end = read(batch(7, [body(0, b"before"), bad, body(2, b"after")]))
    assert (7, b"before") == records[0]
    assert (9, b"after") == records[-1]
    assert [8] == [offset for offset, _ in records[1:-1]]
    assert reason in str(records[1][1])
    assert 10 == end


@pytest.mark.parametrize("length", [b"\xff" * 11, varint(-1), varint(0), varint(1 << 20), b""])
def test_length_of_a_record_that_points_nowhere_costs_the_rest_of_its_batch(length):
    """Nobody can tell where the next one begins."""
    inner = sized(body(0, b"before")) + length + b"junk"
    records, end = read(batch(7, inner, count=4) + values(11, b"after"))
    assert [7, 8, 11] == [offset for offset, _ in records]
    assert 12 == end


def test_wrong_checksum_costs_its_batch_and_the_rest_is_asked_for_again():
    """It stands for all offsets of the batch, with the bytes; where the next batch begins says how many these are."""
    bad = damaged(GOOD)
    data = values(3, b"three", b"four") + bad + values(9, b"nine")
    unpacked = unpacking(data, 4)
    first, lost = unpacked
    assert (4, b"four") == told(first)
    assert (5, "the checksum (CRC) of its batch is wrong") == told(lost)
    assert isinstance(lost, UnreadableRecord)
    assert (8, bad, False) == (lost.last_offset, lost.raw, lost.is_record)
    assert 9 == unpacked.next_fetch_offset
    assert ([(9, b"nine")], 10) == read(data, 9)


def test_lost_batch_without_another_behind_it_ends_where_it_says_twice():
    """One damaged number is not believed: then one offset is lost, and the next fetch begins behind it."""
    bad = damaged(GOOD)
    assert 7 == read(bad, 5)[1]
    assert 6 == read(changed(bad, LAST_DELTA_AT, (1 << 30).to_bytes(4, "big")), 5)[1]
    assert 6 == read(changed(bad, COUNT_AT, b"\xff\xff\xff\xff"), 5)[1]
    assert ([(6, "the checksum (CRC) of its batch is wrong")], 7) == read(bad, 6)


@pytest.mark.parametrize("magic", [3, 4, 127, -1, -128])
def test_unknown_magic_costs_its_batch(magic):
    """A newer format may look like ours and mean something else; its checksum fits, for it does not cover the magic."""
    data = changed(GOOD, MAGIC_AT, magic.to_bytes(1, "big", signed=True)) + values(7, b"seven")
    assert ([(5, f"its message format, magic {magic}, is not known")], 7) == read(data, 5)
    assert ([(7, b"seven")], 8) == read(data, 7)


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_unknown_codec_costs_its_batch(codec):
    """Three numbers are free."""
    data = with_codec(codec, b"packed", count=4) + values(4, b"four")
    assert ([(0, f"its compression codec, number {codec}, is not known")], 4) == read(data)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("junk", [b"", b"junk", os.urandom(300), b"\x82SNAPPY\0\0\0\0\1\0\0\0\1\xff\xff\xff\xff"])
def test_compressed_data_that_are_damaged_cost_their_batch(name, junk):
    """Whatever is wrong with them."""
    records, end = read(with_codec(CODECS[name], junk, count=3) + values(3, b"three"))
    assert (0, str) == (records[0][0], type(records[0][1]))
    assert ([(3, b"three")], 4) == ((records[1:], end) if end == 4 else read(values(3, b"three"), end))


def test_compressed_data_that_end_too_early_cost_their_batch():
    """Gzip would return what it has so far."""
    packed = gzip.compress(plain(body(0, b"one" * 100)))
    assert ([(0, "its gzip data is damaged: they end too early")], 1) == read(with_codec(GZIP, packed[:-9]))


@pytest.mark.parametrize(
    ("name", "compress"), [("gzip", gzip.compress), ("snappy", snappy), ("lz4", lz4), ("zstd", zstd)]
)
def test_decompression_bomb_costs_its_batch_and_no_memory(name, compress):
    """A few kilobytes on the topic become no more than the bound in memory."""
    bomb = compress(bytes(MAX_UNPACKED_BYTES + 1))
    records, end = read(with_codec(CODECS[name], bomb, count=2))
    assert ([(0, f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")], 2) == (records, end)


def test_bomb_in_many_parts_is_one():
    """Neither members of gzip nor blocks of snappy begin to count anew."""
    block = snappy(bytes(MAX_UNPACKED_BYTES // 2 + 1))
    java = b"\x82SNAPPY\0\0\0\0\1\0\0\0\1" + 2 * (len(block).to_bytes(4, "big") + block)
    member = gzip.compress(bytes(MAX_UNPACKED_BYTES // 2 + 1))
    for codec, packed in ((SNAPPY, java), (GZIP, member + member)):
        assert "more than" in str(read(with_codec(codec, packed))[0][0][1])


def test_no_more_is_unpacked_at_once_than_the_bound_and_one_batch():
    """Many batches that are each just below it are fetched again, one by one."""
    large = b"v" * (MAX_UNPACKED_BYTES - 1_000)
    data = b"".join(values(base, large, codec=GZIP) for base in range(3))
    unpacked = unpacking(data)
    assert [0, 1] == [record.offset for record in unpacked]
    assert 2 == unpacked.next_fetch_offset


@pytest.mark.parametrize("size", range(1, 75))
def test_bytes_that_are_too_short_for_a_batch_never_crash_the_process(size):
    """Aiokafka's C code reads past the end of a batch that is shorter than its header."""
    cut = GOOD[:size]
    honest = changed(cut, 8, max(0, size - 12).to_bytes(4, "big"))[:size] if size >= 12 else cut
    for data in (cut, honest, honest + values(7, b"seven")):
        records, end = read(data, 5)
        assert records[0][0] == 5
        assert isinstance(records[0][1], str)
        assert end > 5


@pytest.mark.parametrize("length", [-(1 << 31), -13, -12, -1, 0, 1, 4, (1 << 31) - 1])
def test_length_of_a_batch_that_points_nowhere_costs_one_offset(length):
    """Reading goes on at the next offset, so it never stands still."""
    records, end = read(changed(GOOD, 8, length.to_bytes(4, "big", signed=True)), 5)
    assert [5] == [offset for offset, _ in records]
    assert 6 <= end <= 7


def test_batch_that_a_fetch_has_cut_off_is_none_that_is_damaged():
    """Brokers fill a fetch to the brim; the rest comes with the next one."""
    assert ([(5, b"five"), (6, b"six")], 7) == read(GOOD + values(7, b"seven" * 100)[:200], 5)
    assert ([], 5) == read(b"", 5)


def test_aborted_transactions_are_left_out_and_markers_are_no_records():
    """As far as it is asked for; a transaction that follows one that was aborted counts."""
    mine = {"attributes": TRANSACTIONAL, "producer_id": 9}
    data = (
        batch(0, [body(0, b"aborted")], **mine)
        + marker(1, 9, aborts=True)
        + batch(2, [body(0, b"committed")], **mine)
        + marker(3, 9, aborts=False)
    )
    unpacked = unpacking(data, aborted=[(9, 0)])
    assert [(2, b"committed")] == [told(record) for record in unpacked]
    assert 4 == unpacked.next_fetch_offset
    assert [0, 2] == [record.offset for record in unpacking(data, aborted=[(9, 0)], isolation=READ_UNCOMMITTED)]


def test_damaged_end_of_an_aborted_transaction_hides_nothing_that_was_committed():
    """The fetch ends there; the broker knows that what follows is not aborted."""
    mine = {"attributes": TRANSACTIONAL, "producer_id": 9}
    data = (
        batch(0, [body(0, b"aborted")], **mine)
        + damaged(marker(1, 9, aborts=True))
        + batch(2, [body(0, b"committed")], **mine)
    )
    unpacked = unpacking(data, aborted=[(9, 0)])
    assert [(1, "the checksum (CRC) of its batch is wrong")] == [told(record) for record in unpacked]
    assert 2 == unpacked.next_fetch_offset


def legacy(magic: int, *given: bytes, codec: int = 0) -> bytes:
    """Return messages of a format before Kafka 0.11."""
    builder = LegacyRecordBatchBuilder(magic, codec, 1 << 27)
    for offset, value in enumerate(given):
        builder.append(offset, None if magic == 0 else 1_000, b"key", value)
    # A compressed message has the offset of the last one in it, as a broker writes it.
    return (len(given) - 1 if codec else 0).to_bytes(8, "big") + bytes(builder.build())[8:]


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [0, GZIP, SNAPPY])
def test_messages_of_old_formats_are_read(magic, codec):
    """They lie on topics that are older than their broker; the oldest have no time."""
    unpacked = list(unpacking(legacy(magic, b"one", b"two", codec=codec), isolation=READ_UNCOMMITTED))
    assert [b"one", b"two"] == [record.value for record in unpacked]
    assert {-1 if magic == 0 else 1_000} == {record.timestamp for record in unpacked}


@pytest.mark.parametrize("magic", [0, 1])
def test_messages_of_old_formats_that_are_damaged_are_lost_one_by_one(magic):
    """Their checksum, their size, and a bomb in one."""
    data = legacy(magic, b"one")
    assert ([(0, "the checksum (CRC) of its message is wrong")], 1) == read(data[:-1] + b"X")
    short = changed(data, 8, (20 - 12).to_bytes(4, "big"))[:20]
    assert [(0, "its message has 20 bytes, less than a header")] == read(short)[0]
    bomb = legacy(magic, bytes(MAX_UNPACKED_BYTES), codec=GZIP)
    assert f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes" == read(bomb)[0][0][1]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_whatever_the_bytes_are_reading_continues(data):
    """Any damage, also under a checksum that fits: no exception, no offset twice, and never a standstill."""
    codec = data.draw(st.integers(0, 4))
    sound = values(5, b"five", b"six" * 20, codec=codec, headers=[("h", b"1")]) + values(9, b"nine")
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(8, len(broken) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        end = len(sound) - len(values(9, b"nine"))
        broken[:end] = summed(bytes(broken[:end]))
    records, end = read(bytes(broken), 5)
    offsets = [offset for offset, _ in records]
    assert sorted(set(offsets)) == offsets
    assert not offsets or 5 <= offsets[0]
    assert end > 5


def test_bound_is_above_what_producers_collect():
    """Java's largest sensible batch.size is a megabyte or two."""
    assert codecs.MAX_UNPACKED_BYTES >= 32 << 20
    assert struct.calcsize(">qiibIhiqqqhii") == 61
    assert ATTRIBUTES_AT == 21
