"""What is said about topics that exist with another shape."""

from __future__ import annotations

import pytest
from plain_names import CONTROL, LEDGER_CHANGELOG, OBJECTS, TASK_EVENTS, WORKERS

from app.settings.settings import load
from app.topics.catalogue import catalogue
from app.topics.shapes import TopicShape, explain_mismatch

CATALOGUE = catalogue(load(partitions=8))
BOOTSTRAP = "kafka:9092"
MADE_BY_US = {spec.name for spec in CATALOGUE}


def explain(**changes: TopicShape | None) -> str | None:
    """Judge a broker on which every topic is right but for the given ones; None removes a topic."""
    found = {
        spec.name: TopicShape(spec.name, spec.partition_count, 1, frozenset(spec.config["cleanup.policy"].split(",")))
        for spec in CATALOGUE
    }
    there = {name: shape for name, shape in {**found, **changes}.items() if shape is not None}
    return explain_mismatch(CATALOGUE, there, BOOTSTRAP, MADE_BY_US)


def test_message_proposes_no_deletion_of_a_topic_that_we_did_not_make():
    """One of them is enough: the command would name all that are wrong."""
    wrong = {name: TopicShape(name, 4, 1) for name in (OBJECTS, TASK_EVENTS)}
    message = explain_mismatch(CATALOGUE, wrong, BOOTSTRAP, MADE_BY_US - {OBJECTS})
    assert message is not None
    assert ("EBS_NAMESPACE" in message, "--delete" in message) == (True, False)


def test_right_or_missing_topics_are_fine():
    """Nothing is said about topics that fit, nor about those that are yet to be made."""
    assert explain() is None
    assert explain(**{OBJECTS: None, CONTROL: None}) is None


def test_replication_and_unreadable_policy_are_no_reason_to_refuse():
    """More replicas are the operator's business, and a policy that we may not read is taken on trust."""
    assert explain(**{OBJECTS: TopicShape(OBJECTS, 8, 3, None)}) is None


def test_setting_is_offered_where_it_would_help():
    """If all topics agree on another count, adopting it is the first fix named."""
    wrong = {spec.name: TopicShape(spec.name, 4, 1) for spec in CATALOGUE if not spec.is_single}
    message = explain(**wrong)
    assert message is not None
    assert message.startswith(
        f"topic objects has 4 partitions (and {len(wrong) - 1} more topics are wrong), this application is set to 8: "
        "set EBS_PARTITIONS=4 (--partitions 4), or recreate the topics"
    )
    assert "kafka-topics.sh --bootstrap-server kafka:9092 --delete --topic 'objects,task-requests," in message


def test_setting_is_not_offered_where_it_would_only_move_the_trouble():
    """If the topics disagree among themselves, no setting fits them all."""
    message = explain(**{TASK_EVENTS: TopicShape(TASK_EVENTS, 1, 1)})
    assert message is not None
    assert "topic task-events has 1 partition, this application is set to 8: recreate the topics" in message


@pytest.mark.parametrize("name", [CONTROL, WORKERS])
def test_logs_for_everybody_have_one_partition_whatever_the_setting(name):
    """A control topic with several partitions is not a matter of EBS_PARTITIONS."""
    message = explain(**{name: TopicShape(name, 8, 1)})
    assert message is not None
    assert f"topic {name} has 8 partitions, this application is set to 1: recreate the topics" in message


def test_wrong_policy_names_the_command_that_mends_it():
    """A clean-up policy can be altered in place, so that is the fix."""
    message = explain(**{LEDGER_CHANGELOG: TopicShape(LEDGER_CHANGELOG, 8, 1, frozenset({"delete", "compact"}))})
    assert message is not None
    assert f"topic {LEDGER_CHANGELOG} has cleanup.policy=compact,delete, this application needs compact" in message
    assert f"--entity-name {LEDGER_CHANGELOG} --add-config cleanup.policy=compact" in message


def test_policy_of_two_is_offered_as_a_list():
    """kafka-configs.sh takes a list in brackets only; either order of the two is right."""
    message = explain(**{WORKERS: TopicShape(WORKERS, 1, 1, frozenset({"compact"}))})
    assert message is not None
    assert message.endswith("--entity-name workers --add-config 'cleanup.policy=[compact,delete]'")
