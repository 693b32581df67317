"""The API's client: JSON in and out, and every way to fail as one sentence."""

from __future__ import annotations

import json
import threading

import httpx
import pytest

from ebs.cli.client import ApiClient, ApiError, path_of
from ebs.errors import SettingsError


def client_of(answer: httpx.Response | Exception, asked: list[httpx.Request] | None = None) -> ApiClient:
    """Return a client of an API that always gives this answer, or fails like this."""

    def respond(request: httpx.Request) -> httpx.Response:
        if asked is not None:
            asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ApiClient("http://api:8000", transport=httpx.MockTransport(respond))


def test_answers_are_json():
    """What the API says comes back decoded; parameters that are None are not sent, nor is a body that is None."""
    asked: list[httpx.Request] = []
    with client_of(httpx.Response(200, json={"workers": []}), asked) as client:
        assert {"workers": []} == client.get("/api/workers", role=None, limit=3)
        client.post("/api/control/pause")
        client.put("/api/control/rate/mail", {"per_s": 2.5})
        client.delete("/api/control/rate/mail")
    assert ["/api/workers?limit=3", "/api/control/pause", "/api/control/rate/mail", "/api/control/rate/mail"] == [
        str(request.url).removeprefix("http://api:8000") for request in asked
    ]
    assert [b"", b"", {"per_s": 2.5}, b""] == [
        json.loads(request.content) if request.content else b"" for request in asked
    ]


def test_problem_is_raised_with_its_detail_and_document():
    """A problem document's detail is the sentence; programs find the rest in `problem`."""
    document = {"type": "urn:ebs:problem:not-found", "detail": "there is no object a"}
    with client_of(httpx.Response(404, json=document)) as client, pytest.raises(ApiError) as caught:
        client.get("/api/objects/a")
    assert ("there is no object a", document) == (str(caught.value), caught.value.problem)


def test_every_wrong_field_is_named():
    """A 422 names all that is wrong, not only the first."""
    errors = [{"pointer": "#/per_s", "detail": "too small"}, {"parameter": "kind", "detail": "too long"}]
    with (
        client_of(httpx.Response(422, json={"detail": "two", "errors": errors})) as client,
        pytest.raises(ApiError, match=r"^#/per_s: too small; kind: too long$"),
    ):
        client.get("/")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.ConnectError("refused"), r"^no API answers at http://api:8000 \(refused\): start it with `ebs up`"),
        (httpx.ReadTimeout("slow"), r"^http://api:8000 takes connections and did not answer within 30 s: .*--api URL"),
        (
            httpx.Response(502, text="<html>"),
            r"^http://api:8000/api/workers answers 502 without JSON: is EBS_API_URL the ebs API",
        ),
        (httpx.Response(200, text="hello"), r"answers 200 without JSON"),
        (httpx.Response(500, json=[1]), r"answers 500 Internal Server Error$"),
    ],
)
def test_what_is_no_answer_of_the_api_is_one_sentence(answer, said):
    """Nobody there, nobody answering, somebody else there: each says what to do."""
    with client_of(answer) as client, pytest.raises(ApiError, match=said):
        client.get("/api/workers")


def test_silent_api_is_told_of_while_it_is_waited_for():
    """It takes the connection and says nothing. A request that asks the API to wait is expected to take long."""
    said: list[str] = []
    told = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        told.set()

    def respond(request: httpx.Request) -> httpx.Response:
        if "wait" not in request.url.params:
            assert told.wait(30)
        return httpx.Response(200, json={})

    with ApiClient("http://api:8000", transport=httpx.MockTransport(respond), say=say) as client:
        client.get("/api/workers")
        client.get("/api/objects/a", wait=20)
    assert ["waiting for an answer from http://api:8000, up to 30 s"] == said


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://[::1", ""])
def test_url_that_is_none_is_named(url):
    """A wrong EBS_API_URL is said to be wrong, without a traceback."""
    with pytest.raises(SettingsError, match="EBS_API_URL="):
        ApiClient(url)


def test_path_keeps_an_id_in_one_part():
    """An outside producer's id may hold anything."""
    assert "/api/objects/a%2Fb%20%3F/tasks" == path_of("objects", "a/b ?", "tasks")


def test_key_is_sent_and_never_shown():
    """The key goes along with each request; an error does not repeat it."""
    seen = []

    def refuse(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(401, json={"detail": "the API does not know this key"})

    client = ApiClient("http://api", key="a-key-0123456789ab", transport=httpx.MockTransport(refuse))
    with client, pytest.raises(ApiError, match="does not know this key") as refused:
        client.get("/api/workers")
    assert ["Bearer a-key-0123456789ab"] == seen
    assert "a-key" not in str(refused.value)
