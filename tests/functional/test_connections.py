"""Each request stands for itself, whatever came before it on its connection: on real sockets, loops and parsers."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from served import Connection, request, served

from api.request_tracing import RequestTracing
from api.server.connections import bound_connections
from app.telemetry.tracing import Tracing

READ, WRITE = "read-key-0123456789", "write-key-0123456789"
JSON, FORM_TYPE = "application/json", "application/x-www-form-urlencoded"
SERVERS = [
    {"loop": loop, "http": http} for loop, http in itertools.product(("uvloop", "asyncio"), ("httptools", "h11"))
]
ENDLESS = {
    b"GET /livez?": b"a=b&",
    b"GET /livez HTTP/1.1\r\nhost: api\r\nx: ": b"aaaa",
    b"GET /livez HTTP/1.1\r\nhost: api\r\n": b"x: y\r\n",
    b"POST /api/objects HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n0\r\n": b"x: y\r\n",
}
"""Beginnings of requests, and what may follow for ever: a query, a header, headers, trailers."""
BATCH = json.dumps([{"content": "x" * 400} for _ in range(2_000)]).encode()


@pytest.fixture(params=SERVERS, ids=lambda server: "-".join(server.values()))
def connect(request, make_api):
    """Return a function that serves an API of these settings and returns a connection to it."""
    opened = []

    def connect(**settings) -> Connection:
        serving = served(make_api(**settings).app, **request.param)
        connection = Connection(serving.__enter__())
        opened.append((connection, serving))
        return connection

    yield connect
    for connection, serving in opened:
        connection.close()
        serving.__exit__(None, None, None)


def with_key(method: str, path: str, key: str, body: bytes = b"", **headers: str) -> bytes:
    """Return a request with a key."""
    return request(method, path, body, authorization=f"Bearer {key}", content_type="application/json", **headers)


def test_pipelined_request_does_not_act_with_the_key_of_the_one_before(connect):
    """A GET with a key that writes, and behind it a POST with none."""
    connection = connect(api_keys_write=WRITE)
    connection.send(with_key("GET", "/api/control", WRITE), request("POST", "/api/objects"))
    assert [200, 401] == [connection.read().status for _ in range(2)]


def test_request_after_a_large_body_does_not_act_with_its_key(connect):
    """The server stops reading while a large body waits, and what starts it again is the request's own context."""
    connection = connect(api_keys_write=WRITE)
    assert 207 == connection.ask(with_key("POST", "/api/objects/batch", WRITE, BATCH)).status
    assert [401] * 3 == [connection.ask(request("POST", "/api/objects")).status for _ in range(3)]


def test_page_gives_its_rights_to_none_that_comes_later(connect):
    """The page's own calls of the API have its rights: those calls alone."""
    connection = connect(api_keys_read=READ)
    connection.send(
        with_key("GET", "/", READ, accept="text/html"),
        request("GET", "/api/statistics"),
        with_key("GET", "/", READ, accept="text/html"),
        with_key("POST", "/api/control/pause", READ),
    )
    answers = [connection.read() for _ in range(4)]
    assert [200, 401, 200, 403] == [answer.status for answer in answers]
    assert b"Unauthorized" not in answers[0].body + answers[2].body


def cookie_of(connection: Connection, key: str) -> str:
    """Log in over a connection; returns the cookie, as a browser sends it."""
    answer = connection.ask(request("POST", "/login", f"key={key}&next=/".encode(), content_type=FORM_TYPE))
    assert 303 == answer.status
    return answer.headers["set-cookie"].partition(";")[0]


def page(path: str, cookie: str, method: str = "GET", **headers: str) -> bytes:
    """Return what a browser sends with a cookie."""
    return request(method, path, cookie=cookie, accept="text/html", **headers)


def test_cookie_holds_for_its_request_only(connect):
    """On one connection: with it, without it, with that of a key that reads, and with one of nobody."""
    connection = connect(api_keys_read=READ, api_keys_write=WRITE)
    writes, reads = cookie_of(connection, WRITE), cookie_of(connection, READ)
    asked = [
        (writes, 202),
        ("", 401),
        (reads, 403),
        (f"{reads}; a=b", 403),
        ("ebs_session=x", 401),
        (writes, 202),
        ("", 401),
    ]
    connection.send(
        *[request("POST", "/api/objects", b'{"name": "n"}', cookie=one, content_type=JSON) for one, _ in asked]
    )
    assert [status for _, status in asked] == [connection.read("POST").status for _ in asked]


def test_logout_ends_a_session_on_every_connection(connect):
    """On the connection that was let in with it, on others, for what is pipelined behind it, and for good."""
    connection = connect(api_keys_write=WRITE)
    other = Connection(connection.port)
    cookie, still = cookie_of(connection, WRITE), cookie_of(other, WRITE)
    assert [200, 200] == [one.ask(request("GET", "/api/control", cookie=cookie)).status for one in (connection, other)]
    connection.send(page("/logout", cookie, "POST"), *[request("GET", "/api/control", cookie=cookie)] * 3)
    assert [303, 401, 401, 401] == [connection.read().status for _ in range(4)]
    assert [401, 200] == [other.ask(request("GET", "/api/control", cookie=one)).status for one in (cookie, still)]
    # What the page gets instead leads to the login, and takes the cookie's place in no cache.
    answer = other.ask(page("/objects", cookie))
    assert (303, "no-store") == (answer.status, answer.headers["cache-control"])
    other.close()


def test_session_is_counted_with_its_key_and_a_stranger_with_his_address(connect):
    """Behind one address: who has no key, or a wrong one, takes nothing from those who have one."""
    connection = connect(api_keys_read=READ, api_keys_write=WRITE, rate_limit_per_s=0.001, rate_limit_burst=3)
    cookie = cookie_of(connection, READ)  # counts for the address
    connection.send(*[request("GET", "/api/control", cookie="ebs_session=guess")] * 3)
    assert [401, 401, 429] == [connection.read().status for _ in range(3)]
    asked = [with_key("GET", "/api/control", READ), request("GET", "/api/control", cookie=cookie)] * 2
    connection.send(*asked, with_key("GET", "/api/control", WRITE), request("GET", "/api/control"))
    assert [200, 200, 200, 429, 200, 429] == [connection.read().status for _ in range(6)]


def test_pipelined_requests_are_counted_one_by_one(connect):
    """300 at once against 5 a second: the burst passes, no more."""
    connection = connect(rate_limit_per_s=0.001, rate_limit_burst=5)
    connection.send(*[request("GET", "/api/control")] * 300)
    assert [200] * 5 + [429] * 295 == [connection.read().status for _ in range(300)]


def test_request_without_an_end_is_cut_off(connect):
    """Whoever reaches the port may send it: no key is asked for before the head has come."""
    port = connect(api_keys_write=WRITE).port
    for begin, more in ENDLESS.items():
        connection = Connection(port)
        with suppress(ConnectionError):
            connection.send(begin)
            for _ in range(8):
                connection.send(more * 8_192)
        connection.wait_for_hang_up()
        connection.close()


def test_requests_whose_answers_nobody_reads_wait_in_the_socket(connect):
    """The server reads no further while it answers: they would fill its memory."""
    connection = connect()
    assert connection.send_until_it_waits(request("GET", "/openapi.json") * 1_000, 20_000_000) < 10_000_000


def test_connection_without_a_request_is_closed_in_time(connect):
    """Silent, in the middle of a head, and silent after an answer."""
    bound_connections(head_limit_s=0.5)
    try:
        silent = connect()
        slow, answered = (Connection(silent.port) for _ in range(2))
        slow.send(b"GET /livez HT")
        answered.ask(request("GET", "/livez"))
        answered.send(b"GET ")
        for connection in (silent, slow, answered):
            connection.wait_for_hang_up()
            connection.close()
    finally:
        bound_connections()


@pytest.mark.parametrize("name", ["ebs.outer", "ebs-outer", "ebs_outer", "ebs.rights", "inside", "x-inside"])
def test_no_header_makes_a_request_one_of_the_dashboard(connect, name):
    """What marks the dashboard's calls cannot be sent."""
    connection = connect(api_keys_write=WRITE)
    assert 401 == connection.ask(f"GET /api/control HTTP/1.1\r\nhost: api\r\n{name}: write\r\n\r\n".encode()).status


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: "-".join(server.values()))
def test_each_request_on_a_connection_has_a_trace_of_its_own(server, api):
    """None is a part of the one before it, and none goes without a span: pages and what they ask inside have one."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = RequestTracing(api.app, Tracing(provider.get_tracer("test")))
    paths = ["/", "/api/control", "/", "/api/control"]
    with served(app, **server) as port:
        connection = Connection(port)
        connection.send(*[request("GET", path, accept="text/html" if path == "/" else "*/*") for path in paths])
        assert [200] * 4 == [connection.read().status for _ in paths]
        connection.close()
    spans = exporter.get_finished_spans()
    assert paths == [span.attributes["url.path"] for span in spans]
    assert ["GET", "GET /api/control"] * 2 == [span.name for span in spans]
    assert (4, {None}) == (len({span.context.trace_id for span in spans}), {span.parent for span in spans})
