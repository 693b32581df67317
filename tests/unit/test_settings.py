"""Settings: what the environment says, and one clear sentence about what it should not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.errors import SettingsError
from app.settings.settings import PREFIX, ProcessTime, Settings, load

DEFAULTS = {
    "broker": "127.0.0.1:9092",
    "partitions": 8,
    "tasks_per_object": 3,
    "process_time": ProcessTime(3.0, 5.0),
    "concurrency": 64,
    "worker_id": "",
    "session_timeout_s": 10.0,
    "transaction_timeout_s": 10.0,
    "stats_db": Path("stats.db"),
    "web_port": None,
    "log_level": "info",
    "seen_retention_h": 24.0,
    "window_retention_h": 1.0,
    "drain_s": 25.0,
    "commit_interval_ms": 50,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Return the environment to set variables in, with none of ours in it."""
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    return monkeypatch


def test_defaults_are_those_that_are_promised():
    """Without any variable the documented values hold."""
    settings = load()
    assert DEFAULTS == {name: getattr(settings, name) for name in DEFAULTS}


@pytest.mark.parametrize(("said", "expected"), [({}, 1), ({"tasks_per_object": 2}, 2), ({"project": ""}, 3)])
def test_an_object_of_a_project_is_one_task(environment, said, expected):
    """Who asks for one mail gets one; the system without a project splits, as nothing else does anything in it."""
    environment.setenv("EBS_PROJECT", "shop.work")
    assert load(**said).tasks_per_object == expected


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("EBS_BROKER", "kafka-1:9092,kafka-2:9092", "kafka-1:9092,kafka-2:9092"),
        ("EBS_BROKER", " [::1]:9092 ", "[::1]:9092"),
        ("EBS_PARTITIONS", "12", 12),
        ("EBS_DATA_DIR", "data", Path("data")),
        ("EBS_TASKS_PER_OBJECT", "5", 5),
        ("EBS_CONCURRENCY", "2000", 2_000),
        ("EBS_WORKER_ID", "processing-0", "processing-0"),
        ("EBS_SESSION_TIMEOUT_S", "2.5", 2.5),
        ("EBS_TRANSACTION_TIMEOUT_S", "5", 5.0),
        ("EBS_STATS_DB", "other.db", Path("other.db")),
        ("EBS_WEB_PORT", "0", 0),
        ("EBS_WEB_PORT", "7000", 7_000),
        ("EBS_LOG_LEVEL", "debug", "debug"),
        ("EBS_LOG_LEVEL", "WARNING", "warn"),
        ("EBS_LOG_LEVEL", "critical", "crit"),
        ("EBS_LEDGER", "false", False),
        ("EBS_PROCESS_TIME", "0", ProcessTime(0.0, 0.0)),
        ("EBS_PROCESS_TIME", "0.2", ProcessTime(0.2, 0.2)),
        ("EBS_PROCESS_TIME", "3-5", ProcessTime(3.0, 5.0)),
        ("EBS_PROCESS_TIME", " 0.5 - 1.5 ", ProcessTime(0.5, 1.5)),
        ("EBS_PROCESS_TIME", "2-2", ProcessTime(2.0, 2.0)),
        ("EBS_OUTPUT_TOPICS", "sales, a.b-c_d\nsales", ("sales", "a.b-c_d")),
        ("EBS_PARTITIONS", "", 8),
        ("ebs_partitions", "4", 4),
    ],
)
def test_variable_is_read(environment, variable, text, expected):
    """Each variable sets the field of its name; an empty one is as good as none."""
    environment.setenv(variable, text)
    assert expected == getattr(load(), variable.lower().removeprefix("ebs_"))


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        ("EBS_BROKER", "kafka", "must be HOST:PORT"),
        ("EBS_BROKER", "http://kafka:9092", "must be HOST:PORT"),
        ("EBS_BROKER", "a:9092, b:9092", "must be HOST:PORT"),
        ("EBS_BROKER", "a:9092,b:65536", "a port is at most 65535"),
        ("EBS_PARTITIONS", "0", "greater than or equal to 1"),
        ("EBS_PARTITIONS", "1001", "less than or equal to 1000"),
        ("EBS_PARTITIONS", "many", "valid integer"),
        ("EBS_PARTITIONS", "1.5", "valid integer"),
        ("EBS_TASKS_PER_OBJECT", "0", "greater than or equal to 1"),
        ("EBS_CONCURRENCY", "2001", "less than or equal to 2000"),
        ("EBS_WORKER_ID", "a b", "pattern"),
        ("EBS_BREAKER_DEAD_SHARE", "50", "less than or equal to 1"),
        ("EBS_BREAKER_DEAD_SHARE", "nan", "less than or equal to 1"),
        ("EBS_BREAKER_MIN_TASKS", "0", "greater than or equal to 1"),
        ("EBS_SESSION_TIMEOUT_S", "0.5", "greater than or equal to 1"),
        ("EBS_SESSION_TIMEOUT_S", "nan", "less than or equal to 3600"),
        ("EBS_TRANSACTION_TIMEOUT_S", "901", "less than or equal to 900"),
        ("EBS_WEB_PORT", "65536", "less than or equal to 65535"),
        ("EBS_LOG_LEVEL", "loud", "crit"),
        ("EBS_LEDGER", "perhaps", "valid boolean"),
        ("EBS_PROCESS_TIME", "fast", "such as 0, 0.2 or 3-5"),
        ("EBS_PROCESS_TIME", "-1", "such as 0, 0.2 or 3-5"),
        ("EBS_PROCESS_TIME", "3-", "such as 0, 0.2 or 3-5"),
        ("EBS_PROCESS_TIME", "1-2-3", "such as 0, 0.2 or 3-5"),
        ("EBS_PROCESS_TIME", "inf", "such as 0, 0.2 or 3-5"),
        ("EBS_PROCESS_TIME", "5-3", "from the smaller to the larger"),
        ("EBS_SEEN_RETENTION_H", "0", "greater than 0"),
        ("EBS_WINDOW_RETENTION_H", "-1", "greater than 0"),
        ("EBS_MAX_DEPTH", "-1", "greater than or equal to 0"),
        ("EBS_OUTPUT_TOPICS", "sales/eu", "each is the name of a topic"),
        ("EBS_OUTPUT_TOPICS", "__consumer_offsets", "each is the name of a topic"),
    ],
)
def test_bad_value_is_named_with_what_it_may_be(environment, variable, text, reason):
    """The error begins with the variable and its value, and says what would do."""
    environment.setenv(variable, text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).startswith(f"{variable}={text.strip()}: ")
    assert reason in str(caught.value)


def test_all_faults_are_told_at_once(environment):
    """Who has three things to put right learns it at the first start."""
    for name, text in {"EBS_PARTITIONS": "0", "EBS_BROKER": "x", "EBS_PROCESS_TIME": "soon"}.items():
        environment.setenv(name, text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert all(name in str(caught.value) for name in ("EBS_PARTITIONS=0", "EBS_BROKER=x", "EBS_PROCESS_TIME=soon"))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"EBS_MIN_INSYNC_REPLICAS": "2"},
            "EBS_MIN_INSYNC_REPLICAS=2 can never be met with EBS_REPLICATION_FACTOR=1",
        ),
        (
            {"EBS_TASKS_PER_OBJECT": "20", "EBS_MAX_TASKS_PER_OBJECT": "10"},
            "EBS_TASKS_PER_OBJECT=20 is over EBS_MAX_TASKS_PER_OBJECT=10",
        ),
    ],
)
def test_contradiction_names_both_sides_and_the_fix(environment, variables, message):
    """Two values that are fine alone, but not together."""
    for name, text in variables.items():
        environment.setenv(name, text)
    with pytest.raises(SettingsError) as caught:
        load()
    assert f"{message}: lower the first or raise the second" == str(caught.value)


@pytest.mark.parametrize(
    ("namespace", "own", "others"),
    [
        ("", ["objects", "task-requests-retry-77s", "ebs-statistics-ledger-changelog"], ["acme.objects", "object"]),
        ("acme", ["acme.objects", "acme.workers", "acme.ebs-processing-redriven-changelog"], ["objects", "sales"]),
    ],
)
def test_functions_cannot_be_allowed_to_write_to_our_own_topics(namespace, own, others):
    """Whatever the namespace; a topic of another system is that one's business."""
    for topic in own:
        with pytest.raises(SettingsError, match=f"EBS_OUTPUT_TOPICS={topic}: it is a topic of this system itself"):
            load(namespace=namespace, output_topics=(topic,))
    assert tuple(others) == load(namespace=namespace, output_topics=tuple(others)).output_topics


def test_command_line_wins_over_the_environment(environment):
    """What is typed is what is meant."""
    environment.setenv("EBS_PARTITIONS", "12")
    assert 4 == load(partitions=4).partitions


def test_command_line_is_checked_like_the_environment():
    """A bad option is named by its variable, which is how the documentation knows it."""
    with pytest.raises(SettingsError, match="EBS_PARTITIONS=0: "):
        load(partitions=0)


def test_variables_of_others_are_ignored(environment):
    """A newer variable, or one of another program, is no error."""
    environment.setenv("EBS_FROM_THE_FUTURE", "1")
    environment.setenv("PARTITIONS", "3")
    assert 8 == load().partitions


def test_settings_do_not_change():
    """They are handed around freely."""
    with pytest.raises(ValidationError, match="frozen"):
        load().partitions = 3


def test_every_setting_is_described_and_has_its_unit():
    """The reference is made of the descriptions; a number's name ends with its unit."""
    fields = Settings.model_fields
    assert [] == [name for name, field in fields.items() if not field.description]
    units = ("_s", "_h", "_share")
    assert [] == [name for name, field in fields.items() if field.annotation is float and not name.endswith(units)]
