"""The catalogue of topics: names and shapes that other programs rely on."""

from __future__ import annotations

import pytest

from app.names import BARE, PROCESSING, STATISTICS
from app.settings.settings import load
from app.topics.catalogue import MAX_OBJECT_BYTES, TopicSpec, catalogue, input_topics, watched_topics

NAMES = [
    "ebs-topics",
    "objects",
    "task-requests",
    "task-events",
    "object-events",
    "dead-letters",
    "control",
    "schedules",
    "workers",
    "ebs-distribution-seen-changelog",
    "ebs-distribution-schedules-changelog",
    "ebs-processing-redriven-changelog",
    "ebs-processing-waiting-changelog",
    "ebs-statistics-ledger-changelog",
    "ebs-statistics-results-changelog",
    "ebs-statistics-windows-changelog",
    "ebs-statistics-expiry-changelog",
]


@pytest.fixture
def topics() -> dict[str, TopicSpec]:
    """Return the catalogue by name, with 12 partitions, 3 replicas and 2 days of retention."""
    settings = load(partitions=12, replication_factor=3, min_insync_replicas=2, retention_days=2)
    return {spec.name: spec for spec in catalogue(settings)}


def test_names_are_those_of_the_design(topics):
    """Each once, in the order in which they are made."""
    assert NAMES == list(topics)
    assert len(NAMES) == len(catalogue(load()))


def test_all_but_control_and_workers_are_co_partitioned(topics):
    """One partition count for all, so that an object's records meet; two are one log for everybody."""
    others = {name: spec.partition_count for name, spec in topics.items() if spec.partition_count != 12}
    assert {"ebs-topics": 1, "control": 1, "workers": 1} == others
    assert set(others) == {name for name, spec in topics.items() if spec.is_single}


def test_only_tables_and_what_is_asked_for_by_name_are_compacted(topics):
    """Events must not be compacted away, rows must not be deleted by age; heartbeats may go both ways."""
    policies = {name: spec.config["cleanup.policy"] for name, spec in topics.items()}
    assert "compact,delete" == policies.pop("workers")
    compacted = {name for name, policy in policies.items() if policy == "compact"}
    assert {name for name in NAMES if name.endswith("changelog")} | {"control", "schedules", "ebs-topics"} == compacted
    assert {"delete", "compact"} == set(policies.values())


def test_heartbeats_are_stamped_by_the_broker_and_cleaned_soon(topics):
    """Silence is judged by one clock; a segment of a week would keep every heartbeat of the week."""
    config = topics["workers"].config
    assert "LogAppendTime" == config["message.timestamp.type"]
    assert 10_000 < int(config["segment.ms"]) < int(config["retention.ms"]) <= 3_600_000


def test_retention_is_the_setting_and_dead_letters_stay(topics):
    """Streams go after the retention; a dead letter waits for somebody to look at it."""
    assert "172800000" == topics["objects"].config["retention.ms"] == topics["task-events"].config["retention.ms"]
    assert "-1" == topics["dead-letters"].config["retention.ms"]


def test_every_topic_is_as_durable_as_is_asked_for(topics):
    """Replicas and in-sync replicas are those of the settings."""
    assert {(3, "2")} == {(spec.replication_factor, spec.config["min.insync.replicas"]) for spec in topics.values()}


def test_what_follows_from_an_object_fits_where_it_goes(topics):
    """A request or a dead letter is larger than its object; a topic that refused it would stop a worker."""
    sizes = {name: int(spec.config["max.message.bytes"]) for name, spec in topics.items()}
    assert MAX_OBJECT_BYTES == sizes.pop("objects")
    assert min(sizes.values()) > 1.5 * MAX_OBJECT_BYTES


def test_names_are_made_in_one_way():
    """Changelogs as Faust names them."""
    assert "ebs-statistics-counts-changelog" == BARE.changelog(STATISTICS, "counts")


def test_workers_watch_all_topics_but_the_changelogs_of_other_roles():
    """Those may be recreated, for a replay, while the others work on."""
    settings = load()
    watched = set(watched_topics(STATISTICS, settings))
    others = {spec.name for spec in catalogue(settings)} - watched
    of_processing = {"ebs-processing-redriven-changelog", "ebs-processing-waiting-changelog"}
    of_distribution = {"ebs-distribution-seen-changelog", "ebs-distribution-schedules-changelog"}
    assert {"ebs-topics", *of_distribution, *of_processing} == others


def test_each_queue_has_topics_of_its_own_and_no_worker_watches_those_of_another_table():
    """A topic for its requests, changelogs, a group; a change of them is noticed by who reads or writes there."""
    settings = load(project="queued_project")
    names = {spec.name: spec for spec in catalogue(settings)}
    own = {"task-requests-gpu", "ebs-processing-gpu-redriven-changelog", "ebs-processing-gpu-waiting-changelog"}
    assert own == names.keys() - set(NAMES)
    assert names["task-requests"].config == names["task-requests-gpu"].config
    assert ("task-requests-gpu",) == input_topics(PROCESSING, settings, "gpu")
    of_gpu, of_default = (set(watched_topics(PROCESSING, settings, queue)) for queue in ("gpu", "default"))
    assert own <= of_gpu
    assert {"task-requests-gpu"} == own & of_default
    assert {"ebs-processing-redriven-changelog", "ebs-processing-waiting-changelog"} == of_default - of_gpu


def test_queue_that_no_kind_has_is_known_to_its_workers_alone():
    """Tasks may wait there still; no other process makes topics of a misspelt one."""
    settings = load(queue="old")
    assert len(NAMES) == len(catalogue(settings))
    assert "task-requests-old" in watched_topics(PROCESSING, settings, "old")
    assert "task-requests-old" not in watched_topics(STATISTICS, settings)


def test_queues_of_a_process_that_does_not_import_the_project_are_given():
    """As for `ebs up`."""
    names = [spec.name for spec in catalogue(load(namespace="acme"), queues=("default", "gpu", "mail"))]
    assert ["acme.task-requests", "acme.task-requests-gpu", "acme.task-requests-mail"] == names[2:5]
    assert len(names) == len(set(names)) == len(NAMES) + 6
