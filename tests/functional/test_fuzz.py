"""Requests that nobody thought of, made from the API's own OpenAPI document: no 5xx, and nothing without a key."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress

import pytest
import schemathesis
from grave import Grave
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from plain_names import CONTROL, OBJECTS, WORKERS
from schemathesis.generation import GenerationMode

from app.events import ObjectCreated, encode, object_created_id
from app.rules.commands import Cancel, CommandKey, Drain, Family, LimitRate, Pause, SetConcurrency, encode_command
from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey
from app.rules.ledger_rows import ObjectRow
from app.rules.worker_heartbeats import WorkerFigures, WorkerIdentity, heartbeat_of

READ, WRITE = "read-key-0123456789", "write-key-0123456789"
NOW_MS = 1_795_489_276_303
ODD = ("a/b", "..", "?", "#", "%2F", "\x1b[31m\r\n", "ü", "x" * 200, " ")
BOTH = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
EXAMPLES = 8
EXAMPLES_WITHOUT_KEY = 2
PROBES = {"/api/livez", "/api/readyz"}
FIRST_SERVER_ERROR = 500


def fill(topics) -> None:
    """Write what outside producers and operators may write: odd ids, kinds and names, one of each command."""
    grave = Grave(topics)
    for number, text in enumerate(ODD):
        event = ObjectCreated(
            id=object_created_id(text), object_id=text, at_ms=NOW_MS, name=text, content=text, kind=text, task_count=1
        )
        topics.write(OBJECTS, 0, text.encode(), encode(event))
        topics.write_row(text, ObjectRow(kind=text, task_count=1, created_at_ms=NOW_MS))
        topics.write_window(WindowKey(TOTAL_SIZE_MS, 0, text), Counts(objects_created=1))
        grave.bury_task(number, ValueError(text), object_id=text, task_id=f"{text}-0", kind=text, name=text)
        for place, command in commands(text).items():
            topics.write(CONTROL, 0, place.encoded(), encode_command(command))
        identity = WorkerIdentity(text, "processing", text, text, 1, NOW_MS)
        topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, WorkerFigures(), NOW_MS), timestamp_ms=NOW_MS)
    grave.bury(b"\xff", ValueError("no JSON"), headers=[("\x1b", b"\xff")])


def commands(text: str) -> dict:
    """Return a command of each family about something of this name."""
    return {
        CommandKey(Family.PAUSE, ""): Pause(NOW_MS, text),
        CommandKey(Family.PAUSE, text): Pause(NOW_MS, text),
        CommandKey(Family.RATE, "mail"): LimitRate("mail", 0.5),
        CommandKey(Family.CONCURRENCY, text): SetConcurrency(5),
        CommandKey(Family.DRAIN, text): Drain(NOW_MS, text),
        CommandKey(Family.CANCEL_OBJECT, text): Cancel(reason=text),
        CommandKey(Family.CANCEL_TASK, text): Cancel(task_id=text),
        CommandKey(Family.CANCEL_FILTER, text): Cancel(kind="mail", created_before_ms=5),
        CommandKey(Family.CANCEL_FILTER, f"*{text}"): Cancel(created_before_ms=5),
    }


@pytest.fixture
def fuzz(make_api):
    """Return a function that sends what is made of each operation, and returns what was sent for each answer.

    Each request is sent with each of `headers`: making one costs more than sending it.
    """

    def fuzz(mode, examples, *headers, **changes) -> dict[tuple[str, int], str]:
        api, answered = make_api(max_body_bytes=100_000, **changes), defaultdict(str)
        fill(api.topics)
        # Streams and long polls end at once.
        api.app.state.collaborators.closing.ask()
        document = api.request("GET", "/openapi.json", headers={"x-api-key": WRITE}).json()
        setup = settings(max_examples=examples, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))

        def send_all(case) -> None:
            for some in headers:
                send(case, some)

        def send(case, headers) -> None:
            options = case.as_transport_kwargs(base_url="http://api")
            options.pop("cookies", None)
            options["headers"] = dict(options["headers"]) | headers
            if isinstance(options.get("data"), bytes | str):
                options["content"] = options.pop("data")
            # Browsers look at the pages, which have the API's paths without its prefix.
            prefix = "http://api" if headers.get("accept") == "text/html" else "http://api/api"
            url = options.pop("url").replace("http://api/api", prefix, 1)
            answer = api.request(options.pop("method"), url, **options)
            answered[case.operation.path, answer.status_code] = case.as_curl_command()

        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            with suppress(Unsatisfiable):  # an operation without parameters: nothing about it can be wrong
                setup(given(case=found.ok().as_strategy(generation_mode=mode))(send_all))()
        return answered

    return fuzz


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: mode.value)
def test_no_request_makes_an_error_of_the_server(fuzz, mode):
    """Whatever is sent gets an answer that says what is wrong with it; to a browser as a page."""
    answered = fuzz(mode, EXAMPLES, {"accept": "application/json"}, {"accept": "text/html"})
    assert {} == {of: sent for of, sent in answered.items() if of[1] >= FIRST_SERVER_ERROR}


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: mode.value)
def test_no_request_passes_without_a_key(fuzz, mode):
    """Right or wrong, without a key or with a false one: it is refused before anybody looks at it."""
    false = {"authorization": "Bearer x", "cookie": "ebs_session=1.a.b"}
    answered = fuzz(mode, EXAMPLES_WITHOUT_KEY, {}, false, api_keys_write=WRITE)
    assert {401} == {status for path, status in answered if path not in PROBES}


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: mode.value)
def test_no_request_writes_with_a_key_that_reads(fuzz, mode):
    """Nothing but GET passes."""
    answered = fuzz(mode, EXAMPLES_WITHOUT_KEY, {"x-api-key": READ}, api_keys_write=WRITE, api_keys_read=READ)
    passed = {path: sent for (path, status), sent in answered.items() if status not in {401, 403}}
    assert {} == {path: sent for path, sent in passed.items() if "-X GET" not in sent}
    assert passed
