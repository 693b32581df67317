"""Commands over HTTP: what they write to `control`, what is in force then, and what is refused."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from histories import made_fact
from plain_names import CONTROL, WORKERS

from api.control import schemas
from api.objects.schemas import CancelAccepted
from api.server.schemas import ProblemDocument
from app.errors import BrokerUnavailable, OutcomeUnknown
from app.events import ObjectCreated, TaskCancelled, TaskFinished, TaskStarted, task_id_of
from app.rules.commands import Pause, encode_command
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.tally import Tally
from app.rules.worker_heartbeats import WorkerFigures, WorkerIdentity, heartbeat_of

if TYPE_CHECKING:
    import httpx

JSON = {"content-type": "application/json"}
NOW_MS = 1_795_489_276_303
DAY_MS = 86_400_000


def written(api) -> list[tuple[str, Any]]:
    """Return keys and JSON values on the topic, in order."""
    log = api.topics.records[CONTROL, 0]
    return [(record.key.decode(), None if record.value is None else json.loads(record.value)) for record in log]


def ask(api, method: str, path: str, body: Any = None) -> httpx.Response:
    """Send a request, with a JSON body if there is one."""
    return api.request(method, path, **({} if body is None else {"json": body}))


def in_force(api) -> dict[str, Any]:
    """Return what GET says, which must be as documented, without what is null or empty."""
    answer = api.get("/api/control").json()
    msgspec.convert(answer, schemas.ControlAnswer)
    return {name: value for name, value in without_nulls(answer).items() if value and name != "view"}


def without_nulls(value: Any) -> Any:
    """Return a JSON value without the fields that are null."""
    if isinstance(value, list):
        return [without_nulls(one) for one in value]
    if isinstance(value, dict):
        return {name: without_nulls(one) for name, one in value.items() if one is not None}
    return value


def write_object(api, *, finished: int = 0, cancelled: int = 0, tasks: int = 2) -> None:
    """Let object `a1` exist, with some of its tasks ended and the others under way."""
    event = ObjectCreated(object_id="a1", kind="mail", name="n", content="c", at_ms=NOW_MS)
    api.topics.write_object(event)
    row, tally = ObjectRow(), Tally()
    apply_object_created(row, event, tally)
    for sequence in range(tasks):
        common = ("a1", task_id_of("a1", sequence), 0, "mail", sequence, 2, 1)
        apply_task_event(row, made_fact("c", *common, NOW_MS), tally)
        apply_task_event(row, TaskStarted("s", *common, NOW_MS, "w", 0), tally)
        if sequence < finished:
            apply_task_event(row, TaskFinished("f", *common, NOW_MS, "w", 0, 0), tally)
        elif sequence < finished + cancelled:
            apply_task_event(row, TaskCancelled("x", *common, NOW_MS), tally)
    api.topics.write_row("a1", row)


def write_worker(api, name: str, role: str = "processing") -> None:
    """Let a worker be heard now."""
    identity = WorkerIdentity(name, role, "0.1.0", "host", 1, NOW_MS)
    api.topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, WorkerFigures(), NOW_MS))


@pytest.mark.parametrize("prefix", ["/api", ""])
def test_nothing_is_in_force_at_first(api, prefix):
    """A system that nobody has ever controlled says so, and how fresh the answer is."""
    answer = api.get(f"{prefix}/control")
    assert {} == in_force(api)
    assert (200, {"lag_records", "lag_ms", "as_of_ms"}) == (answer.status_code, set(answer.json()["view"]))


PAUSED = {"type": "PAUSE", "at_ms": NOW_MS, "reason": ""}
RULES = [
    ("POST", "pause", None, ("pause", PAUSED), {"paused": {"at_ms": NOW_MS, "reason": ""}}),
    (
        "POST",
        "pause",
        {"kind": "mail", "reason": "down"},
        ("pause:mail", PAUSED | {"reason": "down"}),
        {"paused_kinds": {"mail": {"at_ms": NOW_MS, "reason": "down"}}},
    ),
    (
        "PUT",
        "rate/mail",
        {"per_s": 2.5},
        ("rate:mail", {"type": "RATE", "kind": "mail", "per_s": 2.5, "at_ms": NOW_MS}),
        {"rates": {"mail": 2.5}},
    ),
    (
        "PUT",
        "concurrency",
        {"count": 8},
        ("concurrency", {"type": "CONCURRENCY", "count": 8, "at_ms": NOW_MS}),
        {"concurrency": 8},
    ),
    (
        "PUT",
        "concurrency",
        {"count": 2, "worker": "p-1"},
        ("concurrency:p-1", {"type": "CONCURRENCY", "count": 2, "at_ms": NOW_MS}),
        {"concurrency_of_workers": {"p-1": 2}},
    ),
    (
        "POST",
        "drain/p-1",
        None,
        ("drain:p-1", {"type": "DRAIN", "at_ms": NOW_MS, "reason": ""}),
        {"draining": {"p-1": {"at_ms": NOW_MS, "reason": ""}}},
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("prefix", ["/api", ""])
def test_rule_is_written_and_in_force(api, prefix, rule):
    """202 with the key and what is in force, one record as the contract says; GET says the same."""
    method, path, body, record, described = rule
    write_worker(api, "p-1")
    answer = ask(api, method, f"{prefix}/control/{path}", body)
    accepted = msgspec.convert(answer.json(), schemas.CommandAccepted)
    assert (202, record[0], True) == (answer.status_code, accepted.key, accepted.seen)
    assert [record] == written(api)
    assert described == in_force(api)
    assert answer.json()["control"] == {name: api.get("/api/control").json()[name] for name in answer.json()["control"]}


C = "/api/control"
UNDONE = [
    (("POST", f"{C}/pause", None), ("POST", f"{C}/resume", None)),
    (("POST", f"{C}/pause", {"kind": "mail"}), ("POST", f"{C}/resume", {"kind": "mail"})),
    (("PUT", f"{C}/rate/mail", {"per_s": 1}), ("DELETE", f"{C}/rate/mail", None)),
    (("PUT", f"{C}/concurrency", {"count": 8}), ("DELETE", f"{C}/concurrency", None)),
    (("PUT", f"{C}/concurrency", {"count": 8, "worker": "p-1"}), ("DELETE", f"{C}/concurrency?worker=p-1", None)),
    (("POST", f"{C}/drain/p-1", None), ("DELETE", f"{C}/drain/p-1", None)),
]


@pytest.mark.parametrize(("rule", "undoing"), UNDONE, ids=str)
def test_rule_is_undone_by_a_tombstone(api, rule, undoing):
    """The same key with a null value; doing it twice is no error."""
    write_worker(api, "p-1")
    ask(api, *rule)
    assert [202, 202] == [ask(api, *undoing).status_code for _ in range(2)]
    (key, value), *tombstones = written(api)
    assert value is not None
    assert [(key, None)] * 2 == tombstones
    assert {} == in_force(api)


def test_resume_of_all_leaves_the_pauses_of_kinds(api):
    """Who paused one kind had a reason of his own; the answer shows what is still paused."""
    api.post("/api/control/pause", json={})
    api.post("/api/control/pause", json={"kind": "mail"})
    control = api.post("/api/control/resume").json()["control"]
    assert (None, ["mail"]) == (control["paused"], list(control["paused_kinds"]))


def test_pause_of_a_breaker_says_so(api):
    """Which worker and why, for people and for programs; a person undoes it like any other."""
    pause = Pause(NOW_MS, "breaker of worker w1: 64 of 100 ...", "w1")
    api.topics.write(CONTROL, 0, b"pause:mail", encode_command(pause))
    told = {"at_ms": NOW_MS, "reason": pause.reason, "breaker": "w1"}
    assert {"paused_kinds": {"mail": told}} == in_force(api)
    assert told == api.get("/api/control").json()["paused_kinds"]["mail"]
    assert 202 == ask(api, "POST", "/api/control/resume", {"kind": "mail"}).status_code
    assert {} == in_force(api)


@pytest.mark.parametrize(
    ("method", "path", "body", "named"),
    [
        ("POST", "pause", {"kind": "a b"}, ["#/kind"]),
        ("POST", "pause", {"kind": "mail\n"}, ["#/kind"]),
        ("POST", "pause", {"kinds": "mail"}, ["#/kinds"]),
        ("POST", "pause", {"a/b~": 1, "reason": 2}, ["#/a~1b~0", "#/reason"]),
        ("POST", "pause", {"reason": "x" * 501}, ["#/reason"]),
        ("POST", "resume", {"reason": "x"}, ["#/reason"]),
        ("PUT", "rate/mail", {}, ["#/per_s"]),
        ("PUT", "rate/mail", {"per_s": 0}, ["#/per_s"]),
        ("PUT", "rate/mail", {"per_s": 1_000_001}, ["#/per_s"]),
        ("PUT", "rate/mail", {"per_s": "2"}, ["#/per_s"]),
        ("PUT", "rate/a%20b", {"per_s": 2}, ["kind"]),
        ("DELETE", "rate/a%20b", None, ["kind"]),
        ("PUT", "concurrency", {}, ["#/count"]),
        ("PUT", "concurrency", {"count": 0}, ["#/count"]),
        ("PUT", "concurrency", {"count": 2_001, "worker": ":"}, ["#/count", "#/worker"]),
        ("DELETE", "concurrency?worker=a%20b", None, ["worker"]),
        ("POST", "drain/a%20b", None, ["worker"]),
        ("POST", "cancel", {}, ["#"]),
        ("POST", "cancel", {"reason": "x"}, ["#"]),
        ("POST", "cancel", {"task_id": "a1-0", "kind": "mail"}, ["#/task_id"]),
        ("POST", "cancel", {"created_before_ms": NOW_MS + 1}, ["#/created_before_ms"]),
        ("POST", "cancel", {"created_before_ms": -1}, ["#/created_before_ms"]),
        ("POST", "cancel", {"object_id": "a1"}, ["#/object_id"]),
        ("POST", "cancel", {"task_id": 5, "kind": [], "a/b": 1}, ["#/task_id", "#/kind", "#/a~1b"]),
        ("POST", "cancel", {"created_before_ms": 1.5}, ["#/created_before_ms"]),
        ("POST", "cancel", {"created_before_ms": 2**64}, ["#/created_before_ms"]),
        ("POST", "cancel", None, ["#"]),
    ],
)
def test_wrong_command_is_named_field_by_field(api, method, path, body, named):
    """A 422 that points at what is wrong; nothing is written."""
    answer = ask(api, method, f"/api/control/{path}", body)
    document = msgspec.convert(answer.json(), ProblemDocument)
    assert (422, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert named == [error.pointer or error.parameter for error in document.errors or []]
    assert [] == written(api)


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (b"{", 400, "line 1 column 1"),
        (b'{"per_s": NaN}', 400, "line 1 column 11"),
        (b'{"per_s": "2",', 400, "line 1 column 14"),
        (b"[]", 422, "#: Expected `object`, got `array`"),
        (b'{"per_s": ' + b"[" * 20_000, 422, "#: it is nested deeper than"),
        (b'{"per_s": "2", "x": ' + b"[" * 20_000, 422, "#: it is nested deeper than"),
    ],
)
def test_body_that_is_no_command_is_refused(api, content, status, reason):
    """Malformed JSON, such as NaN, is 400 and says where, also behind a wrong field; what is no object is 422."""
    answer = api.request("PUT", "/api/control/rate/mail", content=content, headers=JSON)
    assert (status, True) == (answer.status_code, reason in answer.json()["detail"]), answer.text
    assert 415 == api.request("PUT", "/api/control/rate/mail", content=b"per_s=2").status_code
    assert [] == written(api)


def test_object_is_cancelled(api):
    """202 with the object's links; the record names the object and the reason."""
    write_object(api, finished=1)
    answer = api.request("DELETE", "/api/objects/a1?reason=wrong%20list")
    accepted = msgspec.convert(answer.json(), CancelAccepted)
    assert (202, "a1", "CANCELLING", True, "/api/objects/a1") == (
        answer.status_code,
        accepted.id,
        accepted.status,
        accepted.seen,
        accepted.links.self,
    )
    command = {"type": "CANCEL", "object_id": "a1", "at_ms": NOW_MS, "reason": "wrong list"}
    assert [("cancel:object:a1", command)] == written(api)
    assert 1 == in_force(api)["cancel_count"]


def test_object_that_is_not_distributed_yet_is_cancelled(api):
    """A cancel right after the submit is as good as any other: its tasks are cancelled when they come."""
    object_id = api.post().json()["id"]
    assert 202 == api.request("DELETE", f"/objects/{object_id}").status_code


@pytest.mark.parametrize(("finished", "cancelled", "state"), [(2, 0, "FINISHED"), (1, 1, "CANCELLED")])
def test_object_that_has_ended_is_a_409(api, finished, cancelled, state):
    """There is nothing left to cancel, and the answer says what it came to."""
    write_object(api, finished=finished, cancelled=cancelled)
    answer = api.request("DELETE", "/api/objects/a1")
    assert (409, "urn:ebs:problem:already-ended", state) == (
        answer.status_code,
        answer.json()["type"],
        answer.json()["state"],
    )
    assert [] == written(api)


def test_unknown_object_is_a_404(api):
    """An id that nobody submitted is no object to cancel."""
    assert 404 == api.request("DELETE", "/api/objects/unknown").status_code
    assert [] == written(api)


def test_task_is_cancelled(api):
    """One task of an object, by its id, while the others go on."""
    write_object(api, finished=1)
    answer = api.post("/api/control/cancel", json={"task_id": "a1-1", "reason": "why"})
    assert (202, "cancel:task:a1-1") == (answer.status_code, answer.json()["key"])
    command = {"type": "CANCEL", "task_id": "a1-1", "at_ms": NOW_MS, "reason": "why"}
    assert [("cancel:task:a1-1", command)] == written(api)


@pytest.mark.parametrize(
    ("task_id", "status"),
    [("a1-0", 409), ("a1-2", 404), ("b1-0", 404), ("a1", 404), ("a1-", 404), ("-0", 404), ("a1-x", 404)],
)
def test_task_that_has_ended_or_is_none_is_refused(api, task_id, status):
    """409 for one that has ended, 404 for what is no task."""
    write_object(api, finished=1)
    assert status == api.post("/api/control/cancel", json={"task_id": task_id}).status_code
    assert [] == written(api)


@pytest.mark.parametrize(
    ("body", "key", "fields"),
    [
        ({"kind": "mail"}, f"mail-{NOW_MS}", {"kind": "mail", "created_before_ms": NOW_MS}),
        ({"kind": "mail", "created_before_ms": 5}, "mail-5", {"kind": "mail", "created_before_ms": 5}),
        ({"created_before_ms": NOW_MS}, f"*-{NOW_MS}", {"created_before_ms": NOW_MS}),
    ],
)
def test_filter_is_cancelled(api, body, key, fields):
    """A kind until now or an instant, or all kinds until an instant; the same filter again is the same command."""
    for _ in range(2):
        answer = api.post("/api/control/cancel", json=body)
    assert (202, f"cancel:filter:{key}") == (answer.status_code, answer.json()["key"])
    assert {"type": "CANCEL", **fields, "at_ms": NOW_MS, "reason": ""} == written(api)[0][1]
    assert 1 == in_force(api)["cancel_count"]


def test_cancels_do_not_pile_up(api):
    """Each new cancel takes up to two away whose tasks are gone; those that may still have some stay."""
    for name, age_days in (("a", 9), ("b", 10), ("c", 11), ("d", 7.9)):
        command = {"type": "CANCEL", "object_id": name, "at_ms": NOW_MS - round(age_days * DAY_MS)}
        api.topics.write(CONTROL, 0, f"cancel:object:{name}".encode(), json.dumps(command).encode())
    for kind in ("mail", "image", "sound"):
        api.post("/api/control/cancel", json={"kind": kind})
    keys = {cancel["key"] for cancel in api.get("/api/control").json()["cancels"]}
    assert {"cancel:object:d"} | {f"cancel:filter:{kind}-{NOW_MS}" for kind in ("mail", "image", "sound")} == keys
    assert ["cancel:object:c", "cancel:object:b"] == [key for key, value in written(api) if value is None][:2]


def test_cancel_that_is_outdated_can_be_given_again(api):
    """The tidying up does not take away what is asked for now."""
    write_object(api)
    old = {"type": "CANCEL", "object_id": "a1", "at_ms": 1}
    api.topics.write(CONTROL, 0, b"cancel:object:a1", json.dumps(old).encode())
    api.request("DELETE", "/api/objects/a1")
    assert None not in [value for _, value in written(api)]
    assert 1 == in_force(api)["cancel_count"]


@pytest.mark.parametrize(
    ("worker", "status", "said"),
    [("p-2", 404, "running processing workers: p-1"), ("s-1", 409, "s-1 has the role statistics")],
)
def test_only_a_living_worker_that_processes_can_be_drained(api, worker, status, said):
    """A typo is a 404 that names those that live; other roles do not follow `control`."""
    write_worker(api, "p-1")
    write_worker(api, "s-1", "statistics")
    answer = api.post(f"/api/control/drain/{worker}")
    assert status == answer.status_code
    assert said in answer.json()["detail"]
    assert [] == written(api)


EVERYTHING = [
    ("POST", "/api/control/pause"),
    ("POST", "/api/control/resume"),
    ("DELETE", "/api/control/rate/mail"),
    ("DELETE", "/api/control/concurrency"),
    ("DELETE", "/api/control/drain/p-1"),
    ("DELETE", "/api/objects/a1"),
]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
@pytest.mark.parametrize("failure", [BrokerUnavailable("nobody answers"), OutcomeUnknown("no word")])
def test_broker_away_is_a_503_that_may_be_repeated(api, method, path, failure):
    """Never an answer of success without the broker's word; repeating is always safe, and the key is named."""
    write_object(api)
    api.topics.failure = failure
    answer = api.request(method, path)
    document = answer.json()
    assert (503, True) == (answer.status_code, document["safe_to_repeat"])
    assert ("retry-after" in answer.headers, "key" in document) == (True, True)


def test_broker_away_makes_reading_a_503(api):
    """What is in force is not guessed."""
    api.topics.failure = BrokerUnavailable("nobody answers")
    answer = api.get("/api/control")
    assert (503, "urn:ebs:problem:view-behind") == (answer.status_code, answer.json()["type"])


def test_answer_waits_until_the_view_has_it(make_api):
    """Who reads after the answer reads his own write."""
    api = make_api(view_wait_s=30)
    api.topics.deliver_at_once = False

    async def scenario():
        pausing = asyncio.create_task(api.client.post("/api/control/pause"))
        assert (set(), {pausing}) == await asyncio.wait([pausing], timeout=0.05)
        api.topics.deliver()
        return await pausing

    assert True is api.run(scenario()).json()["seen"]


def test_view_that_stays_behind_is_said(api):
    """The command is accepted all the same: the broker has it."""
    api.topics.deliver_at_once = False
    answer = api.post("/api/control/pause")
    assert (202, False, None) == (answer.status_code, answer.json()["seen"], answer.json()["control"]["paused"])
    assert 503 == api.get("/api/control").status_code


@pytest.mark.parametrize("path", ["/api/control", "/api/workers"])
def test_without_a_view_reads_are_a_503(make_api, path):
    """Before the broker was there once, nothing is known."""
    assert 503 == make_api(attached=False).get(path).status_code
