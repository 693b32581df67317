"""The AsyncAPI document: valid, complete, and true to the structs and topics that it is made of."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
from plain_names import OBJECTS, TASK_EVENTS, TASK_REQUESTS

from api.service.asyncapi.examples import LETTER_HEADERS, RECORDS
from app.events import decode_object, decode_task_event, decode_task_request
from app.rules.commands import decode_command, parse_command_key
from app.rules.dead_letters import FINGERPRINT_HEADER, KIND_HEADER, TASK_ID_HEADER, TOPIC_HEADER
from app.rules.worker_heartbeats import decode_heartbeat
from app.settings.settings import Settings
from app.topics.catalogue import catalogue

# Of the npm package @asyncapi/specs 6.11.1 (Apache-2.0), schemas/3.0.0-without-$id.json, white space taken out.
_OFFICIAL = Path(__file__).parents[1] / "support" / "asyncapi-3.0.0.json.gz"


@pytest.fixture
def document(api) -> dict:
    """Return the document as it is served."""
    return api.get("/asyncapi.json").json()


def resolve(document: dict, reference: str) -> dict:
    """Return what a reference means."""
    found = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_document_is_valid(document):
    """The official JSON schema of AsyncAPI 3.0.0 takes it."""
    official = json.loads(gzip.decompress(_OFFICIAL.read_bytes()))
    jsonschema.Draft7Validator(official).validate(document)


def test_document_is_the_same_under_the_prefix(api, document):
    """As every path."""
    assert document == api.get("/api/asyncapi.json").json()


def test_every_topic_of_the_catalogue_is_a_channel(make_api):
    """With its partitions, clean-up and limits as the settings make them."""
    settings = Settings(partitions=5, replication_factor=3, retention_days=2)
    api = make_api(partitions=5, replication_factor=3, retention_days=2)
    channels = api.get("/asyncapi.json").json()["channels"]
    assert [spec.name for spec in catalogue(settings)] == list(channels)
    for spec in catalogue(settings):
        kafka = channels[spec.name]["bindings"]["kafka"]
        assert (spec.partition_count, spec.replication_factor) == (kafka["partitions"], kafka["replicas"])
        assert spec.config["cleanup.policy"].split(",") == kafka["topicConfiguration"]["cleanup.policy"]
        assert "Key: " in channels[spec.name]["description"]


def test_topics_of_queues_are_channels_too(make_api):
    """As the project names them: of requests, and of the tables of the queue's workers."""
    document = make_api(project="queued_project").get("/asyncapi.json").json()
    test_document_is_valid(document)
    channels = document["channels"]
    assert "Tasks to run, of the kinds with the queue gpu" == channels["task-requests-gpu"]["summary"]
    assert channels["task-requests"]["messages"].keys() == channels["task-requests-gpu"]["messages"].keys()
    table = channels["ebs-processing-gpu-waiting-changelog"]
    assert "Rows of the processing table waiting in the queue gpu" == table["summary"]
    operations = document["operations"]
    assert "processing-receive-task-requests-gpu" in operations
    assert "api-receive-ebs-processing-gpu-waiting-changelog" in operations
    assert "api-receive-ebs-processing-gpu-redriven-changelog" not in operations


def test_topics_that_functions_send_to_are_channels_too(make_api):
    """Without messages: what lies there is the users' business. Document and page hold them."""
    api = make_api(output_topics=("sales", "audit.log"))
    document = api.get("/asyncapi.json").json()
    test_document_is_valid(document)
    assert {"sales", "audit.log"} <= set(document["channels"])
    assert "#/channels/sales" == document["operations"]["processing-send-sales"]["channel"]["$ref"]
    page = api.get("/asyncapi").text
    assert 'id="topic-sales"' in page
    assert 'id="topic-audit.log"' in page


def test_every_reference_leads_somewhere(document):
    """Channels, messages and schemas that are named are there."""
    references = re.findall(r'"\$ref": ?"([^"]+)"', json.dumps(document))
    assert references
    for reference in references:
        assert resolve(document, reference)


def test_every_message_is_used_and_has_key_and_example(document):
    """No message stands for itself; each says its key, and shows what it looks like where it is ours to read."""
    used = {name for channel in document["channels"].values() for name in channel["messages"]}
    messages = document["components"]["messages"]
    assert used == set(messages)
    for name, message in messages.items():
        assert message["bindings"]["kafka"]["key"]["description"]
        assert message["summary"]
        assert ("examples" in message) == (name != "TABLE_ROW")


def test_every_channel_has_a_writer_and_a_reader(document):
    """Who writes and who reads is said for each topic."""
    for name in document["channels"]:
        actions = {
            operation["action"]
            for operation in document["operations"].values()
            if operation["channel"]["$ref"] == f"#/channels/{name}"
        }
        assert {"send", "receive"} == actions


def test_examples_fit_their_schemas(document):
    """Each example is valid by its own schema, and one with a field of a wrong type is not."""
    for message in document["components"]["messages"].values():
        if "$ref" not in message["payload"]:
            continue
        schema = resolve(document, message["payload"]["$ref"]) | {"components": document["components"]}
        (example,) = message["examples"]
        jsonschema.Draft202012Validator(schema).validate(example["payload"])
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate(example["payload"] | {"at_ms": "soon"})


@pytest.mark.parametrize(
    ("topic", "decode"),
    [(OBJECTS, decode_object), (TASK_REQUESTS, decode_task_request), (TASK_EVENTS, decode_task_event)],
)
def test_examples_are_what_workers_read(document, topic, decode):
    """The decoders of the workers take the examples of their topics."""
    for name in document["channels"][topic]["messages"]:
        (example,) = document["components"]["messages"][name]["examples"]
        assert decode(json.dumps(example["payload"]).encode())


def test_examples_of_commands_and_heartbeats_are_read_too(document):
    """Each command under a key that fits it; the heartbeat by the view's decoder."""
    messages = document["components"]["messages"]
    object_id = messages["CANCEL"]["examples"][0]["payload"]["object_id"]
    keys = {
        "PAUSE": "pause",
        "RATE": "rate:mail",
        "LIMIT": "limit:mail",
        "CONCURRENCY": "concurrency",
        "CANCEL": f"cancel:object:{object_id}",
        "CANCEL_WAITING": "cancel:waiting:kind=mail&reason=retry",
        "START": f"start:task:{messages['START']['examples'][0]['payload']['task_id']}",
        "START_WAITING": "start:waiting:kind=mail",
        "DRAIN": "drain:processing-1",
        "LOGOUT": "session:0a1b",
    }
    assert set(keys) == set(document["channels"]["control"]["messages"])
    for name, key in keys.items():
        value = json.dumps(messages[name]["examples"][0]["payload"]).encode()
        assert decode_command(parse_command_key(key.encode()), value)
    assert decode_heartbeat(json.dumps(messages["HEARTBEAT"]["examples"][0]["payload"]).encode())


def test_every_field_of_a_struct_is_in_its_schema(document):
    """A field that is added to a struct is in the document without anybody's help."""
    schemas = document["components"]["schemas"]
    for record in RECORDS:
        fields = {field.encode_name for field in msgspec.structs.fields(type(record))}
        assert fields <= set(schemas[type(record).__name__]["properties"])


def test_headers_of_dead_letters_are_the_real_ones(document):
    """They are made by the code that buries, so none is missing."""
    headers = document["components"]["messages"]["DEAD_LETTER"]["headers"]["properties"]
    assert set(LETTER_HEADERS) == set(headers)
    assert {TOPIC_HEADER, FINGERPRINT_HEADER, KIND_HEADER, TASK_ID_HEADER} <= set(headers)


def test_patterns_are_no_dialect_of_python(document):
    """Other languages read them."""
    assert r"\Z" not in json.dumps(document).replace("\\\\", "\\")


@pytest.mark.parametrize("path", ["/asyncapi", "/api/asyncapi"])
def test_page_shows_all_and_fetches_nothing_from_outside(api, document, path):
    """Each topic, message and field is there to read; every address of the page is our own."""
    answer = api.get(path)
    assert (200, "text/html; charset=utf-8") == (answer.status_code, answer.headers["content-type"])
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    for name in document["channels"]:
        assert f'id="topic-{name}"' in answer.text
    for name, message in document["components"]["messages"].items():
        assert f'id="message-{name}"' in answer.text
        for header in message.get("headers", {}).get("properties", {}):
            assert f"<code>{header}</code>" in answer.text
    assert "<code>first_failed_at_ms</code>" in answer.text
    addresses = re.findall(r'(?:href|src)="([^"]+)"', answer.text)
    assert all(address.startswith(("/", "#")) and not address.startswith("//") for address in addresses)
