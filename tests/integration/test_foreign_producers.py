"""What producers that are not ours write, on a real broker: worked, or a dead letter, and nothing else waits for it."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

from api_process import ApiProcess, until
from broker_site import PARTITIONS
from checker import recounted
from crafted import ATTRIBUTES_AT, CRC_AT, MAGIC_AT, batch, body, changed, summed, values
from fleet import PATIENT
from foreign import alter_topic, object_value, produce, produce_by_console, send_batches
from plain_names import CONTROL, DEAD_LETTERS, LEDGER_CHANGELOG, OBJECTS, TASK_EVENTS, TASK_REQUESTS, WORKERS

from app.rules.dead_letters import INCOMPLETE_HEADER
from app.settings.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from broker_site import Site

PATH = "/api/dead-letters"
QUICK = {"EBS_PROCESS_TIME": "0", **PATIENT}
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
GUARANTEES: dict[str, dict[str, Any]] = {
    "plain": {"enable.idempotence": False},
    "idempotent": {"enable.idempotence": True},
    "transactional": {"transactional.id": "foreign"},
}
HUGE = 3 << 20
"""Of bytes that compress well: a topic counts what arrives."""


def letters(api: ApiProcess) -> dict[tuple[str, int], str]:
    """Return why each dead letter is one, by the topic and offset that it came from."""
    listed = api.client.get(f"{PATH}?limit=1000").json()["dead_letters"]
    found = {}
    for one in listed:
        detail = api.client.get(f"{PATH}/{one['id']}").json()
        headers = {header["name"]: header["value"] for header in detail["headers"]}
        found[one["topic"], int(headers["kafka_dlt-original-offset"])] = detail["error"]
    return found


def finished(api: ApiProcess, ids: Iterable[str]) -> bool:
    """Return whether these objects are done."""
    return all(api.client.get(f"/api/objects/{one}").json().get("state") == "FINISHED" for one in ids)


def test_objects_of_other_producers_are_worked_whatever_their_codec_and_guarantee(site: Site):
    """With each codec librdkafka, plain, idempotent and in a transaction, and Java's console producer: many at once."""
    ids = []
    for codec in CODECS:
        for guarantee, options in GUARANTEES.items():
            mine = [f"{codec}-{guarantee}-{number}" for number in range(20)]
            ids += mine
            given = [(one, object_value(one, "content " * 50)) for one in mine]
            produce(site.broker.bootstrap, OBJECTS, given, partition=1, options=options | {"compression.type": codec})
        java = [f"{codec}-java-{number}" for number in range(20)]
        ids += java
        given = [(one, object_value(one, "content " * 50)) for one in java]
        produce_by_console(site.broker.bootstrap, OBJECTS, given, codec)
    with site.workers(**QUICK) as fleet, site.api() as api:
        until(lambda: finished(api, ids), fleet.last_words)
        assert {} == letters(api)


def test_what_cannot_be_unpacked_is_a_dead_letter_and_what_follows_is_worked(site: Site):
    """A header name that is no UTF-8, and what unpacks to more than a topic takes, between objects that are fine.

    The topic of the dead letters takes less than it should, and its letters fit all the same.
    """
    limit = {"max.message.bytes": "300000"}
    asyncio.run(alter_topic(site.broker.bootstrap, DEAD_LETTERS, limit))
    named = [(b"na\xffme", b"1")]
    bootstrap = site.broker.bootstrap
    bad_header = batch(
        0,
        [
            body(0, object_value("before")),
            body(1, object_value("never"), headers=named),
            body(2, object_value("beside")),
        ],
    )
    sized = values(0, bytes(HUGE), codec=1)
    huge_object = values(0, object_value("huge", "x" * HUGE), codec=1)

    async def write() -> None:
        await send_batches(bootstrap, OBJECTS, 0, bad_header, sized, huge_object, values(0, object_value("behind")))
        for topic in (TASK_REQUESTS, TASK_EVENTS):
            await send_batches(bootstrap, topic, 0, batch(0, [body(0, b"{}", headers=named)]), sized)
        for topic in (DEAD_LETTERS, CONTROL, WORKERS, LEDGER_CHANGELOG):
            await send_batches(bootstrap, topic, 0, batch(0, [body(0, b"mine", headers=named)]))

    asyncio.run(write())
    expected = {
        (OBJECTS, 1): "the name of its header na\\xffme is not UTF-8",
        (OBJECTS, 3): "not a valid record of objects: JSON is malformed",
        (OBJECTS, 4): f"object huge has {len(object_value('huge', 'x' * HUGE))} bytes, at most",
        (TASK_REQUESTS, 0): "the name of its header",
        (TASK_REQUESTS, 1): "not a valid record of task-requests",
        (TASK_EVENTS, 0): "the name of its header",
        (TASK_EVENTS, 1): "not a valid record of task-events",
    }
    with site.workers(**QUICK) as fleet, site.api() as api:
        until(lambda: finished(api, ["before", "beside", "behind"]), fleet.last_words)
        until(lambda: len(api.client.get(f"{PATH}?limit=1000").json()["dead_letters"]) == 8, fleet.last_words)
        listed = {(one["topic"], one["id"]): one for one in api.client.get(f"{PATH}?limit=1000").json()["dead_letters"]}
        (outside,) = [one for (topic, _), one in listed.items() if topic is None]
        assert "the name of its header" in outside["error"]
        details = [api.client.get(f"{PATH}/{one['id']}").json() for one in listed.values() if one["topic"]]
        assert expected.keys() == {place_of(detail) for detail in details}
        for detail in details:
            assert expected[place_of(detail)] in detail["error"]
        cut = next(detail for detail in details if place_of(detail) == (OBJECTS, 3))
        refused = api.client.post(f"{PATH}/{cut['id']}/redrive")
        assert 409 == refused.status_code
        assert f"the first 37500 of {HUGE} bytes of its value" in refused.json()["detail"]
        # What was wrong with this one is gone from its letter: it can go back as it is.
        named_badly = next(detail for detail in details if place_of(detail) == (OBJECTS, 1))
        assert 202 == api.client.post(f"{PATH}/{named_badly['id']}/redrive").status_code
        until(lambda: finished(api, ["never"]), fleet.last_words)
        assert all(worker.exit_code is None for worker in fleet.workers.values())
        assert [] == asyncio.run(recounted(bootstrap, load(broker=bootstrap, partitions=PARTITIONS)))


def place_of(detail: dict[str, Any]) -> tuple[str, int]:
    """Return the topic and offset that a letter came from."""
    headers = {header["name"]: header["value"] for header in detail["headers"]}
    return headers["kafka_dlt-original-topic"], int(headers["kafka_dlt-original-offset"])


def test_damaged_log_costs_what_is_damaged_only(site: Site):
    """On the broker's disk a wrong checksum, an unknown magic, an unknown codec: a letter each, the rest is worked."""
    bootstrap = site.broker.bootstrap
    names = ["a", "crc", "b", "magic", "c", "codec", "d"]
    batches = [values(0, object_value(f"{name}-1"), object_value(f"{name}-2")) for name in names]
    asyncio.run(send_batches(bootstrap, OBJECTS, 2, *batches))
    asyncio.run(site.broker.stop(grace_s=30))
    (segment,) = site.broker.directory.glob("log/objects-2/00000000000000000000.log")
    data = segment.read_bytes()
    begins = [0]
    while begins[-1] < len(data):
        at = begins[-1]
        begins.append(at + 12 + int.from_bytes(data[at + 8 : at + 12], "big"))
    found = [data[begin:end] for begin, end in itertools.pairwise(begins)]
    assert len(names) == len(found)
    found[1] = changed(found[1], CRC_AT, bytes([found[1][CRC_AT] ^ 1]))
    found[3] = changed(found[3], MAGIC_AT, b"\x05")
    found[5] = summed(changed(found[5], ATTRIBUTES_AT, b"\0\x07"))
    segment.write_bytes(b"".join(found))
    asyncio.run(site.broker.start())
    with site.workers(**QUICK) as fleet, site.api() as api:
        sound = [f"{name}-{number}" for name in "abcd" for number in (1, 2)]
        until(lambda: finished(api, sound), fleet.last_words)
        until(lambda: len(letters(api)) == 3, fleet.last_words)
        assert {
            (OBJECTS, 2): "the checksum (CRC) of its batch is wrong",
            (OBJECTS, 6): "its message format, magic 5, is not known",
            (OBJECTS, 10): "its compression codec, number 7, is not known",
        } == letters(api)
    for record in site.read(DEAD_LETTERS):
        headers = dict(record.headers)
        assert str(int(headers["kafka_dlt-original-offset"]) + 1).encode() == headers["ebs-last-offset"]
        assert b"raw bytes of the log" in headers[INCOMPLETE_HEADER]
        assert found[int(headers["kafka_dlt-original-offset"]) // 2] == record.value
