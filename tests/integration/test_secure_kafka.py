"""The whole pipeline through a broker that lets nobody in without a password or a certificate."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from api_process import PATIENCE_S, ApiProcess
from api_process import until as wait_until
from fleet import PATIENT, ROLES, Fleet, until
from rights import rights_of
from secure_kafka import ADMIN, PASSWORD, SecureKafka

from app.kafka.cluster import Cluster
from app.settings.settings import load
from app.topics.output_topics import make_output_topics

ROOT = Path(__file__).parents[2]
WRONG = "quite-another-password"
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("EBS_")}


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """Return a running broker with users and certificates, without topics."""
    found = SecureKafka(tmp_path_factory.mktemp("secure"))
    asyncio.run(found.kafka.start())
    yield found
    asyncio.run(found.kafka.stop())


@pytest.fixture
def make_fleet(tmp_path):
    """Return what makes workers that prove who they are."""
    fleets = []

    def make(**environment: str) -> Fleet:
        settings = {"EBS_PARTITIONS": "2", "EBS_BACKOFF_S": "1", "EBS_MAX_ATTEMPTS": "2", **PATIENT, **environment}
        fleets.append(Fleet(settings["EBS_BROKER"], tmp_path, settings))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.stop(leaving=True)


def ebs(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an `ebs` command."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from ebs.cli import main; main()"
    env = ENVIRONMENT | {"EBS_PARTITIONS": "2", "EBS_BACKOFF_S": "1", **environment}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


async def work_off(api: ApiProcess, fleet: Fleet, kind: str = "default") -> str:
    """Submit an object and return its id once it is finished."""
    object_id = api.client.post("/api/objects", json={"name": "n", "tasks": 3, "kind": kind}).json()["id"]
    await until(lambda: state_of(api, object_id) == "FINISHED", "the object to be finished", fleet=fleet)
    return object_id


def state_of(api: ApiProcess, object_id: str) -> str:
    """Return an object's state."""
    return api.client.get(f"/api/objects/{object_id}").json().get("state", "")


def last_object(api: ApiProcess, schedule: str) -> str:
    """Return the id of the last object that a schedule has made; "-" before the first."""
    return api.client.get(f"/api/schedules/{schedule}").json()["last_object_id"] or "-"


def paused_kinds(api: ApiProcess) -> list[str]:
    """Return the kinds that are paused."""
    return list(api.client.get("/api/control").json().get("paused_kinds", {}))


@pytest.mark.parametrize(
    ("protocol", "mechanism"),
    [("SASL_SSL", "SCRAM-SHA-512"), ("SSL", "")],
)
async def test_objects_are_worked_off_through_a_guarded_listener(secure, make_fleet, tmp_path, protocol, mechanism):
    """Topics, API and all workers get past the broker with what the settings say, and no log has the password."""
    env = secure.environment(protocol, mechanism) | {"EBS_DATA_DIR": str(tmp_path / "data"), "EBS_LOG_LEVEL": "debug"}
    made = ebs("topics", "--timeout", "100", **env)
    assert 0 == made.returncode, made.stderr
    fleet = make_fleet(**env)
    fleet.start_all()
    with ApiProcess(tmp_path, **env, EBS_PARTITIONS="2", EBS_BACKOFF_S="1") as api:
        object_id = await work_off(api, fleet)
        events = api.client.get(f"/api/objects/{object_id}/events").text
        assert 3 == events.count("TASK_FINISHED")
        workers = api.client.get("/api/workers").text
    logs = [api.log_path.read_text(), *(worker.log() for worker in fleet.workers.values())]
    assert [] == [text for text in (made.stdout, made.stderr, workers, *logs) if PASSWORD in text]


async def test_worker_with_a_wrong_password_ends_with_a_line_that_says_so(secure, make_fleet):
    """Exit code 1 and one sentence, within seconds: trying for ever would look like a slow start."""
    env = secure.environment("SASL_PLAINTEXT", "SCRAM-SHA-256") | {"EBS_SASL_PASSWORD": WRONG}
    fleet = make_fleet(**env)
    worker = fleet.start("processing")
    await until(lambda: worker.exit_code is not None, "the worker to end", fleet=fleet)
    assert 1 == worker.exit_code
    said = [line for line in worker.log().splitlines() if "error: " in line]
    assert 1 == len(said)
    assert "refuses the credentials (EBS_SASL_MECHANISM=SCRAM-SHA-256, user admin)" in said[0]
    assert WRONG not in worker.log()


def test_api_with_a_wrong_password_ends_with_a_line_that_says_so(secure, tmp_path):
    """Exit code 1: a process that answers 503 for ever would hide it."""
    env = secure.environment("SASL_PLAINTEXT", "PLAIN") | {"EBS_SASL_PASSWORD": WRONG}
    api = ApiProcess(tmp_path, **env, EBS_DATA_DIR=str(tmp_path), EBS_STATS_DB=str(tmp_path / "s.db"))
    wait_until(lambda: api.process.poll() is not None, lambda: f"the API to end; it said:\n{api.log}")
    assert 1 == api.process.returncode
    assert "error: the Kafka broker at" in api.log_path.read_text()
    assert "refuses the credentials" in api.log_path.read_text()
    assert WRONG not in api.log_path.read_text()
    api.client.close()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"EBS_SASL_PASSWORD": WRONG}, "refuses the credentials"),
        ({"EBS_SSL_CAFILE": "other_authority"}, "is not trusted"),
        ({"EBS_SASL_MECHANISM": "OAUTHBEARER"}, "does not take EBS_SASL_MECHANISM=OAUTHBEARER"),
    ],
)
def test_what_the_broker_or_we_do_not_trust_is_refused(secure, tmp_path, change, expected):
    """`ebs topics` ends with exit code 1 and names the setting."""
    env = secure.environment("SASL_SSL", "PLAIN") | change
    if "EBS_SSL_CAFILE" in change:
        env["EBS_SSL_CAFILE"] = str(secure.certificates.other_authority)
    if "EBS_SASL_MECHANISM" in change:
        token = tmp_path / "token"
        token.write_text("a.b.c")
        env = {k: v for k, v in env.items() if k not in {"EBS_SASL_USERNAME", "EBS_SASL_PASSWORD"}}
        env["EBS_SASL_OAUTH_TOKEN_FILE"] = str(token)
    done = ebs("topics", **env)
    assert (1, True) == (done.returncode, expected in done.stderr), done.stderr
    assert WRONG not in done.stderr


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SSL"])
def test_plain_text_to_a_guarded_listener_is_a_hint_at_the_protocol(secure, protocol):
    """A listener that hangs up may want another protocol; the line that says that we wait says that too."""
    done = ebs("topics", "--timeout", "5", EBS_BROKER=secure.bootstrap_of(protocol))
    assert 1 == done.returncode
    assert "is EBS_SECURITY_PROTOCOL=PLAINTEXT that of this listener?" in done.stderr


def test_host_that_the_certificate_does_not_name_is_a_matter_of_a_setting(secure):
    """By default the name must be in it; EBS_SSL_CHECK_HOSTNAME=false trusts the authority alone."""
    env = secure.environment("SASL_SSL", "PLAIN")
    env["EBS_BROKER"] = env["EBS_BROKER"].replace("127.0.0.1", "localhost")
    refused = ebs("topics", "--timeout", "100", **env)
    assert (1, True) == (refused.returncode, "Hostname mismatch" in refused.stderr), refused.stderr
    trusted = ebs("topics", "--timeout", "100", **env, EBS_SSL_CHECK_HOSTNAME="false")
    assert 0 == trusted.returncode, trusted.stderr


async def test_documentation_lists_the_rights_that_each_role_needs(secure, make_fleet, tmp_path):
    """Each role as a user with the rights of that page only: all that users do, the breaker, outputs, a queue."""
    await make_output_topics(Cluster(secure.kafka.bootstrap), load(partitions=2, output_topics=("sales",)))
    await secure.allow("ebs-processing", [("topic", "sales", one) for one in ("Describe", "DescribeConfigs", "Write")])
    for user in ("ebs-topics", "ebs-api", "ebs-distribution", "ebs-processing", "ebs-statistics"):
        await secure.allow(user, rights_of(user))
    of_topics = secure.environment("SASL_PLAINTEXT", "PLAIN", "ebs-topics")
    made = ebs("topics", "--timeout", "100", "--queue", "side", **of_topics)
    assert 0 == made.returncode, made.stderr
    env = secure.environment("SASL_PLAINTEXT", "PLAIN") | {"EBS_PROJECT": "mended_handler:producing"}
    env["EBS_OUTPUT_TOPICS"] = "sales"
    env["MENDED_FILE"] = str(tmp_path / "mended")
    fleet = make_fleet(**env, EBS_BREAKER_DEAD_SHARE="1", EBS_BREAKER_MIN_TASKS="2")
    for role in ROLES:
        fleet.start(role, EBS_SASL_USERNAME=f"ebs-{role}")
    fleet.start("processing", "side-1", EBS_SASL_USERNAME="ebs-processing", EBS_QUEUE="side")
    own = env | {"EBS_SASL_USERNAME": "ebs-api", "EBS_DATA_DIR": str(tmp_path / "api")}
    with ApiProcess(tmp_path, **own, EBS_PARTITIONS="2", EBS_BACKOFF_S="1") as api:
        object_id = api.client.post("/api/objects", json={"name": "n", "tasks": 2}).json()["id"]
        await until(lambda: state_of(api, object_id) == "FAILED", "tasks to die", fleet=fleet)
        await until(lambda: paused_kinds(api) == ["default"], "the breaker's pause to be seen", fleet=fleet)
        (tmp_path / "mended").touch()
        assert api.client.post("/api/control/resume", json={"kind": "default"}).is_success
        answer = api.client.post("/api/dead-letters/redrive", json={"all": True})
        assert answer.is_success, answer.text
        await until(lambda: state_of(api, object_id) == "FINISHED", "the redrive to work", fleet=fleet)
        children = api.client.get("/api/objects", params={"parent": object_id}).json()["objects"]
        assert 2 == len(children)
        for child in children:
            await until(lambda child=child: state_of(api, child["id"]) == "FINISHED", "a child's end", fleet=fleet)
        assert api.client.post("/api/control/pause", json={}).is_success
        assert api.client.post("/api/control/resume", json={}).is_success
        assert api.client.put("/api/schedules/often", json={"every_s": 1, "tasks": 1}).json()["seen"]
        await until(lambda: state_of(api, last_object(api, "often")) == "FINISHED", "a schedule's object", fleet=fleet)
        assert api.client.delete("/api/schedules/often").json()["seen"]
        await until(lambda: len(api.client.get("/api/workers").json()["workers"]) == 4, "all heartbeats", fleet=fleet)
        assert "does not say what the group" not in api.log
    assert [None] * 4 == [worker.exit_code for worker in fleet.workers.values()]


async def test_worker_without_a_right_says_which_topic(secure, make_fleet):
    """A user without any right ends with exit code 1 and the name of a topic, not in a loop."""
    fleet = make_fleet(**secure.environment("SASL_PLAINTEXT", "PLAIN", "nobody"))
    worker = fleet.start("processing")
    await until(lambda: worker.exit_code is not None, "the worker to end", fleet=fleet)
    assert 1 == worker.exit_code
    assert "may not" in worker.log()
    assert ADMIN not in worker.log()


async def test_worker_that_may_not_join_its_group_says_so(secure, make_fleet):
    """With every right but the group's aiokafka would wait for ever: exit code 1 and the group's name."""
    await secure.allow("nobody", [right for right in rights_of("ebs-distribution") if right[0] != "group"])
    fleet = make_fleet(**secure.environment("SASL_PLAINTEXT", "PLAIN", "nobody"))
    worker = fleet.start("distribution")
    await until(lambda: worker.exit_code is not None, "the worker to end", fleet=fleet)
    assert (1, True) == (worker.exit_code, "may not join the group ebs-distribution" in worker.log()), worker.log()
