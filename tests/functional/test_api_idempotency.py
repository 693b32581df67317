"""The header `Idempotency-Key` of POST /api/objects, with the topics in memory."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import Raw
from plain_names import OBJECTS

from api.submit.payload import prepare
from api.submit.schemas import ObjectRequest
from app.errors import BrokerUnavailable, OutcomeUnknown
from app.events import ObjectCreated, decode_object
from app.rules.idempotency import object_id_of, payload_hash
from app.settings.settings import Settings

NOW_MS = 1_795_489_276_303
KEY = {"idempotency-key": '"k-1"'}


def stored(api) -> list[ObjectCreated]:
    """Return the objects on the topic."""
    return [decode_object(record.value) for log in api.topics.records.values() for record in log]


def write_as_another_process(api, payload: ObjectRequest) -> None:
    """Write the object of key k-1 as another API process does."""
    settings = Settings(partitions=4)
    one = prepare(payload, object_id_of("k-1"), settings, NOW_MS, payload.hash())
    partition, key, value = one.record
    api.topics.write(OBJECTS, partition, key, value)


def test_same_key_and_payload_get_the_same_answer(api):
    """The second answer has the status, id and Location of the first, and nothing more is written."""
    answers = [api.post(json={"name": "a", "tasks": 2}, headers=KEY) for _ in range(3)]
    assert {(202, answers[0].content, f"/api/objects/{object_id_of('k-1')}")} == {
        (answer.status_code, answer.content, answer.headers["location"]) for answer in answers
    }
    assert [object_id_of("k-1")] == [event.object_id for event in stored(api)]


@pytest.mark.parametrize("spelling", ["k-1", '"k-1"', ' "k-1" ', '"k-1"; v=1'])
def test_key_is_a_structured_string_or_bare(api, spelling):
    """The draft's quoted String and what most clients send are the same key."""
    assert object_id_of("k-1") == api.post(headers={"idempotency-key": spelling}).json()["id"]


def test_object_generated_with_a_key_is_the_same_each_time(make_api, tmp_path):
    """What is made up is a function of the key: another process makes the same object, so it is a repetition."""
    first, second = make_api(), make_api(data_dir=tmp_path / "other")
    bodies = [one.post(headers=KEY, **body).json() for one, body in ((first, {}), (second, {"json": {}}))]
    assert bodies[0] == bodies[1]
    assert stored(first) == stored(second)


@pytest.mark.parametrize(
    "other", [{"name": "b"}, {"name": "a", "tasks": 3}, {"name": "a", "kind": "k"}, {"name": "a", "content": ""}, {}]
)
def test_same_key_and_another_payload_is_a_422(api, other):
    """Whatever differs, the key was used for something else; nothing is written."""
    api.post(json={"name": "a"}, headers=KEY)
    answer = api.post(json=other, headers=KEY)
    assert (422, "urn:ebs:problem:key-reused") == (answer.status_code, answer.json()["type"])
    assert 1 == len(stored(api))


def test_spelling_of_a_payload_does_not_matter(api):
    """The order of fields and a default that is written out are the same payload."""
    api.post(content=b'{"name": "a", "tasks": 2}', headers=KEY | {"content-type": "application/json"})
    body = b'{ "tasks":2, "kind":"default", "name":"\\u0061" }'
    assert 202 == api.post(content=body, headers=KEY | {"content-type": "application/json"}).status_code


def test_changed_setting_makes_no_other_payload(make_api):
    """What was asked for counts, and not what is made of it: EBS_TASKS_PER_OBJECT may change between repetitions."""
    api = make_api(tasks_per_object=5)
    write_as_another_process(api, ObjectRequest(name="a"))  # with the setting's default, 3
    assert 202 == api.post(json={"name": "a"}, headers=KEY).status_code


@pytest.mark.parametrize("key", ["", '""', '"', '"a', "a b", "a,b", '"\\x"', "k" * 256, '"' + "k" * 256 + '"'])
def test_malformed_key_is_a_400(api, key):
    """A key that is empty, too long or no String is refused before the body is looked at."""
    answer = api.post(content=b"{", headers={"idempotency-key": key})
    assert (400, "urn:ebs:problem:bad-idempotency-key") == (answer.status_code, answer.json()["type"])
    assert [] == stored(api)


def test_two_keys_are_a_400(api):
    """Which of them counts is not guessed."""
    answer = api.post(headers=[("idempotency-key", "a"), ("idempotency-key", "b")])
    assert 400 == answer.status_code


def test_repetitions_at_the_same_moment_make_one_record(api):
    """A thousand at once share the submit that is under way, and all get its answer."""

    async def many():
        return await asyncio.gather(*(api.client.post("/api/objects", headers=KEY) for _ in range(1_000)))

    answers = api.run(many())
    assert {(202, object_id_of("k-1"))} == {(answer.status_code, answer.json()["id"]) for answer in answers}
    assert 1 == len(stored(api))


def test_other_payload_while_the_first_is_in_flight_is_a_409(api):
    """It is not known yet whether the first one will be the object, so neither success nor 422 is said."""
    gate, reached = asyncio.Event(), asyncio.Event()
    publish = api.topics.publish

    async def held(record):
        reached.set()
        await gate.wait()
        return await publish(record)

    api.topics.publish = held

    async def both():
        first = asyncio.create_task(api.client.post("/api/objects", json={"name": "a"}, headers=KEY))
        await reached.wait()
        second = await api.client.post("/api/objects", json={"name": "b"}, headers=KEY)
        gate.set()
        return await first, second

    first, second = api.run(both())
    assert (202, 409) == (first.status_code, second.status_code)
    assert "urn:ebs:problem:key-in-flight" == second.json()["type"]
    assert 422 == api.post(json={"name": "b"}, headers=KEY).status_code


def test_of_two_processes_the_one_whose_record_is_first_succeeds(api):
    """Ours was written behind another process's record that the view had not read: a repetition, or a conflict."""
    api.topics.deliver_at_once = False
    publish = api.topics.publish

    async def second(record):
        write_as_another_process(api, ObjectRequest(name="theirs"))
        offset = await publish(record)
        api.topics.deliver()
        return offset

    api.topics.publish = second
    answer = api.post(json={"name": "ours"}, headers=KEY)
    assert (422, "urn:ebs:problem:key-reused") == (answer.status_code, answer.json()["type"])
    assert ["theirs", "ours"] == [event.name for event in stored(api)]
    assert "theirs" == api.get(f"/api/objects/{object_id_of('k-1')}").json()["name"]
    assert 202 == api.post(json={"name": "theirs"}, headers=KEY).status_code


def test_record_that_comes_later_changes_nothing(api):
    """A conflicting record behind the object's own, which the view has read long ago, is not the object."""
    assert 202 == api.post(json={"name": "ours"}, headers=KEY).status_code
    write_as_another_process(api, ObjectRequest(name="theirs"))
    assert "ours" == api.get(f"/api/objects/{object_id_of('k-1')}").json()["name"]
    assert [202, 422] == [api.post(json={"name": name}, headers=KEY).status_code for name in ("ours", "theirs")]


def test_answer_waits_until_the_view_has_read_the_record(api):
    """The broker's word alone is not enough; it comes as soon as the view is there."""
    api.topics.deliver_at_once = False
    publish = api.topics.publish

    async def read_soon(record):
        asyncio.get_running_loop().call_later(0.02, api.topics.deliver)
        return await publish(record)

    api.topics.publish = read_soon
    assert 202 == api.post(headers=KEY).status_code


def test_record_that_the_view_has_not_read_yet_is_no_success(api):
    """Whether it was the first is not known: a 503 that is safe to repeat, and the repetition finds out."""
    api.topics.deliver_at_once = False
    answer = api.post(json={"name": "a"}, headers=KEY)
    assert (503, True) == (answer.status_code, answer.json()["safe_to_repeat"])
    api.topics.deliver()
    assert 202 == api.post(json={"name": "a"}, headers=KEY).status_code
    assert 1 == len(stored(api))


def test_without_a_view_nothing_is_written(make_api):
    """A key cannot be checked before the view has its store."""
    api = make_api(attached=False)
    answer = api.post(headers=KEY)
    assert (503, "urn:ebs:problem:view-behind", True) == (
        answer.status_code,
        answer.json()["type"],
        answer.json()["safe_to_repeat"],
    )
    assert [] == stored(api)


def test_answer_is_given_without_a_broker_once_the_object_is_known(api):
    """A repetition of what is stored needs nobody."""
    api.post(headers=KEY)
    api.topics.failure = BrokerUnavailable("nobody answers")
    assert [202, 503] == [api.post(headers=headers).status_code for headers in (KEY, {"idempotency-key": "k-2"})]


def test_all_waiting_requests_get_the_unknown_outcome(api):
    """Nobody is told success; the same again with the key is what makes it known."""
    api.topics.failure = OutcomeUnknown("the broker did not confirm within 8 s")

    async def both():
        return await asyncio.gather(*(api.client.post("/api/objects", headers=KEY) for _ in range(2)))

    answers = api.run(both())
    assert [(503, object_id_of("k-1"), True)] * 2 == [
        (answer.status_code, answer.json()["id"], answer.json()["safe_to_repeat"]) for answer in answers
    ]
    api.topics.failure = None
    assert 202 == api.post(headers=KEY).status_code


def test_record_without_a_hash_is_compared_by_what_it_makes(api):
    """The repetition by id of a submit whose outcome was unknown: its first record knows of no hash."""
    api.topics.failure = OutcomeUnknown("the broker did not confirm within 8 s")
    object_id = api.post(json={"name": "a"}).json()["id"]
    api.topics.failure = None
    one = prepare(ObjectRequest(name="a"), object_id, Settings(partitions=4), NOW_MS)
    api.topics.write(OBJECTS, *one.record)
    statuses = [api.post(json={"name": name, "id": object_id}).status_code for name in ("a", "b")]
    assert [202, 422] == statuses


def test_id_and_key_may_not_differ(api):
    """An id beside a key is taken only if it is the key's."""
    statuses = [api.post(json={"id": one}, headers=KEY).status_code for one in ("0" * 32, object_id_of("k-1"))]
    assert [422, 202] == statuses


def test_many_objects_of_one_key_are_made_once(api):
    """`?count=N` with a key makes N objects, again and again the same ones; another count is another payload."""
    first = api.post("/api/objects?count=2500", headers=KEY)
    second = api.post("/api/objects?count=2500", headers=KEY)
    assert (202, first.json()) == (second.status_code, second.json())
    assert 2_500 == len(stored(api)) == len(set(first.json()["ids"]))
    assert 422 == api.post("/api/objects?count=2501", headers=KEY).status_code


def test_many_that_broke_off_go_on_with_the_same_key(api):
    """What is missing is made by the same call again."""
    api.topics.failure = OutcomeUnknown("the broker did not confirm within 8 s")
    api.topics.fail_after_calls = 1
    broken = api.post("/api/objects?count=5000", headers=KEY)
    assert (503, True, 2_000) == (broken.status_code, broken.json()["safe_to_repeat"], len(stored(api)))
    api.topics.failure = None
    assert 202 == api.post("/api/objects?count=5000", headers=KEY).status_code
    assert 5_000 == len(stored(api)) == len({event.object_id for event in stored(api)})


def test_repetition_is_recognised_by_the_value_of_the_contents(api):
    """Another order of keys is the same object; another content of an item is another one."""
    wanted = [b'{"tasks":[{"content":{"a":1,"b":2}}]}', b'{ "tasks": [ {"content": {"b": 2, "a": 1}} ] }']
    headers = KEY | {"content-type": "application/json"}
    assert {202} == {api.post("/api/objects", content=one, headers=headers).status_code for one in wanted}
    assert 1 == len(stored(api))
    assert 422 == api.post("/api/objects", json={"tasks": [{"content": {"a": 1, "b": 3}}]}, headers=KEY).status_code


def test_hash_tells_payloads_apart():
    """No two payloads of different fields have the same hash, and it never changes."""
    payloads = [(None, None, "k", None), ("", None, "k", None), (None, Raw(b'""'), "k", None), (None, None, "k", 1)]
    assert 4 == len({payload_hash(*payload) for payload in payloads})
    assert "3ebf66a0afab0e19282cc6f85ac6deb5" == payload_hash("name", Raw(b'"content"'), "default", 3)
    assert "adeba4e0db70049d29db677e6e38d03e" == object_id_of("k-1")
