"""What every route has in common: errors, probes, documentation."""

from __future__ import annotations

import msgspec
import pytest
from served import Connection, request, served

from api.server import schemas
from api.service.health_routes import Health
from api.view.view import Progress
from app.errors import BrokerUnavailable

NOW_MS = 1_795_489_276_303


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere", "/api/objects/a/b/c"])
def test_unknown_path_is_a_problem(api, path):
    """404 of a path is a problem document that names the path."""
    answer = api.get(path)
    problem = msgspec.convert(answer.json(), schemas.ProblemDocument)
    assert (404, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert ("about:blank", "Not Found", 404, path) == (problem.type, problem.title, problem.status, problem.instance)


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/api/objects"), ("POST", "/statistics"), ("PUT", "/livez")])
def test_wrong_method_is_a_problem_that_names_the_right_one(api, method, path):
    """405 keeps its Allow header."""
    answer = api.request(method, path)
    assert (405, 405) == (answer.status_code, answer.json()["status"])
    assert answer.headers["allow"] in answer.json()["detail"]


def test_unexpected_error_shows_no_internals(api):
    """What nobody expected is a 500 that tells nothing of the code."""
    api.topics.failure = ZeroDivisionError("secret internals")
    answer = api.post()
    assert (500, "application/problem+json") == (answer.status_code, answer.headers["content-type"])
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", ["/livez", "/api/livez"])
def test_process_is_live_whatever_the_broker_does(make_api, path):
    """Liveness does not look at the broker: restarting this process would not help it."""
    api = make_api(attached=False)
    api.topics.failure = BrokerUnavailable("nobody answers")
    assert (200, {"status": "ok"}) == (api.get(path).status_code, api.get(path).json())


def test_process_whose_view_makes_no_progress_is_not_live(api):
    """Somebody should start it again; the reason is in the body."""
    api.verdict = "objects-0 stood still for 60 s"
    answer = api.get("/livez")
    assert (503, "no-store", api.verdict) == (
        answer.status_code,
        answer.headers["cache-control"],
        answer.json()["detail"],
    )


def test_ready_once_the_view_has_caught_up(api):
    """Not ready at first; ready when all is read; still ready when a little is behind again."""
    before = api.get("/readyz")
    api.topics.deliver()
    after = api.get("/readyz")
    api.view.note_progress(Progress(7, NOW_MS, NOW_MS), api.view.offsets())
    assert [503, 200, 200] == [before.status_code, after.status_code, api.get("/api/readyz").status_code]
    assert ["retry-after" in before.headers, 1] == [True, len(before.json()["reasons"])]


def test_not_ready_without_the_broker(api):
    """A publisher without a broker makes the process unready, with the reason."""
    api.topics.deliver()
    api.topics.failure = BrokerUnavailable("not connected")
    answer = api.get("/readyz")
    assert (503, ["not connected"]) == (answer.status_code, answer.json()["reasons"])


def test_not_ready_when_the_broker_is_silent(api):
    """A broker that accepts connections but answers nothing is away too."""
    api.view.note_progress(Progress(0, NOW_MS - 60_000, NOW_MS - 60_000), api.view.offsets())
    answer = api.get("/readyz")
    assert (503, ["the Kafka broker has not answered for 60 s"]) == (answer.status_code, answer.json()["reasons"])


def test_verbose_readiness_lists_the_checks(api):
    """`?verbose` adds every check, right or wrong."""
    api.topics.deliver()
    health = msgspec.convert(api.get("/readyz?verbose").json(), Health)
    assert [("broker", True), ("view", True)] == [(check.name, check.ok) for check in health.checks or []]
    api.topics.failure = BrokerUnavailable("not connected")
    checks = api.get("/readyz?verbose").json()["checks"]
    assert [("broker", False), ("view", True)] == [(check["name"], check["ok"]) for check in checks]


def test_documentation_is_there(api):
    """`/docs` answers, and `/` leads to it."""
    assert 200 == api.get("/docs").status_code
    assert "/docs" == api.get("/").headers["location"]


def test_openapi_documents_each_path_once_with_its_errors(api):
    """Paths without /api are the same ones, so they are left out; errors are problem documents throughout."""
    document = api.get("/openapi.json").json()
    assert {
        "/api/asyncapi.json",
        "/api/objects/{object_id}/tasks/{task}",
        "/api/objects",
        "/api/objects/batch",
        "/api/objects/{object_id}",
        "/api/objects/{object_id}/events",
        "/api/objects/{object_id}/tasks",
        "/api/dead-letters",
        "/api/dead-letters/{letter_id}",
        "/api/dead-letters/{letter_id}/redrive",
        "/api/dead-letters/redrive",
        "/api/dead-letters/redrives",
        "/api/dead-letters/redrives/{run_id}",
        "/api/statistics",
        "/api/statistics/stream",
        "/api/statistics/windows",
        "/api/statistics/audit",
        "/api/control",
        "/api/control/pause",
        "/api/control/resume",
        "/api/control/rate/{kind}",
        "/api/control/limits/{kind}",
        "/api/control/concurrency",
        "/api/control/cancel",
        "/api/control/drain/{worker}",
        "/api/schedules",
        "/api/schedules/{name}",
        "/api/schedules/{name}/pause",
        "/api/schedules/{name}/resume",
        "/api/schedules/{name}/run",
        "/api/queues",
        "/api/waiting",
        "/api/waiting/cancel",
        "/api/waiting/counts",
        "/api/waiting/start",
        "/api/workers",
        "/api/livez",
        "/api/metrics",
        "/api/readyz",
    } == set(document["paths"])
    post = document["paths"]["/api/objects"]["post"]
    assert {"202", "400", "409", "413", "415", "422", "429", "500", "503"} == set(post["responses"])
    assert "#/components/schemas/ObjectRequest" in str(post["requestBody"])
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                assert ("application/problem+json" in response.get("content", {})) == (int(status) >= 400)


def test_openapi_names_only_schemas_that_it_has(api):
    """No reference of the document leads nowhere."""
    document = api.get("/openapi.json").json()
    names = {part.split('"')[0] for part in api.get("/openapi.json").text.split("#/components/schemas/")[1:]}
    assert set() == names - set(document["components"]["schemas"])


@pytest.mark.parametrize(
    "path", ["/", "/objects", "/control", "/livez", "/readyz", "/metrics", "/api/objects", "/api/statistics", "/docs"]
)
@pytest.mark.parametrize("accept", ["text/html", "*/*"])
def test_head_is_get_without_the_body(api, path, accept):
    """For pages, probes and metrics: monitors ask so."""
    api.topics.deliver()
    answers = [api.request(method, path, headers={"accept": accept}) for method in ("GET", "HEAD")]
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].headers.get("content-type") == answers[1].headers.get("content-type")
    assert b"" == answers[1].content


@pytest.mark.parametrize("path", ["/api/statistics/stream", "/live/control"])
def test_head_of_a_stream_ends(api, path):
    """Its beginning is all that there is to say."""
    answer = api.request("HEAD", path)
    assert (200, "text/event-stream") == (answer.status_code, answer.headers["content-type"].partition(";")[0])


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_head_leaves_the_connection_in_order(api, http):
    """On real sockets: no byte of a body, and the next answer is whole."""
    api.topics.deliver()
    with served(api.app, loop="asyncio", http=http) as port:
        connection = Connection(port)
        paths = ("/metrics", "/api/statistics/stream", "/livez")
        assert [200] * 3 == [connection.ask(request("HEAD", path)).status for path in paths]
        assert b'{"status":"ok"}' == connection.ask(request("GET", "/livez")).body
        connection.close()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/api/objects", "GET, HEAD, POST"),
        ("PUT", "/objects", "GET, HEAD, POST"),
        ("POST", "/api/objects/a", "DELETE, GET, HEAD"),
        ("GET", "/api/control/rate/mail", "DELETE, PUT"),
        ("POST", "/api/control/concurrency", "DELETE, PUT"),
        ("POST", "/livez", "GET, HEAD"),
        ("DELETE", "/metrics", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("OPTIONS", "/api/objects", "GET, HEAD, POST"),
    ],
)
def test_wrong_method_says_all_that_the_path_takes(api, method, path, allowed):
    """Also where several routes share a path."""
    answer = api.request(method, path)
    assert (405, allowed) == (answer.status_code, answer.headers["allow"])
    assert f"only {allowed}" in answer.json()["detail"]
