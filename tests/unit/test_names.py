"""The names of a system: which namespaces there may be, and that no two of them share a name."""

from __future__ import annotations

from itertools import combinations, permutations

import pytest

from app.errors import SettingsError
from app.kafka.abandoned_transactions import transactional_id_of
from app.names import BARE, MAX_NAMESPACE_CHARS, PROCESSING, ROLES, Names, queue_of, role_of
from app.settings.settings import load
from app.topics.catalogue import catalogue, watched_topics

NAMESPACES = ("", "a", "a.b", "a-b", "A", "acme", "objects", "ebs", "x.objects", "a.ebs", "b" * MAX_NAMESPACE_CHARS)
MAX_TOPIC_CHARS = 249
"""What Kafka takes."""


def all_names(namespace: str) -> set[str]:
    """Return every topic, group and transactional id of a namespace."""
    settings = load(namespace=namespace)
    names = settings.names
    return {
        *(spec.name for spec in catalogue(settings)),
        *(names.group(role) for role in ROLES),
        names.desk_transactional_id,
    }


@pytest.mark.parametrize(("one", "other"), list(combinations(NAMESPACES, 2)))
def test_no_name_is_in_two_namespaces(one, other):
    """Each is a system of its own, whatever another one is called."""
    assert not all_names(one) & all_names(other)
    # The id of a worker's open transaction begins so: none may be taken for a dead worker of another namespace.
    for role in ROLES:
        group, foreign = Names(one).group(role), Names(other).group(role)
        assert not transactional_id_of(foreign, "w").startswith(transactional_id_of(group, ""))
        assert not transactional_id_of(group, "w").startswith(transactional_id_of(foreign, ""))


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_names_begin_with_the_namespace_and_are_short_enough(namespace):
    """All of them; without a namespace they are as they ever were."""
    names = Names(namespace)
    for name in all_names(namespace):
        assert len(name) <= MAX_TOPIC_CHARS
        assert name == names.of(names.bare(name))
        assert "." not in names.bare(name)
    assert {names.bare(name) for name in all_names(namespace)} == all_names("")
    assert list(ROLES) == [role_of(names.group(role)) for role in ROLES]


@pytest.mark.parametrize(
    ("namespace", "said"),
    [
        ("a b", "must be letters"),
        ("a/b", "must be letters"),
        ("ä", "must be letters"),
        ("a\n", ""),
        ("a.", "begin and end with a letter or digit"),
        (".a", "begin and end with a letter or digit"),
        ("-", "begin and end with a letter or digit"),
        ("..", "begin and end with a letter or digit"),
        ("b" * (MAX_NAMESPACE_CHARS + 1), f"at most {MAX_NAMESPACE_CHARS} characters"),
        ("x.ebs-processing-1", "must not contain the name of one of our consumer groups"),
    ],
)
def test_what_kafka_or_we_could_not_tell_apart_is_refused_in_words(namespace, said):
    """The variable is named, and what it may be; space around it is nobody's intention."""
    if not said:
        assert namespace.strip() == load(namespace=namespace).namespace
        return
    with pytest.raises(SettingsError, match="EBS_NAMESPACE=") as refusal:
        load(namespace=namespace)
    assert said in str(refusal.value)


def test_former_retry_topics_of_another_namespace_are_not_ours():
    """They are looked for by name, on a broker that has those of all systems."""
    topic = "acme.task-requests-retry-7s"
    assert [True, False, False] == [names.is_former_retry_topic(topic) for names in (Names("acme"), BARE, Names("ac"))]
    assert not Names("acme").is_former_retry_topic("acme.task-requests-retry-s")


def test_local_data_of_namespaces_is_separate(tmp_path, monkeypatch):
    """Stores, view and statistics file; a file that is named is taken as it is."""
    monkeypatch.chdir(tmp_path)
    one, other, bare = (load(namespace=name, data_dir=tmp_path) for name in ("a", "a.b", ""))
    assert 3 == len({one.own_data_dir, other.own_data_dir, bare.own_data_dir})
    assert {"a.stats.db", "a.b.stats.db", "stats.db"} == {each.own_stats_db.name for each in (one, other, bare)}
    assert tmp_path / "x.db" == load(namespace="a", stats_db=tmp_path / "x.db").own_stats_db


def test_workers_watch_the_topics_of_their_own_namespace():
    """A change of another system's topics is none of theirs."""
    for role in ROLES:
        assert all(name.startswith("acme.") for name in watched_topics(role, load(namespace="acme")))


def test_groups_of_queues_are_told_apart():
    """The workers of a group end open transactions whose ids begin with its name: only those of its own members."""
    names = Names("acme")
    groups = [names.group(PROCESSING, queue) for queue in ("default", "gpu", "gpu-2")]
    assert ["acme.ebs-processing", "acme.ebs-processing-gpu", "acme.ebs-processing-gpu-2"] == groups
    assert [(PROCESSING, "default"), (PROCESSING, "gpu"), (PROCESSING, "gpu-2")] == [
        (role_of(group), queue_of(group)) for group in groups
    ]
    for one, other in permutations(groups, 2):
        assert not transactional_id_of(other, "w").startswith(transactional_id_of(one, ""))
    assert all(names.has_topic(names.requests(queue)) for queue in ("default", "gpu"))
    assert all(names.has_topic(names.changelog(PROCESSING, "waiting", queue)) for queue in ("default", "gpu"))


@pytest.mark.parametrize("name", ["GPU", "g_u", "retry-1s", "a" * 33])
def test_setting_of_a_queue_that_cannot_be_is_refused_in_words(name):
    """With the variable and what it may be."""
    with pytest.raises(SettingsError, match=f"EBS_QUEUE={name}: must "):
        load(queue=name)
