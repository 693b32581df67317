"""Forms of the dashboard as a browser without JavaScript posts them: 303 where it worked, the page again where not."""

from __future__ import annotations

import json

import msgspec
import pytest
from browsing import BROWSER, PageSeen, browse, send_form
from grave import Grave, state_of
from plain_names import CONTROL, OBJECTS, TASK_REQUESTS, WORKERS

from api.dashboard.forms import parse_form
from app import json_text
from app.errors import BrokerUnavailable, OutcomeUnknown
from app.events import decode_object, decode_task_request
from app.rules.worker_heartbeats import WorkerFigures, WorkerIdentity, heartbeat_of

NOW_MS = 1_795_489_276_303


def place_of(answer) -> str:
    """Return where a form that was carried out leads to."""
    assert 303 == answer.status_code, answer.text
    return answer.headers["location"]


def objects_of(api) -> list:
    """Return the objects on the topic."""
    return [
        decode_object(record.value)
        for (topic, _), log in sorted(api.topics.records.items())
        if topic == OBJECTS
        for record in log
    ]


def test_object_is_submitted_and_shown(api):
    """303 to the object's page, which says once that it is accepted."""
    answer = send_form(
        api, "/objects", {"name": "report", "content": "a\r\nb", "kind": "mail", "tasks": "5", "count": "1"}
    )
    (event,) = objects_of(api)
    assert f"/objects/{event.object_id}" == place_of(answer)
    assert ("report", "a\nb", "mail", 5) == (
        event.name,
        json_text.decode(event.content),
        event.kind,
        event.task_count,
    )
    seen = browse(api, place_of(answer))
    assert "The object is accepted." in seen.text
    assert "report" in seen.text
    assert "The object is accepted." not in browse(api, place_of(answer)).text


def test_content_and_items_are_json_where_the_box_is_checked(api):
    """Each line of the items is a task: as JSON, or as a text."""
    fields = {"name": "n", "content": '{"a": 1}', "tasks": "", "items": '{"sku": "a"}\r\n\r\n2\r\n', "count": "1"}
    shown = [browse(api, place_of(send_form(api, "/objects", fields | box))).text for box in ({}, {"json": "1"})]
    text, of_json = objects_of(api)
    if text.content == msgspec.Raw(b'{"a":1}'):
        text, of_json = of_json, text
    assert (b'"{\\"a\\": 1}"', b'{"a":1}') == (bytes(text.content), bytes(of_json.content))
    assert [b'"{\\"sku\\": \\"a\\"}"', b'"2"'] == [bytes(item.content) for item in text.items]
    assert [b'{"sku":"a"}', b"2"] == [bytes(item.content) for item in of_json.items]
    assert ['{"a": 1}' in shown[0], '{"a":1}' in shown[1]] == [True, True]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"content": "{", "json": "1"}, "The content is not JSON"),
        ({"items": "1\nx", "json": "1"}, "Item 2 is not JSON"),
        ({"items": "1", "tasks": "3"}, "Give a number of tasks, or items"),
    ],
)
def test_wrong_items_are_reported_and_stay_in_the_form(api, fields, said):
    """422, the reason, and what was typed."""
    seen = PageSeen(send_form(api, "/objects", {"count": "1", **fields}))
    assert 422 == seen.status
    assert said in seen.text
    assert [fields.get("items", "")] == [(seen.element("f-items").text or "").strip()]
    assert [] == objects_of(api)


def test_callback_url_is_checked_as_in_the_api(api):
    """No callbacks are allowed here: the reason names the setting, and what was typed stays."""
    seen = PageSeen(send_form(api, "/objects", {"content": "c", "count": "1", "callback_url": "https://a.example/"}))
    assert 422 == seen.status
    assert "EBS_WEBHOOK_HOSTS=a.example" in seen.text
    field = seen.element("f-callback_url")
    assert "https://a.example/" == field.get("value")
    assert [] == objects_of(api)


def test_many_objects_are_submitted(api):
    """The list shows them."""
    answer = send_form(api, "/objects", {"name": "", "content": "", "kind": "", "tasks": "", "count": "40"})
    assert "/objects" == place_of(answer)
    assert "40 objects are accepted." in browse(api, "/objects").text
    assert 40 == len({event.object_id for event in objects_of(api)})


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"tasks": "0"}, "tasks"),
        ({"tasks": "many"}, "tasks"),
        ({"kind": "a b"}, "kind"),
        ({"count": "x"}, "count"),
        ({"count": "100001"}, "count"),
    ],
)
def test_wrong_field_is_said_and_nothing_typed_is_lost(api, fields, word):
    """422, the reason in an alert, and the form as it was."""
    answer = send_form(api, "/objects", {"name": "<b>my name</b>", "content": "kept", "count": "1", **fields})
    seen = PageSeen(answer)
    assert 422 == seen.status
    (alert,) = [one for one in seen.tree.iter() if one.get("role") == "alert"]
    assert word in "".join(alert.itertext())
    name, content = seen.element("f-name"), seen.element("f-content")
    assert name is not None
    assert content is not None
    assert ("<b>my name</b>", "kept") == (name.get("value"), content.text)
    assert [] == objects_of(api)


def test_submit_while_the_broker_is_away(api):
    """503, and what was typed is still there."""
    api.topics.failure = BrokerUnavailable("nobody answers")
    seen = PageSeen(send_form(api, "/objects", {"name": "kept", "count": "1"}))
    assert (503, True) == (seen.status, "nobody answers" in seen.text)
    assert 'value="kept"' in seen.html


def test_unknown_outcome_offers_the_repeat_that_is_safe(api):
    """The form holds the id that makes this object once."""
    api.topics.failure = OutcomeUnknown("no word from the broker")
    seen = PageSeen(send_form(api, "/objects", {"name": "n", "content": "c", "count": "1"}))
    (hidden,) = [one for one in seen.all("input") if one.get("name") == "id"]
    api.topics.failure = None
    answer = send_form(api, "/objects", {"name": "n", "content": "c", "count": "1", "id": hidden.get("value") or ""})
    assert f"/objects/{hidden.get('value')}" == place_of(answer)


def test_object_is_cancelled(api):
    """The object's page says so; the command is on its topic."""
    object_id = api.post().json()["id"]
    answer = send_form(api, f"/objects/{object_id}/cancel", {"reason": "wrong file"})
    assert f"/objects/{object_id}" == place_of(answer)
    (record,) = api.topics.records[CONTROL, 0]
    assert (f"cancel:object:{object_id}".encode(), "wrong file") == (record.key, json.loads(record.value)["reason"])


@pytest.mark.parametrize(
    ("path", "fields", "key", "shown"),
    [
        ("/control/pause", {"kind": "", "reason": "because"}, b"pause", "all kinds paused"),
        ("/control/pause", {"kind": "mail"}, b"pause:mail", "mail paused"),
        ("/control/rate", {"kind": "mail", "per_s": "2.5"}, b"rate:mail", "mail: at most 2.5 tasks/s"),
        ("/control/concurrency", {"count": "7"}, b"concurrency", "7 tasks at once, each worker"),
    ],
)
def test_command_is_given_and_shown(api, path, fields, key, shown):
    """303 to the control page, where it stands."""
    assert "/control" == place_of(send_form(api, path, fields))
    assert key == api.topics.records[CONTROL, 0][-1].key
    assert shown in browse(api, "/control").text_of("in-force")


def test_commands_are_undone(api):
    """Each has its button."""
    for path, fields, undo in (
        ("/control/pause", {}, "/control/resume"),
        ("/control/pause", {"kind": "mail"}, "/control/resume"),
        ("/control/rate", {"kind": "mail", "per_s": "2"}, "/control/rate/lift"),
        ("/control/concurrency", {"count": "7"}, "/control/concurrency/reset"),
    ):
        send_form(api, path, fields)
        assert "/control" == place_of(send_form(api, undo, {"kind": fields.get("kind", "")}))
    assert "No commands in force" in browse(api, "/control").text


def test_wrong_command_is_said(api):
    """422 on the control page with what was typed."""
    seen = PageSeen(send_form(api, "/control/rate", {"kind": "mail", "per_s": "-1"}))
    assert (422, "Control") == (seen.status, "".join(seen.all("h1")[0].itertext()))
    assert 'value="-1"' in seen.html


def test_worker_is_drained_and_let_work_again(api):
    """Both from the list of workers."""
    identity = WorkerIdentity("p-1", "processing", "0.1.0", "host", 42, NOW_MS)
    api.topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, WorkerFigures(), NOW_MS), timestamp_ms=NOW_MS)
    assert "/workers" == place_of(send_form(api, "/workers/p-1/drain"))
    assert "drained" in browse(api, "/workers").text_of("worker-processing-p-1")
    assert "/workers" == place_of(send_form(api, "/workers/p-1/drain/end"))
    assert "ready" in browse(api, "/workers").text_of("worker-processing-p-1")
    assert 404 == send_form(api, "/workers/nobody/drain").status_code


def test_letter_is_redriven_as_it_is(api):
    """Its page says by whom; the button is gone."""
    letter_id = Grave(api.topics).bury_task(0, partition=0)
    assert f"/dead-letters/{letter_id}" == place_of(send_form(api, f"/dead-letters/{letter_id}/redrive"))
    seen = browse(api, f"/dead-letters/{letter_id}")
    assert "REDRIVEN" in seen.text_of("letter")
    assert "" == seen.text_of("acts")
    again = PageSeen(send_form(api, f"/dead-letters/{letter_id}/redrive"))
    assert 409 == again.status


def test_letter_is_edited_and_redriven(api):
    """What the text area held, edited, is what the task gets; line ends are not changed."""
    letter_id = Grave(api.topics).bury_task(0, partition=0)
    payload = browse(api, f"/dead-letters/{letter_id}").element("payload")
    assert payload is not None
    edited = (payload.text or "").replace('"content": "c"', '"content": "mended"').replace("\n", "\r\n")
    place_of(send_form(api, f"/dead-letters/{letter_id}/redrive", {"payload": edited}))
    (request,) = [record for place, log in api.topics.records.items() if place[0] == TASK_REQUESTS for record in log]
    assert "mended" == json_text.decode(decode_task_request(request.value).content)


def test_edit_that_is_no_json_is_said_and_kept(api):
    """422, the text as it was typed, nothing redriven."""
    letter_id = Grave(api.topics).bury_task(0, partition=0)
    seen = PageSeen(send_form(api, f"/dead-letters/{letter_id}/redrive", {"payload": '{"content": '}))
    payload = seen.element("payload")
    assert payload is not None
    assert (422, '{"content": ') == (seen.status, payload.text)
    assert "DEAD" == state_of(api, letter_id)


def test_letter_is_discarded_with_a_reason(api):
    """Without one it is refused."""
    letter_id = Grave(api.topics).bury_task(0, partition=0)
    assert 422 == send_form(api, f"/dead-letters/{letter_id}/discard", {"reason": ""}).status_code
    place_of(send_form(api, f"/dead-letters/{letter_id}/discard", {"reason": "a test"}))
    assert "a test" in browse(api, f"/dead-letters/{letter_id}").text_of("letter")


def test_group_is_redriven(api):
    """All dead letters of a fingerprint; the page shows how far it is."""
    grave = Grave(api.topics)
    for number in range(3):
        grave.bury_task(number, partition=0)
    fingerprint = api.get(f"/api/dead-letters/{grave.ids[0]}").json()["fingerprint"]
    assert "/dead-letters" == place_of(send_form(api, "/dead-letters/redrive", {"fingerprint": fingerprint}))

    # Each request lets the run go on for a turn.
    for _ in range(1_000):
        if api.get("/api/dead-letters/redrives").json()["redrives"][0]["state"] != "RUNNING":
            break
    assert ["REDRIVEN"] * 3 == [state_of(api, letter_id) for letter_id in grave.ids]
    assert "3 redriven" in browse(api, "/dead-letters").text


def test_form_that_cannot_be_read(api):
    """Too many fields and bytes that are no UTF-8 are 400, too many bytes 413; all as pages."""
    headers = {**BROWSER, "content-type": "application/x-www-form-urlencoded"}
    many = "&".join(f"a{number}=1" for number in range(100))
    answers = [
        api.request("POST", "/objects", content=body, headers=headers) for body in (many, b"name=\xff", b"x" * 2**21)
    ]
    assert [400, 400, 413] == [PageSeen(answer).status for answer in answers]


def test_last_field_of_a_name_counts():
    """Empty ones are kept, so that a refused form shows them."""
    assert {"a": "2", "b": ""} == parse_form(b"a=1&a=2&b=")
