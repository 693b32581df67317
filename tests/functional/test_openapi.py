"""The OpenAPI document: no route without a summary, schemas and its errors; and the page that shows it."""

from __future__ import annotations

import re

import jsonschema
import pytest

from api import main

JSON = "application/json"
PROBLEM = "application/problem+json"


@pytest.fixture
def document(api) -> dict:
    """Return the document as it is served."""
    return api.get("/openapi.json").json()


def operations(document: dict) -> list[tuple[str, dict]]:
    """Return all operations by method and path."""
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_route_is_documented(document):
    """What the application serves under /api is in the document, by each of its methods."""
    served = {
        (f"/api{route.path_format}".rstrip("/"), method.lower())
        for router in main._ROUTERS
        for route in router.routes
        for method in route.methods
        if method != "HEAD" and route.path != "/asyncapi"
    }
    assert served
    assert served == {(path, method) for path, methods in document["paths"].items() for method in methods}


def test_every_operation_says_what_it_does(document):
    """A summary of its own, and a sentence more."""
    summaries = [operation.get("summary", "") for _, operation in operations(document)]
    assert all(summaries)
    assert len(summaries) == len(set(summaries))
    assert [] == [name for name, operation in operations(document) if not operation.get("description")]


def test_every_body_and_answer_has_a_schema(document):
    """The page makes an example of each from its schema."""
    missing = [
        (name, media_type)
        for name, operation in operations(document)
        for part in (operation.get("requestBody", {}), *operation["responses"].values())
        for media_type, content in part.get("content", {}).items()
        if "schema" not in content
    ]
    assert [] == missing
    assert [] == [
        name for name, operation in operations(document) if not any(status < "300" for status in operation["responses"])
    ]


def test_every_example_is_of_its_schema(document):
    """A program that is written after the examples works."""

    def check(part) -> int:
        if isinstance(part, list):
            return sum(map(check, part))
        if not isinstance(part, dict):
            return 0
        found = []
        if isinstance(part.get("examples"), list):
            found = [(example, part) for example in part["examples"]]
        elif "schema" in part and "example" in part:
            found = [(part["example"], part["schema"])]
        for example, schema in found:
            jsonschema.Draft202012Validator(schema | components).validate(example)
        return len(found) + sum(map(check, part.values()))

    components = {"components": document["components"]}
    assert check(document) > 10


def test_texts_of_several_lines_have_no_indents(document):
    """A docstring is indented in the code; Swagger UI would show the rest of it as code."""
    descriptions = [schema["description"] for schema in document["components"]["schemas"].values()]
    assert any("\n" in one for one in descriptions)
    assert [] == [one for one in descriptions if "\n    " in one]


def test_every_operation_documents_its_errors(document):
    """Unexpected ones everywhere; all that may be wrong with a body, and with a parameter."""
    for name, operation in operations(document):
        errors = {status for status in operation["responses"] if status >= "400"}
        wanted = {"422", "500"}  # 422: a query parameter that there is not
        if "requestBody" in operation:
            wanted |= {"400", "413", "415"}
        assert wanted <= errors, name
        for status in errors:
            problem = operation["responses"][status]["content"][PROBLEM]
            assert {"$ref": "#/components/schemas/ProblemDocument"} == problem["schema"], name


def test_examples_of_submits_are_taken(api, document):
    """What the document shows is accepted as it stands."""
    single = document["paths"]["/api/objects"]["post"]["requestBody"]["content"][JSON]["examples"]
    assert [202] * len(single) == [api.post(json=one["value"]).status_code for one in single.values()]
    batch = document["paths"]["/api/objects/batch"]["post"]["requestBody"]["content"]
    for media_type, content in batch.items():
        body = content["example"]
        sent = {"json": body} if media_type == JSON else {"content": body.encode()}
        answer = api.post("/api/objects/batch", headers={"content-type": media_type}, **sent)
        assert (207, True) == (answer.status_code, '"status":202' in answer.text)


def test_errors_of_keys_are_documented_where_keys_are_set(make_api):
    """With keys every operation may be refused for want of one."""
    api = make_api(api_keys_write="w" * 40)
    document = api.request("GET", "/openapi.json", headers={"X-API-Key": "w" * 40}).json()
    for name, operation in operations(document):
        assert {"401", "403", "429"} <= set(operation["responses"]), name


def test_docs_fetch_nothing_from_outside(api):
    """Swagger UI is served by this process; there is no other page that would come from a CDN."""
    page = api.get("/docs")
    assert (200, "text/html; charset=utf-8") == (page.status_code, page.headers["content-type"])
    addresses = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(addresses) >= 3
    for address in addresses:
        assert address.startswith("/docs/static/")
        assert 200 == api.get(address).status_code
    assert "//" not in re.sub(r"/\*.*?\*/|<!--.*?-->", "", page.text, flags=re.DOTALL).replace("://", "")
    assert 404 == api.get("/redoc").status_code
