"""Who gets a page and who gets JSON, and that no other site can act for a person."""

from __future__ import annotations

import msgspec
import pytest
from browsing import ACCEPT, BROWSER, browse, send_form
from starlette.datastructures import Headers

from api.control import schemas as control_schemas
from api.dashboard.negotiation import wants_page
from api.dashboard.own_site import is_own
from api.pages import PAGES
from api.statistics import schemas as statistics_schemas


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (ACCEPT, True),
        ("text/html", True),
        ("application/json, text/html", True),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=x", False),
        ("application/json", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
    ],
)
def test_page_is_for_clients_that_accept_html(accept, expected):
    """Browsers do; curl, httpx and the like say `*/*` or nothing."""
    scope = {"type": "http", "headers": [(b"accept", accept.encode())]}
    assert expected == wants_page(scope)


@pytest.mark.parametrize("path", ["/objects", "/statistics/windows", "/workers", "/dead-letters", "/control"])
def test_program_gets_the_same_json_with_and_without_api(api, path):
    """The page's path answers programs as /api does, whether they ask for JSON or for anything."""
    api.topics.deliver()
    answers = [api.request("GET", f"/api{path}"), api.get(path)]
    answers.append(api.request("GET", path, headers={"accept": "application/json"}))
    assert [200] * 3 == [answer.status_code for answer in answers]
    kept = [{key: value for key, value in answer.json().items() if key not in {"view", "links"}} for answer in answers]
    assert [kept[0]] * 3 == kept


def test_first_page_answers_json_to_clients_that_accept_it(api):
    """Statistics, workers and control as the API has them; who asks for anything is led to the documentation."""
    api.topics.deliver()
    answer = api.request("GET", "/", headers={"accept": "application/json"})
    document = answer.json()
    assert (200, "Accept") == (answer.status_code, answer.headers["vary"])
    msgspec.convert(document["statistics"], statistics_schemas.StatisticsAnswer)
    msgspec.convert(document["control"], control_schemas.ControlAnswer)
    assert (307, "/docs") == (api.get("/").status_code, api.get("/").headers["location"])


def test_page_without_an_api_path_answers_json(api):
    """What the page is drawn from."""
    assert "max_count" in api.request("GET", "/submit", headers={"accept": "application/json"}).json()
    assert "max_count" in api.get("/submit").json()


@pytest.mark.parametrize("path", ["/", "/waiting"])
def test_json_of_a_page_that_is_not_known_is_a_problem(make_api, path):
    """503 as from the API."""
    answer = make_api(attached=False).request("GET", path, headers={"accept": "application/json"})
    assert (503, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


@pytest.mark.parametrize("path", ["/api/objects/nobody", "/api/nowhere"])
def test_api_answers_json_to_browsers_too(api, path):
    """Below /api nothing depends on who asks."""
    answer = api.request("GET", path, headers=BROWSER)
    assert (404, "application/problem+json") == (answer.status_code, answer.headers["content-type"])


def test_json_post_of_a_browsers_script_stays_the_apis(api):
    """Only a form is a form."""
    answer = api.request("POST", "/objects", json={"name": "n"}, headers=BROWSER)
    assert 202 == answer.status_code


def test_form_of_a_program_stays_refused(api):
    """Who does not ask for a page gets the API's 415."""
    assert 415 == api.request("POST", "/objects", data={"name": "n"}).status_code


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("GET", {"sec-fetch-site": "cross-site", "origin": "http://evil"}, True),
        ("POST", {}, True),
        ("POST", {"host": "api:8000", "origin": "http://api:8000"}, True),
        ("POST", {"host": "api:8000", "origin": "http://api:8001"}, False),
        ("POST", {"host": "api", "origin": "null"}, False),
        ("POST", {"host": "api", "origin": "https://evil", "sec-fetch-site": "same-origin"}, True),
        ("POST", {"host": "api", "origin": "http://api", "sec-fetch-site": "cross-site"}, False),
        ("POST", {"sec-fetch-site": "same-site"}, False),
        ("POST", {"sec-fetch-site": "none"}, True),
        ("DELETE", {"sec-fetch-site": "cross-site"}, False),
    ],
)
def test_only_pages_of_this_site_change_things(method, headers, expected):
    """Sec-Fetch-Site decides, else Origin against Host; neither is a program."""
    assert expected == is_own(method, Headers(headers))


@pytest.mark.parametrize("path", ["/control/pause", "/api/control/pause", "/objects", "/api/objects?count=1000"])
def test_form_of_another_site_does_nothing(api, path):
    """403 for the API as for the dashboard: an empty POST would do there what a form does here."""
    answer = send_form(api, path, {"kind": "mail"}, origin="https://evil.example")
    bare = api.request("POST", path, headers={"origin": "https://evil.example"})
    assert [(403, "text/html; charset=utf-8"), (403, "application/problem+json")] == [
        (one.status_code, one.headers["content-type"]) for one in (answer, bare)
    ]
    assert {} == api.topics.records


def test_no_page_may_be_framed_or_guessed(api):
    """Every answer says so, JSON among them."""
    for path in ("/", "/api/objects", "/static/dashboard.css"):
        headers = browse(api, path).headers if path == "/" else api.get(path).headers
        assert ("nosniff", "DENY") == (headers["x-content-type-options"], headers["x-frame-options"])


def test_said_cookie_is_strict(api):
    """What is said after a form rides in a cookie that no script and no other site can read or send."""
    cookie = send_form(api, "/control/pause").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= {part.strip() for part in cookie.split(";")}


def test_static_files_have_their_types(api):
    """A browser that does not guess needs them."""
    types = [api.get(f"/static/{name}").headers["content-type"] for name in ("live.js", "dashboard.css", "icon.svg")]
    assert ["text/javascript; charset=utf-8", "text/css; charset=utf-8", "image/svg+xml"] == types
    assert 200 == api.get("/favicon.ico").status_code


def test_openapi_does_not_list_pages(api):
    """It documents the API."""
    paths = api.get("/openapi.json").json()["paths"]
    assert [] == [path for path in paths if not path.startswith("/api/")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_live_address_is_served(api, page):
    """Each page has one."""
    routes = {getattr(route, "path", None) for route in api.app.router.routes}
    assert f"/live{page.path}" in routes
