"""Sessions of browsers: their end by logout, in time and with their key, in every process."""

from __future__ import annotations

import asyncio

import pytest
from fakes import settle
from guarded_api import FORM, OLD, PAGE, READ, WRITE, bearer, log_in

from api.access.keys import SESSION_S, Keys
from api.access.sessions import Sessions
from api.view.view import View
from app.errors import BrokerUnavailable


def session_of(api, key: str = WRITE) -> dict[str, str]:
    """Log in as a browser of its own; returns the header that it sends from then on."""
    cookie = log_in(api, key).headers["set-cookie"].partition(";")[0]
    api.client.cookies.clear()
    return {"cookie": cookie}


def status_of(api, session: dict[str, str]) -> int:
    """Ask with a session; returns the status."""
    return api.request("GET", "/openapi.json", headers=session).status_code


def log_out(api, session: dict[str, str]):
    """Send the form that ends a session."""
    return api.post("/logout", headers=FORM | PAGE | session)


def test_logout_ends_the_session(guarded):
    """A copy of the cookie holds no more; the cookie is taken away, and other sessions of the key go on."""
    mine, other = session_of(guarded), session_of(guarded)
    assert [200, 200] == [status_of(guarded, session) for session in (mine, other)]
    answer = log_out(guarded, mine)
    assert (303, True) == (answer.status_code, "Max-Age=0" in answer.headers["set-cookie"])
    assert [401, 200] == [status_of(guarded, session) for session in (mine, other)]
    assert 303 == log_out(guarded, mine).status_code
    assert 1 == len(guarded.topics.records["control", 0])


def test_logout_without_a_session_writes_nothing(guarded):
    """Strangers cannot fill the topic."""
    assert 303 == log_out(guarded, {"cookie": "ebs_session=9999999999.0a.00"}).status_code
    assert {} == guarded.topics.records


def test_logout_holds_in_other_processes_and_after_a_restart(guarded, make_api, tmp_path):
    """They read it from the topic; until a process has read what was there, it takes no session, but keys."""
    session = session_of(guarded)
    log_out(guarded, session)
    (record,) = guarded.topics.records["control", 0]
    other = make_api(api_keys_write=f"{WRITE},{OLD}", api_keys_read=READ, data_dir=tmp_path / "other")
    other.topics.deliver_at_once = False
    other.topics.write("control", 0, record.key, record.value)
    assert [503, 200] == [status_of(other, session), status_of(other, bearer(WRITE))]
    other.topics.deliver()
    assert [401, 200] == [status_of(other, session), status_of(other, session_of(other))]


def test_logout_that_is_read_meanwhile_counts(guarded, make_api, tmp_path):
    """The request that waited for it is refused, too."""
    session = session_of(guarded)
    log_out(guarded, session)
    (record,) = guarded.topics.records["control", 0]
    other = make_api(api_keys_write=WRITE, data_dir=tmp_path / "other", view_wait_s=30)
    other.topics.deliver_at_once = False
    other.topics.write("control", 0, record.key, record.value)

    async def ask_and_deliver() -> int:
        asking = asyncio.create_task(other.client.get("/openapi.json", headers=session))
        await settle()
        assert not asking.done()
        other.topics.deliver()
        return (await asking).status_code

    assert 401 == other.run(ask_and_deliver())


def test_session_waits_for_the_view_after_a_start(make_api):
    """A process that has not reached its broker yet knows no logouts; a page says so, and the login stays open."""
    api = make_api(api_keys_write=WRITE, attached=False)
    session = session_of(api)
    answer = api.request("GET", "/api/control", headers=session)
    assert (503, "urn:ebs:problem:sessions-unknown") == (answer.status_code, answer.json()["type"])
    assert "retry-after" in answer.headers
    assert "text/html" in api.request("GET", "/", headers=session | PAGE).headers["content-type"]
    assert [200, 200] == [api.request("GET", path, headers=session).status_code for path in ("/login", "/livez")]


def test_logout_without_a_broker_is_not_done_and_says_so(guarded):
    """The cookie stays, so that it can be repeated."""
    session = session_of(guarded)
    guarded.topics.failure = BrokerUnavailable("the broker is away")
    answer = log_out(guarded, session)
    assert (503, False) == (answer.status_code, "set-cookie" in answer.headers)
    guarded.topics.failure = None
    assert 200 == status_of(guarded, session)
    assert 303 == log_out(guarded, session).status_code
    assert 401 == status_of(guarded, session)


async def test_logout_ends_an_open_stream():
    """A page that stays up to date must not do so for a browser that has logged out."""
    keys, view = Keys([], [WRITE]), View(0.1)
    sessions, sent = Sessions(keys, view, lambda: 1_000), []

    async def send(message):
        sent.append(message.get("body", b"start"))

    cookie = keys.session_of(WRITE, 1_000)
    stream, page = sessions.sending(cookie, send), sessions.sending(cookie, send)
    await stream({"type": "http.response.start", "status": 200, "headers": []})
    await page({"type": "http.response.start", "status": 200, "headers": [(b"Content-Length", b"1")]})
    await stream({"type": "http.response.body", "body": b"1", "more_body": True})
    name = keys.read_session(cookie, 1_000).name
    view.control.state.apply(f"session:{name}".encode(), b'{"type":"LOGOUT","until_ms":1}')
    await stream({"type": "http.response.body", "body": b"2", "more_body": True})
    await stream({"type": "http.response.body", "body": b"3", "more_body": True})
    await page({"type": "http.response.body", "body": b"p"})
    assert [b"start", b"start", b"1", b"", b"p"] == sent


def test_logouts_of_sessions_that_are_over_are_taken_away(guarded):
    """Each new one takes away two that rule nothing any more, so the topic does not grow."""
    for number in range(3):
        guarded.topics.write("control", 0, b"session:%d" % number, b'{"type":"LOGOUT","until_ms":%d}' % (number + 1))
    log_out(guarded, session_of(guarded))
    log = guarded.topics.records["control", 0]
    assert [(b"session:0", None), (b"session:1", None)] == [record[1:3] for record in log[3:5]]
    assert 6 == len(log)


def test_session_ends_in_time_and_with_its_key():
    """It is over after twelve hours; a key that is taken out of the settings takes its sessions along."""
    session = Keys([READ], [WRITE]).session_of(WRITE, 1_000)
    assert {"read", "write"} == Keys([READ], [WRITE]).read_session(session, 1_001).holder.scopes
    assert {"read"} == Keys([WRITE], [READ]).read_session(session, 1_001).holder.scopes
    assert None is Keys([READ], [WRITE]).read_session(session, 1_000 + SESSION_S)
    assert None is Keys([READ], [OLD]).read_session(session, 1_001)


def test_every_session_is_different():
    """One that ends must not end another one, of the same key and second."""
    keys = Keys([READ], [])
    assert keys.session_of(READ, 1_000) != keys.session_of(READ, 1_000)


@pytest.mark.parametrize("place", range(0, 100, 7))
def test_session_that_was_changed_does_not_hold(place):
    """Neither its end, nor its name, nor its signature."""
    keys = Keys([READ], [])
    session = keys.session_of(READ, 1_000)
    changed = session[:place] + ("1" if session[place] != "1" else "2") + session[place + 1 :]
    assert None is keys.read_session(changed, 1_000)


@pytest.mark.parametrize(
    "session", ["", ".", "9999999999", "9999999999.", "x.y", "-1.00", "²99999999999.00", "9" * 9_999]
)
def test_made_up_sessions_do_not_hold(session):
    """Whatever a cookie says."""
    assert None is Keys([READ], [WRITE]).read_session(session, 1_000)


def test_session_cookie_is_secure_behind_tls(make_api):
    """Where the proxy that we believe says https."""
    api = make_api(api_keys_read=READ, trusted_proxies=("127.0.0.1",))
    assert "Secure" in log_in(api, READ, **{"x-forwarded-proto": "https"}).headers["set-cookie"]
    assert "Secure" not in log_in(make_api(api_keys_read=READ), READ).headers["set-cookie"]
