"""Who may call the API: keys and their scopes, the login, CORS, a limit for each client."""

from __future__ import annotations

import pytest
from guarded_api import FORM, OLD, PAGE, READ, WRITE, bearer, log_in

from api.access.gate import Gate
from api.access.keys import SESSION_S, Keys
from api.access.origin import Proxies
from api.access.rates import RateLimit
from api.access.sessions import Sessions
from api.view.view import View

PAUSE = "/api/control/pause"


@pytest.mark.parametrize(
    "path", ["/api/statistics", "/statistics", "/docs", "/openapi.json", "/api/metrics", "/nowhere"]
)
def test_without_a_key_nothing_is_revealed(guarded, path):
    """401 is a problem document with a challenge, and says how to send a key."""
    answer = guarded.get(path)
    assert (401, 'Bearer realm="ebs"') == (answer.status_code, answer.headers["www-authenticate"])
    assert ("application/problem+json", "urn:ebs:problem:unauthorized") == (
        answer.headers["content-type"],
        answer.json()["type"],
    )
    assert "EBS_API_KEY" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/livez", "/api/livez", "/readyz", "/api/readyz"])
def test_probes_need_no_key(guarded, path):
    """An orchestrator has none."""
    guarded.topics.deliver()
    assert 200 == guarded.get(path).status_code


@pytest.mark.parametrize("headers", [bearer(READ), {"x-api-key": READ}, {"authorization": f"bearer  {READ}"}])
def test_reading_needs_a_key_that_reads(guarded, headers):
    """Both headers do; the scheme's name may be written as one likes."""
    guarded.topics.deliver()
    assert 200 == guarded.request("GET", "/api/statistics", headers=headers).status_code


@pytest.mark.parametrize("key", [WRITE, OLD])
def test_each_of_several_keys_writes_and_reads(guarded, key):
    """While keys are changed for new ones both hold."""
    guarded.topics.deliver()
    assert 202 == guarded.post(headers=bearer(key)).status_code
    assert 200 == guarded.request("GET", "/api/statistics", headers=bearer(key)).status_code


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/objects"), ("POST", PAUSE), ("DELETE", "/objects/0")])
def test_writing_with_a_key_that_reads_is_forbidden(guarded, method, path):
    """403 names the missing scope; nothing is written."""
    answer = guarded.request(method, path, headers=bearer(READ))
    assert (403, "urn:ebs:problem:missing-scope") == (answer.status_code, answer.json()["type"])
    assert 'error="insufficient_scope", scope="write"' in answer.headers["www-authenticate"]
    assert {} == guarded.topics.records


@pytest.mark.parametrize("key", ["", "wrong", READ[:-1], READ + "x", READ.upper(), "ü" * 20, "x" * 100_000])
def test_wrong_key_is_unauthorized(guarded, key):
    """Whatever it is; a key beside a right session does not fall back to it."""
    answer = guarded.request("GET", "/api/statistics", headers={"x-api-key": key.encode()})
    assert (401, True) == (answer.status_code, 'error="invalid_token"' in answer.headers["www-authenticate"])


def test_openapi_says_how_to_send_a_key(guarded, api):
    """Where there are keys; tools then ask for one."""
    document = guarded.request("GET", "/openapi.json", headers=bearer(READ)).json()
    assert {"bearer", "header"} == set(document["components"]["securitySchemes"])
    assert "security" not in api.get("/openapi.json").json()


def test_metrics_may_be_public(make_api):
    """EBS_METRICS_PUBLIC opens /metrics alone."""
    api = make_api(api_keys_read=READ, metrics_public=True)
    assert [200, 200, 401] == [api.get(path).status_code for path in ("/metrics", "/api/metrics", "/api/statistics")]


def test_without_keys_everything_is_open(api):
    """The default: who reaches it may use it."""
    assert [202, 404] == [api.post().status_code, api.get("/login").status_code]


def test_browser_is_led_to_the_login_and_back(guarded):
    """A page without a session goes to the form; the right key leads on to the page, which is then shown."""
    guarded.topics.deliver()
    sent_away = guarded.request("GET", "/dead-letters?kind=a", headers=PAGE)
    assert (303, "/login?next=/dead-letters%3Fkind%3Da") == (sent_away.status_code, sent_away.headers["location"])
    form = guarded.request("GET", sent_away.headers["location"], headers=PAGE)
    assert (200, True) == (form.status_code, 'name="next" value="/dead-letters?kind=a"' in form.text)
    logged_in = log_in(guarded, READ, "/dead-letters?kind=a")
    assert (303, "/dead-letters?kind=a") == (logged_in.status_code, logged_in.headers["location"])
    cookie = logged_in.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={SESSION_S}"))
    assert READ not in cookie
    shown = guarded.request("GET", "/dead-letters", headers=PAGE)
    assert (200, "text/html; charset=utf-8") == (shown.status_code, shown.headers["content-type"])


def test_page_asks_the_api_with_the_rights_of_its_session(guarded):
    """What a page is drawn from is asked inside of the request: it must not be refused for want of a key."""
    guarded.topics.deliver()
    log_in(guarded, READ)
    assert "Unauthorized" not in guarded.request("GET", "/", headers=PAGE).text


def test_form_of_a_session_that_reads_is_forbidden(guarded):
    """A page says so; the pause is not written."""
    log_in(guarded, READ)
    answer = guarded.post("/control/pause", data={}, headers=FORM | PAGE)
    assert (403, True) == (answer.status_code, "may read only" in answer.text)
    assert {} == guarded.topics.records


def test_form_of_a_session_that_writes_acts(guarded):
    """The form's own request and the one that it becomes both pass."""
    guarded.topics.deliver()
    log_in(guarded, WRITE)
    answer = guarded.post("/objects", data={"kind": "mail", "tasks": "2", "count": "1"}, headers=FORM | PAGE)
    assert (303, 1) == (answer.status_code, sum(map(len, guarded.topics.records.values())))


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}])
def test_other_sites_cannot_act_with_a_session(guarded, headers):
    """Even where a browser sent the cookie along, and whether to a form or to the API."""
    log_in(guarded, WRITE)
    form = {name: value for name, value in (FORM | PAGE).items() if name != "sec-fetch-site"}
    assert 403 == guarded.post("/objects", data={"count": "1"}, headers=form | headers).status_code
    assert 403 == guarded.post("/api/objects", headers=headers).status_code
    assert 403 == guarded.post("/logout", headers=headers).status_code
    assert {} == guarded.topics.records


def test_wrong_key_is_refused_by_the_form(guarded):
    """401, the form again, no cookie."""
    answer = log_in(guarded, "wrong-key-0123456789")
    assert (401, False) == (answer.status_code, "set-cookie" in answer.headers)
    assert "The API does not know this key" in answer.text


@pytest.mark.parametrize("wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nx: y", "", "a"])
def test_login_leads_to_no_other_site(guarded, wanted):
    """A link to the login is no way to make us send people elsewhere."""
    assert "/" == log_in(guarded, READ, wanted).headers["location"]


def test_cors_is_off_by_default(api):
    """No page of another site may read, nor act."""
    answer = api.request("GET", "/api/statistics", headers={"origin": "https://shop.example"})
    assert "access-control-allow-origin" not in answer.headers
    ask = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in api.request("OPTIONS", "/api/objects", headers=ask).headers
    assert 403 == api.post(headers={"origin": "https://shop.example"}).status_code


def test_allowed_site_may_ask_read_and_act(make_api):
    """A preflight needs no key; another site gets nothing."""
    api = make_api(cors_origins=("https://shop.example",), api_keys_write=WRITE)
    own, other = {"origin": "https://shop.example"}, {"origin": "https://evil.example"}
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    preflight = api.request("OPTIONS", "/api/objects", headers=own | ask)
    assert (200, "https://shop.example") == (preflight.status_code, preflight.headers["access-control-allow-origin"])
    assert 400 == api.request("OPTIONS", "/api/objects", headers=other | ask).status_code
    sent = api.post(headers=own | bearer(WRITE) | {"sec-fetch-site": "cross-site"})
    assert (202, "https://shop.example") == (sent.status_code, sent.headers["access-control-allow-origin"])
    assert "location" in sent.headers["access-control-expose-headers"].lower()
    assert 403 == api.post(headers=other | bearer(WRITE) | {"sec-fetch-site": "cross-site"}).status_code
    assert "https://shop.example" == api.post(headers=own).headers["access-control-allow-origin"]


def test_limit_holds_for_each_client(make_api):
    """The request after the burst is a 429 that says when to come back; another key is another client."""
    api = make_api(api_keys_read=f"{READ},{OLD}", api_keys_write=WRITE, rate_limit_per_s=0.1, rate_limit_burst=2)
    answers = [api.request("GET", "/api/control", headers=bearer(READ)) for _ in range(3)]
    assert [200, 200, 429] == [answer.status_code for answer in answers]
    assert ['"client";r=1;t=10', '"client";r=0;t=20', '"client";r=0;t=20'] == [a.headers["ratelimit"] for a in answers]
    assert ('"client";q=2;w=20', "10") == (answers[2].headers["ratelimit-policy"], answers[2].headers["retry-after"])
    assert "urn:ebs:problem:rate-limited" == answers[2].json()["type"]
    assert 200 == api.request("GET", "/api/control", headers=bearer(OLD)).status_code
    assert [200] * 4 == [api.get("/livez").status_code for _ in range(4)]


def test_guesses_of_keys_count_for_their_address(make_api):
    """Many wrong keys are one client."""
    api = make_api(api_keys_read=READ, rate_limit_per_s=0.1, rate_limit_burst=2)
    assert [401, 401, 429] == [api.request("GET", "/", headers=bearer(f"guess-{n}")).status_code for n in range(3)]


@pytest.mark.parametrize("path", ["/api/objects", PAUSE, "/api/dead-letters/redrive", "/objects"])
def test_body_without_a_length_is_cut_off_at_the_limit(make_api, path):
    """A chunked body is not read on past EBS_MAX_BODY_BYTES, at any route that takes one."""
    api, sent = make_api(max_body_bytes=1_024), []

    async def endless():
        for _ in range(1_000):
            sent.append(b" " * 512)
            yield sent[-1]

    answer = api.post(path, content=endless(), headers={"content-type": "application/json"})
    assert (413, True) == (answer.status_code, len(sent) < 10)


def test_form_without_a_length_is_cut_off_too(make_api):
    """The login takes a key, not a film."""
    api = make_api(api_keys_read=READ)
    assert 413 == api.post("/login", content=b"x" * 9_000, headers=FORM).status_code


class TestProxies:
    """X-Forwarded-For."""

    @pytest.mark.parametrize(
        ("peer", "said", "expected"),
        [
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
            ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", "rubbish", "10.0.0.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ],
    )
    def test_only_what_our_proxies_add_is_believed(self, peer, said, expected):
        """A client that writes the header himself is still the one that our proxy saw."""
        from starlette.datastructures import Headers  # noqa: PLC0415  # the only place

        headers = Headers({"x-forwarded-for": said} if said else {})
        assert expected == Proxies(["10.0.0.0/8"]).client_of(peer, headers)


async def test_limit_counts_the_clients_behind_our_proxy():
    """Who comes by the proxy is counted by his own address; who forges the header is counted as he is."""
    answered = []

    async def app(scope, _receive, send):
        answered.append(scope["client"][0])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gate = Gate(
        app,
        keys=Keys([], []),
        proxies=Proxies(["10.0.0.1"]),
        rate_limit=RateLimit(1, 1),
        open_paths=frozenset(),
        sessions=Sessions(Keys([], []), View(0.1), lambda: 0),
        monotonic_s=lambda: 0.0,
    )

    async def ask(peer: str, said: str) -> int:
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        headers = [(b"x-forwarded-for", said.encode())]
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": headers,
            "client": (peer, 1),
            "query_string": b"",
        }
        await gate(scope, None, send)
        return statuses[0]

    asked = [
        ("10.0.0.1", "1.1.1.1"),
        ("10.0.0.1", "2.2.2.2"),
        ("10.0.0.1", "1.1.1.1"),
        ("9.9.9.9", "3.3.3.3"),
        ("9.9.9.9", "4.4.4.4"),
    ]
    assert [200, 200, 429, 200, 429] == [await ask(*one) for one in asked]
    assert ["1.1.1.1", "2.2.2.2", "9.9.9.9"] == answered
