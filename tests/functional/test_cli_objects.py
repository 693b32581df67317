"""`ebs objects`, and `ebs submit --content` from files and pipes, against the application itself."""

from __future__ import annotations

import json

import pytest
from plain_names import OBJECTS

from app import json_text
from app.events import decode_object

COLUMNS = {"COLUMNS": "200"}


def contents(api) -> list:
    """Return the contents on the topic."""
    topics = api.topics.records.items()
    values = [record.value for (topic, _), log in topics if topic == OBJECTS for record in log]
    return [json_text.decode(decode_object(value).content) for value in values]


def test_objects_are_listed(api, ebs):
    """With their state, tasks, kind and name; --json is the API's answer."""
    api.post("/api/objects", json={"name": "first", "kind": "mail", "tasks": 2})
    api.post("/api/objects", json={"name": "[second]"})
    table = ebs("objects").stdout
    assert all(text in table for text in ("first", "[second]", "mail", "default", "CREATED", "0 of 2"))
    listed = json.loads(ebs("objects", "--json").stdout)["objects"]
    assert {"first", "[second]"} == {one["name"] for one in listed}
    assert all(one["id"] in table for one in listed)


def test_objects_are_filtered(api, ebs):
    """By kind, state and time, as the API does; states in any case, several with commas."""
    api.post("/api/objects", json={"name": "first", "kind": "mail"})
    api.post("/api/objects", json={"name": "second"})

    def names(*options: str) -> set[str]:
        return {one["name"] for one in json.loads(ebs("objects", "--json", *options).stdout)["objects"]}

    assert {"first"} == names("--kind", "mail")
    assert {"first", "second"} == names("--state", "created, failed")
    assert set() == names("--state", "FAILED")
    assert {"first", "second"} == names("--since", "2026-01-01T00:00")
    assert set() == names("--before", "2026-01-01T00:00")
    assert "no object matches" in ebs("objects", "--kind", "nobody").stdout


def test_next_page_is_named(api, ebs):
    """On stderr, so that a pipe gets the table only."""
    for number in range(3):
        api.post("/api/objects", json={"name": f"n{number}"})
    first = ebs("objects", "--limit", "2")
    cursor = first.stderr.split("--cursor ")[1].strip()
    rest = json.loads(ebs("objects", "--json", "--cursor", cursor).stdout)
    assert (1, None) == (len(rest["objects"]), rest["next_cursor"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--state", "lost"], "'LOST' is not a state: give one or several of CREATED"),
        (["--since", "soon"], "soon is not a time"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_filter_is_wrong_usage(ebs, options, said):
    """Exit code 2, and what may be given."""
    refused = ebs("objects", *options)
    assert (2, True) == (refused.exit_code, said in " ".join(refused.stderr.replace("│", " ").split()))


def test_content_of_a_file(api, ebs, tmp_path):
    """As it is, line ends included."""
    path = tmp_path / "content.txt"
    path.write_text("first\nzweite Zeile: ä\n")
    assert 0 == ebs("submit", "--content", f"@{path}").exit_code
    assert ["first\nzweite Zeile: ä\n"] == contents(api)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--content", '{"a": 1}'), '{"a": 1}'),
        (("--content-json", '{"a": [1, null]}'), {"a": [1, None]}),
        (("--content-json", "123456789012345678901234567890"), 123456789012345678901234567890),
        (("--content-json", "-"), {"piped": True}),
        (("--content-json", "@{file}"), {"filed": 1.5}),
        (("--content", "@{file}"), {"filed": 1.5}),
        (("--content", "-"), '{"piped": true}'),
    ],
)
def test_content_is_json_where_it_is_said_to_be(api, ebs, tmp_path, options, expected):
    """By its option, or by the name of its file; anything else is a text, whatever it looks like."""
    file = tmp_path / "order.json"
    file.write_text('{\n"filed": 1.5\n}')
    result = ebs("submit", *(one.replace("{file}", str(file)) for one in options), stdin=b'{"piped": true}')
    assert 0 == result.exit_code, result.output
    assert [expected] == contents(api)
    (listed,) = json.loads(ebs("objects", "--json").stdout)["objects"]
    shown = ebs("status", listed["id"]).stdout
    assert (expected if isinstance(expected, str) else json.dumps(expected)) in shown


@pytest.mark.parametrize("wrong", ["{", "NaN", "[1e999]", "[" * 501 + "]" * 501, ""])
def test_content_that_is_no_json_is_refused(api, ebs, wrong):
    """Exit code 2, with what is wrong and the option for a text; nothing is sent."""
    result = ebs("submit", "--content-json", wrong)
    assert 2 == result.exit_code
    assert "is not JSON" in result.stderr
    assert [] == contents(api)


@pytest.mark.parametrize("given", ["-", "@-"])
def test_content_of_a_pipe(api, ebs, given):
    """`-` is stdin, as for --file."""
    assert 0 == ebs("submit", "--content", given, stdin=b"from a pipe").exit_code
    assert ["from a pipe"] == contents(api)


@pytest.mark.parametrize(("given", "text"), [("@@all", "@all"), ("a@b", "a@b"), ("", ""), ("-x", "-x"), ("--", "--")])
def test_content_that_only_looks_like_a_file(api, ebs, given, text):
    """A text stays a text; @@ begins one with @."""
    result = ebs("submit", f"--content={given}")
    assert (0, [text]) == (result.exit_code, contents(api)), result.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("@", "names no file"),
        ("@missing", "--content @missing cannot be read (No such file or directory); for a text that begins with @"),
        ("@.", "--content @. cannot be read (Is a directory)"),
        ("@/dev/zero", "is over 67,108,864 bytes"),
        ("@~nobody-of-this-name/x", "cannot be read"),
    ],
)
def test_content_that_cannot_be_read_is_wrong_usage(api, ebs, given, said):
    """Exit code 2, one sentence, and nothing is submitted."""
    refused = ebs("submit", "--content", given)
    assert (2, True) == (refused.exit_code, said in " ".join(refused.stderr.replace("│", " ").split()))
    assert [] == contents(api)


def test_content_that_is_no_text_is_wrong_usage(ebs, tmp_path):
    """JSON holds text only; the error says what to do."""
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    refused = ebs("submit", "--content", f"@{path}")
    said = " ".join(refused.stderr.replace("│", " ").split())
    assert (2, True, True) == (refused.exit_code, "is not UTF-8 text (at byte 0)" in said, "base64" in said)


def test_file_of_objects_and_content_together_are_wrong_usage(ebs):
    """Before anything is read."""
    refused = ebs("submit", "--file", "-", "--content", "@missing")
    assert (2, True) == (refused.exit_code, "--file contains whole objects" in refused.stderr)
