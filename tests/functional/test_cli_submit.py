"""`ebs submit`, `status`, `watch` and `stats` against the application itself, without Kafka and a network."""

from __future__ import annotations

import json

import httpx
import pytest
from fake_steps import no_rows
from grave import Grave
from histories import made_fact
from plain_names import CONTROL, OBJECTS
from typer.testing import CliRunner

from app.errors import BrokerUnavailable
from app.events import ObjectCreated, TaskDead, TaskFinished, decode_object, encode, task_id_of
from app.rules.commands import Pause, encode_command
from app.rules.counts import TOTAL_SIZE_MS, WINDOW_MS, Counts, WindowKey
from app.rules.idempotency import object_id_of
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.results import Results
from app.rules.tally import Tally
from ebs.cli import cli
from ebs.cli.client import ApiError

NOW_MS = 1_795_489_276_303


def stored(api) -> list[ObjectCreated]:
    """Return the objects on the topic."""
    return [
        decode_object(record.value)
        for (topic, _), log in api.topics.records.items()
        if topic == OBJECTS
        for record in log
    ]


def end(api, object_id: str, *, dead: bool = False) -> None:
    """Let an object of one task end, as statistics sees it."""
    event = next(one for one in stored(api) if one.object_id == object_id)
    row, tally, results = ObjectRow(), Tally(), Results(no_rows)
    apply_object_created(row, event, tally)
    common = (object_id, task_id_of(object_id, 0), 0, event.kind, 0, 1, 1)
    apply_task_event(row, made_fact("c", *common, NOW_MS), tally)
    if dead:
        apply_task_event(row, TaskDead("d", *common, NOW_MS, "w", 0, 0, "no luck"), tally, results)
    else:
        apply_task_event(row, TaskFinished("f", *common, NOW_MS, "w", 12, 1_500), tally)
    api.topics.write_row(object_id, row, results=results)


@pytest.fixture
def ending(api):
    """Return a function: objects end as soon as they are published, dead those whose name is `bad`."""

    def begin() -> None:
        write = api.topics.write

        def written(topic, partition, key, value, **options):
            offset = write(topic, partition, key, value, **options)
            if topic == OBJECTS:
                event = decode_object(value)
                end(api, event.object_id, dead=event.name == "bad")
            return offset

        api.topics.write = written

    return begin


def test_submit_makes_one_object(api, ebs):
    """The fields that were given are sent, the others are made up; the id is told with what to do next."""
    result = ebs("submit", "--name", "n", "--kind", "mail", "--tasks", "2")
    (event,) = stored(api)
    assert (0, "n", "mail", 2) == (result.exit_code, event.name, event.kind, event.task_count)
    assert f"object {event.object_id}: `ebs status {event.object_id}` shows it\n" == result.stdout
    assert event.content


def test_submit_many_of_one_payload(api, ebs):
    """--count makes so many, with --json all ids."""
    answer = json.loads(ebs("submit", "--count", "250", "--content", "c", "--json").stdout)
    assert (250, []) == (answer["count"], answer["refused"])
    assert {(b'"c"', one) for one in answer["ids"]} == {(bytes(one.content), one.object_id) for one in stored(api)}
    assert "250 objects accepted" in ebs("submit", "--count", "250").stdout


def test_submit_with_a_key_is_safe_to_repeat(api, ebs):
    """One object, or the same many, however often; another payload is refused with exit code 1."""
    for _ in range(2):
        assert 0 == ebs("submit", "--idempotency-key", "k").exit_code
    assert [object_id_of("k")] == [event.object_id for event in stored(api)]
    first, second = (ebs("submit", "--count", "20", "--idempotency-key", "m", "--json").stdout for _ in range(2))
    assert first == second
    refused = ebs("submit", "--name", "other", "--idempotency-key", "k")
    assert isinstance(refused.exception, ApiError)
    assert "with another payload" in str(refused.exception)


def test_submit_a_file(api, ebs, tmp_path):
    """Each line is an object; one that is wrong is told with its line, and the exit code is 1."""
    file = tmp_path / "objects.ndjson"
    file.write_text('{"name": "a"}\n\n{"tasks": 0}\n{"name": "b"}\n{bad\n')
    result = ebs("submit", "--file", str(file))
    assert 1 == result.exit_code
    assert "line 3: #/tasks:" in result.stderr
    assert "line 5: it is not JSON" in result.stderr
    assert "2 were not accepted" in result.stdout
    assert {"a", "b"} == {event.name for event in stored(api)}


DOCUMENTS = {
    "one object": '{\n  "kind": "order",\n  "tasks": [{"content": {"sku": "a"}}, {"content": 2}]\n}\n',
    "an array": '\n[\n  {"tasks": [{"content": {"sku": "a"}}, {"content": 2}]}\n]',
    "a line": '{"tasks": [{"content": {"sku": "a"}}, {"content": 2}]}',
}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("piped", [False, True])
def test_submit_a_document(api, ebs, tmp_path, document, piped):
    """One object or an array, laid out as people like it: from a file or a pipe."""
    file = tmp_path / "order.json"
    file.write_text(DOCUMENTS[document])
    result = ebs("submit", "--file", "-", stdin=file.read_bytes()) if piped else ebs("submit", "--file", str(file))
    assert 0 == result.exit_code, result.output
    (event,) = stored(api)
    assert [b'{"sku":"a"}', b"2"] == [bytes(item.content) for item in event.items]


def test_submit_says_that_the_name_of_a_file_is_sent_as_text(api, ebs, tmp_path):
    """Whoever forgets the @ gets a hint on stderr; a name without a file is a text like any other."""
    file = tmp_path / "order.json"
    file.write_text("{}")
    forgotten = ebs("submit", "--content", str(file))
    assert f"to send the file, write --content @{file}" in " ".join(forgotten.stderr.split())
    assert "write --content" not in ebs("submit", "--content", str(tmp_path / "no.json")).stderr
    assert {f'"{file}"', f'"{tmp_path / "no.json"}"'} == {bytes(event.content).decode() for event in stored(api)}


def test_empty_array_submits_nothing(api, ebs):
    """It is a document of no objects, not a wrong line."""
    assert (0, []) == (ebs("submit", "--file", "-", stdin=b"[]").exit_code, stored(api))


def test_submit_from_stdin_in_pieces(api, ebs):
    """`--file -` reads stdin; more than a request takes are several, and a key makes them safe to repeat."""
    body = b"".join(b'{"name": "%d"}\n' % number for number in range(2_300))
    runs = [ebs("submit", "--file", "-", "--idempotency-key", "f", "--json", stdin=body) for _ in range(2)]
    answers = [json.loads(run.stdout) for run in runs]
    assert answers[0] == answers[1]
    assert 2_300 == answers[0]["count"] == len(stored(api))
    by_id = {event.object_id: event.name for event in stored(api)}
    assert [str(number) for number in range(2_300)] == [by_id[one] for one in answers[0]["ids"]]


def test_submit_wait_ends_with_the_last_object(ebs, ending):
    """--wait is done when all are, with exit code 0; the bar goes to stderr, so that stdout stays JSON."""
    ending()
    result = ebs("submit", "--count", "3", "--tasks", "1", "--wait", "--json")
    answer = json.loads(result.stdout)
    assert (0, 3, [], []) == (result.exit_code, answer["finished"], answer["failed"], answer["open"])
    assert "3 of 3 objects ended" in result.stderr


def test_submit_wait_says_what_failed(api, ebs, ending):
    """One that failed makes the exit code 1; its error is shown, with the command that shows more."""
    ending()
    result = ebs("submit", "--file", "-", "--wait", stdin=b'{"name": "ok", "tasks": 1}\n{"name": "bad", "tasks": 1}\n')
    assert 1 == result.exit_code
    good, bad = (event.object_id for name in ("ok", "bad") for event in stored(api) if event.name == name)
    assert [
        f"object {good}: FINISHED",
        f"object {bad}: FAILED",
        "  task 0 failed after 0 attempts: no luck",
        f"  `ebs tasks {bad} 0` shows every attempt and the stack trace",
        f"1 finished, 1 failed ({bad})",
    ] == result.stdout.splitlines()[2:]


def test_submit_wait_tells_of_many_only_what_failed(api, ebs, ending):
    """As a list of all would hide it."""
    ending()
    body = b'{"name": "ok", "tasks": 1}\n' * 11 + b'{"name": "bad", "tasks": 1}\n'
    answer = json.loads(ebs("submit", "--file", "-", "--wait", "--json", stdin=body).stdout)
    (bad,) = (event.object_id for event in stored(api) if event.name == "bad")
    error = {"task": "0", "attempts": 0, "error": "no luck"}
    told = {"id": bad, "state": "FAILED", "result": None, "tasks_dead": 1, "errors": [error]}
    assert [told] == answer["objects"]


def test_submit_prints_nothing_but_ids(api, ebs, ending):
    """For scripts; how the objects ended is on stderr."""
    ending()
    result = ebs("submit", "--file", "-", "--id-only", "--wait", stdin=b'{"tasks": 1}\n{"name": "bad", "tasks": 1}\n')
    first = {event.object_id for event in stored(api)}
    assert (1, first) == (result.exit_code, set(result.stdout.split()))
    assert "task 0 failed after 0 attempts: no luck" in result.stderr
    (printed,) = ebs("submit", "--id-only").stdout.splitlines()
    assert {printed} == {event.object_id for event in stored(api)} - first


def test_submit_wait_gives_up_at_the_timeout(ebs):
    """What is not at its end by then is told as open, with exit code 1."""
    result = ebs("submit", "--wait", "--timeout", "0.1", "--json")
    assert (1, 1) == (result.exit_code, len(json.loads(result.stdout)["open"]))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--count", "0"],
        ["--tasks", "0"],
        ["--file", "nowhere.ndjson"],
        ["--file", "-", "--name", "n"],
        ["--file", "-", "--count", "2"],
        ["--id-only", "--json"],
    ],
)
def test_wrong_use_is_exit_code_2(api, ebs, arguments):
    """Nothing is sent."""
    assert 2 == ebs("submit", *arguments).exit_code
    assert [] == stored(api)


def answering(*answers: httpx.Response):
    """Return a run of the command against an API that gives these answers, and what it was sent."""
    left, asked = list(answers), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return left.pop(0)

    def run(*arguments: str, stdin: bytes | None = None):
        return CliRunner().invoke(cli, arguments, obj=httpx.MockTransport(answer), input=stdin)

    return run, asked


def busy(**members) -> httpx.Response:
    """Return a 503 that asks to come back at once."""
    return httpx.Response(503, json={"status": 503, "detail": "away", **members}, headers={"retry-after": "0"})


def test_submit_waits_for_a_broker_that_is_away():
    """429 and 503 are tried again when the answer says, each time with the same id: the object is stored once."""
    accepted = httpx.Response(202, json={"id": "a"})
    run, asked = answering(busy(), busy(retry_with={"id": "f" * 32}), accepted)
    assert 0 == run("submit", "--name", "n").exit_code
    first, *others = [json.loads(one.content) for one in asked]
    assert ({"name": "n", "id": first["id"]}, 32, [first, first]) == (first, len(first["id"]), others)


def test_submit_gives_up_in_the_end():
    """After some tries the error is the API's."""
    run, asked = answering(*[busy()] * 5)
    result = run("submit")
    assert (5, "away") == (len(asked), str(result.exception))


def test_lines_that_the_broker_did_not_take_are_sent_again():
    """Those only, each with the id that it had: also one of unknown outcome is stored once."""
    unknown = {"index": 1, "status": 503, "id": "e" * 32, "type": "urn:ebs:problem:outcome-unknown"}
    refused = {"index": 2, "status": 503, "id": "d" * 32, "type": "urn:ebs:problem:broker-unavailable"}

    def lines(*results: dict) -> httpx.Response:
        return httpx.Response(207, text="".join(json.dumps(one) + "\n" for one in (*results, {"summary": {}})))

    first = lines({"index": 0, "status": 202, "id": "a"}, unknown, refused)
    second = lines({"index": 0, "status": 202, "id": "e" * 32}, {"index": 1, "status": 202, "id": "c"})
    run, asked = answering(first, second)
    body = b'{"name": "1"}\n{"name": "2"}\n{"name": "3"}\n'
    answer = json.loads(run("submit", "--file", "-", "--json", stdin=body).stdout)
    assert (["a", "e" * 32, "c"], []) == (answer["ids"], answer["refused"])
    first, second = ([json.loads(line) for line in one.content.splitlines()] for one in asked)
    assert (["1", "2", "3"], first[1:]) == ([one["name"] for one in first], second)
    assert 3 == len({one["id"] for one in first})


def test_answer_that_breaks_off_is_made_good():
    """What it did not tell of is sent again under the same id: it is stored once."""
    told = json.dumps({"index": 0, "status": 202, "id": "a"}) + "\n"
    again = json.dumps({"index": 0, "status": 202, "id": "b"}) + "\n"
    run, asked = answering(httpx.Response(207, text=told + '{"index": 1, "sta'), httpx.Response(207, text=again))
    result = run("submit", "--file", "-", "--json", stdin=b'{"name": "1"}\n{"name": "2"}\n')
    assert (0, ["a", "b"]) == (result.exit_code, json.loads(result.stdout)["ids"])
    assert asked[0].content.splitlines()[1:] == asked[1].content.splitlines()


@pytest.mark.parametrize("arguments", [["submit"], ["submit", "--file", "-"], ["status", "a", "--wait"]])
def test_api_that_is_not_there_is_reported_at_once(arguments):
    """Whoever typed the command sees it, and need not wait for tries that fail alike."""
    asked = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ConnectError("refused")

    result = CliRunner().invoke(cli, arguments, obj=httpx.MockTransport(refuse), input=b'{"name": "1"}\n')
    assert (1, "no API answers at") == (len(asked), str(result.exception)[:17])


def test_status_shows_the_object_and_its_tasks(api, ebs):
    """State, k of N, times and the tasks; as JSON both in one document."""
    object_id = api.post("/api/objects", json={"name": "[n]", "tasks": 1}).json()["id"]
    end(api, object_id)
    shown = ebs("status", object_id)
    assert 0 == shown.exit_code
    assert "FINISHED" in shown.stdout
    assert "1 of 1" in shown.stdout
    assert "[n]" in shown.stdout
    answer = json.loads(ebs("status", object_id, "--json").stdout)
    assert ("FINISHED", ["FINISHED"]) == (answer["state"], [task["state"] for task in answer["tasks"]])


@pytest.mark.parametrize(("dead", "exit_code"), [(False, 0), (True, 1)])
def test_status_wait_tells_how_it_ended(api, ebs, dead, exit_code):
    """Exit code 1 for an object that failed."""
    object_id = api.post("/api/objects", json={"tasks": 1}).json()["id"]
    end(api, object_id, dead=dead)
    assert exit_code == ebs("status", object_id, "--wait").exit_code


def test_status_of_an_unknown_object_is_an_error(ebs):
    """As the API says it."""
    assert "there is no object nobody" in str(ebs("status", "nobody").exception)


def write_counts(api) -> None:
    """Let two kinds have been counted."""
    for kind, count in (("mail", 3), ("image", 1)):
        counts = Counts(objects_created=count, tasks_created=3 * count, queued_now=3 * count)
        api.topics.write_window(WindowKey(TOTAL_SIZE_MS, 0, kind), counts)
        api.topics.write_window(WindowKey(WINDOW_MS, NOW_MS // WINDOW_MS * WINDOW_MS, kind), counts)


def test_stats_shows_kinds_durations_and_windows(api, ebs):
    """Totals by kind and of all, percentiles, windows; --kind narrows it down."""
    write_counts(api)
    shown = ebs("stats").stdout
    for words in ("mail", "image", "all kinds", "queue wait", "p99", "windows of 10 s"):
        assert words in shown
    answer = json.loads(ebs("stats", "--kind", "mail", "--json").stdout)
    assert (["mail"], {"mail"}) == (list(answer["kinds"]), {one["kind"] for one in answer["windows"]})
    assert "nothing is counted for nobody" in ebs("stats", "--kind", "nobody").stdout


def test_stats_before_anything_was_counted(ebs):
    """No empty tables."""
    assert "nothing is counted yet" in ebs("stats").stdout


def test_watch_prints_a_line_of_json_a_look(api, ebs):
    """The totals with their rates from the second look on."""
    write_counts(api)
    lines = [json.loads(line) for line in ebs("watch", "--json", "--looks", "2", "--every", "0.05").stdout.splitlines()]
    assert [4, 4] == [line["objects_created"] for line in lines]
    assert [None, 0] == [line["rates_per_s"] and line["rates_per_s"]["objects_created"] for line in lines]


def test_watch_draws_the_totals(api, ebs):
    """People get a table."""
    write_counts(api)
    assert "objects created" in ebs("watch", "--looks", "1").stdout


def test_watch_of_an_object_ends_with_it(api, ebs):
    """Nothing more will happen, so the last picture stays."""
    object_id = api.post("/api/objects", json={"tasks": 1}).json()["id"]
    end(api, object_id)
    result = ebs("watch", object_id)
    assert (0, True) == (result.exit_code, "FINISHED" in result.stdout)


def test_watch_of_an_unknown_object_is_an_error(ebs):
    """At once, and not drawn once a second."""
    assert "there is no object nobody" in str(ebs("watch", "nobody").exception)


def test_watch_continues_through_a_moment_without_the_api(api):
    """The trouble is told, and the next look shows the totals again."""
    write_counts(api)
    figures = api.get("/api/statistics").json()
    run, _ = answering(httpx.Response(200, json=figures), busy(), httpx.Response(200, json=figures))
    lines = [json.loads(line) for line in run("watch", "--json", "--looks", "3", "--every", "0.05").stdout.splitlines()]
    assert [4, "away", 4] == [line.get("objects_created", line.get("trouble")) for line in lines]


def test_broker_away_is_said_in_the_end(api, ebs):
    """What the API says is the error; with a broker that stays away that is after some tries."""
    api.topics.failure = BrokerUnavailable("nobody answers")
    result = ebs("submit", "--count", "2")
    assert "nobody answers" in str(result.exception)


@pytest.mark.parametrize(
    ("shell", "typed"),
    [
        ("bash", {"COMP_WORDS": "ebs subm", "COMP_CWORD": "1"}),
        ("zsh", {"_TYPER_COMPLETE_ARGS": "ebs subm"}),
        ("fish", {"_TYPER_COMPLETE_ARGS": "ebs subm", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
    ],
)
def test_shells_complete_commands(shell, typed):
    """What `ebs --install-completion` puts into a shell asks like this, and gets the command's name."""
    result = CliRunner().invoke(cli, [], prog_name="ebs", env={"_EBS_COMPLETE": f"complete_{shell}", **typed})
    assert "submit" in result.stdout


def test_stats_of_many_kinds_are_rows(api, ebs):
    """A column each would fold every name and figure of a wide system to nothing."""
    kinds = [f"kind-number-{number}" for number in range(30)]
    for kind in kinds:
        api.topics.write_window(WindowKey(TOTAL_SIZE_MS, 0, kind), Counts(objects_created=1_234_567))
    shown = ebs("stats", "--windows", "0").stdout
    assert all(any(kind in line and "1,234,567" in line for line in shown.splitlines()) for kind in kinds)


def test_names_and_errors_of_others_do_not_steer_the_terminal(api, ebs):
    """In tables, in sentences, in errors, and as JSON."""
    evil = "\x1b[31mred\x9b2J\r\nforged\u202e"
    for number, text in enumerate((evil, "ordinary")):
        event = ObjectCreated(id="", object_id=f"{text}{number}", at_ms=NOW_MS, name=evil, content=evil)
        api.topics.write(OBJECTS, 0, b"k", encode(event))
    Grave(api.topics).bury_task(1, ValueError(evil))
    api.topics.write(CONTROL, 0, b"pause", encode_command(Pause(NOW_MS, evil)))
    commands = (
        ["status", f"{evil}0"],
        ["tasks", f"{evil}0"],
        ["explain", f"{evil}0"],
        ["cancel", f"{evil}0"],
        ["status", f"{evil}0", "--json"],
        ["dead-letters"],
        ["dead-letters", "groups"],
        ["dead-letters", "show", "1-0"],
        ["control"],
        ["control", "--json"],
        ["pause", "--reason", evil],
        ["workers"],
        ["watch", f"{evil}0", "--looks", "1"],
    )
    for arguments in commands:
        result = ebs(*arguments)
        assert result.exit_code == 0, (arguments, result.output)
        assert not set("\x1b\x9b\r\u202e") & set(result.output), arguments
        assert not [line for line in result.output.splitlines() if line.startswith("forged")], arguments
