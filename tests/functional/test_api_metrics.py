"""The API's `/metrics`: the statistics of the whole system, as far as the view has them."""

from __future__ import annotations

import pytest
from histories import task_event
from plain_names import CONTROL, WORKERS
from prometheus_client.parser import text_string_to_metric_families

from app.events import ObjectCreated, TaskFinished, TasksCreated
from app.rules.commands import Pause, encode_command
from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey
from app.rules.histogram import bucket_of
from app.rules.ledger import apply_object_created, apply_task_event
from app.rules.ledger_rows import ObjectRow
from app.rules.tally import Tally
from app.rules.worker_heartbeats import WorkerFigures, WorkerIdentity, heartbeat_of

NOW_MS = 1_795_489_276_303


def read(api) -> dict[tuple[str, str], float]:
    """Return the samples by name and first label value."""
    answer = api.get("/metrics")
    assert (200, "no-store") == (answer.status_code, answer.headers["cache-control"])
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(answer.text)
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }


def write_totals(api, partition: int = 0, kind: str = "default", **counts) -> None:
    """Write a partition's total of a kind."""
    api.topics.write_window(WindowKey(TOTAL_SIZE_MS, 0, kind), Counts(**counts), partition)


@pytest.mark.parametrize("attached", [False, True])
def test_nothing_is_said_before_the_view_has_caught_up(make_api, attached):
    """An old view's counters would look as if they had gone back, and be counted twice."""
    api = make_api(attached=attached)
    api.topics.deliver_at_once = False
    write_totals(api, tasks_created=7)
    if attached:
        api.view.apply(api.topics.records)
    samples = read(api)
    assert 0 == samples["ebs_view_ready", ""]
    assert not [name for name, _ in samples if name.startswith(("ebs_tasks", "ebs_objects", "ebs_workers"))]


def test_counters_and_states_add_up_partitions_and_kinds(api):
    """Each is the sum of all; kinds are no label, as anybody may make one up."""
    write_totals(api, 0, "a", objects_created=2, tasks_created=6, tasks_finished=3, finished_now=3, queued_now=3)
    write_totals(api, 1, "a", objects_created=1, tasks_created=3, tasks_died=2, dead_now=2, in_progress_now=1)
    write_totals(api, 1, "b", objects_created=1, tasks_created=2, retrying_now=1, cancelled_now=1, late_events=4)
    samples = read(api)
    expected = {
        "ebs_objects_created_total": 4,
        "ebs_objects_finished_total": 0,
        "ebs_tasks_created_total": 11,
        "ebs_tasks_finished_total": 3,
        "ebs_tasks_dead_total": 2,
        "ebs_window_late_events_total": 4,
        "ebs_audit_imbalance": 0,
        "ebs_view_ready": 1,
        "ebs_view_lag_records": 0,
        "ebs_view_as_of_timestamp_seconds": NOW_MS / 1_000,
    }
    assert expected == {name: samples[name, ""] for name in expected}
    states = {"queued": 3, "in_progress": 1, "waiting_retry": 1, "finished": 3, "dead": 2, "cancelled": 1}
    assert states == {label: value for (name, label), value in samples.items() if name == "ebs_tasks"}


def test_objects_are_reported_by_state_over_all_kinds(api):
    """A list's states, none left out because it has no objects; what is forgotten counts no more."""
    row = ObjectRow()
    for object_id, kind in (("a", "mail"), ("b", "image"), ("c", "image")):
        created = ObjectCreated(object_id=object_id, kind=kind, name="n", content="c", at_ms=NOW_MS - 1_000)
        api.topics.write_object(created)
        if object_id == "a":
            apply_object_created(row, created, Tally())
    for happened in (TasksCreated, TaskFinished):
        apply_task_event(row, task_event(happened, "a", 0, at_ms=NOW_MS), Tally())
    api.topics.write_row("a", row)

    def told() -> dict[str, float]:
        return {label: value for (name, label), value in read(api).items() if name == "ebs_objects"}

    none = dict.fromkeys(["created", "distributed", "processing", "finished", "failed", "cancelled"], 0)
    assert none | {"created": 2, "finished": 1} == told()
    api.topics.write_row("a", None)
    assert none | {"created": 2} == told()


def test_one_kinds_surplus_does_not_hide_anothers_loss(api):
    """The imbalance is the sum of what is wrong with each kind."""
    write_totals(api, kind="a", tasks_created=5, queued_now=4)
    write_totals(api, kind="b", tasks_created=5, queued_now=6)
    assert 2 == read(api)["ebs_audit_imbalance", ""]


def test_histograms_are_those_of_the_statistics(api):
    """Cumulative, in seconds; every duration is in the bucket it belongs to, within the statistics' 5 %."""
    waits_ms = [0, 4, 5, 90, 900, 50_000, 7_200_000]
    histogram = {bucket_of(wait_ms): waits_ms.count(wait_ms) for wait_ms in waits_ms}
    write_totals(api, wait_histogram=histogram, wait_ms=sum(waits_ms))
    samples = read(api)
    name = "ebs_task_queue_wait_seconds"
    bounds = {"0.005": 3, "0.05": 3, "0.1": 4, "0.5": 4, "1": 5, "30": 5, "60": 6, "3600": 6, "+Inf": 7}
    assert bounds == {bound: samples[f"{name}_bucket", bound] for bound in bounds}
    assert (7, sum(waits_ms) / 1_000) == (samples[f"{name}_count", ""], samples[f"{name}_sum", ""])


def test_each_role_has_a_count_of_workers_although_it_is_none(api):
    """An alert can only see what is there."""
    identity = WorkerIdentity("w-1", "processing", "1", "host", 1, NOW_MS)
    api.topics.write(WORKERS, 0, identity.key(), heartbeat_of(identity, WorkerFigures(), NOW_MS))
    families = text_string_to_metric_families(api.get("/metrics").text)
    (workers,) = [family for family in families if family.name == "ebs_workers"]
    found = {sample.labels["role"]: sample.value for sample in workers.samples}
    assert {"distribution": 0, "processing": 1, "statistics": 0} == found


def test_pauses_are_reported_by_origin(api):
    """A breaker's waits for a person, so an alert goes by it; kinds are no label."""
    api.topics.deliver()
    told = [{label: value for (name, label), value in read(api).items() if name == "ebs_pauses"}]
    for key, pause in ((b"pause", Pause(1)), (b"pause:mail", Pause(1, "", "w1")), (b"pause:ad", Pause(1, "", "w2"))):
        api.topics.write(CONTROL, 0, key, encode_command(pause))
    told.append({label: value for (name, label), value in read(api).items() if name == "ebs_pauses"})
    assert [{"breaker": 0, "person": 0}, {"breaker": 2, "person": 1}] == told


def test_probes_are_never_cached(api):
    """Neither their good nor their bad answers."""
    answers = [api.get("/readyz"), api.get("/livez")]
    api.topics.deliver()
    answers.append(api.get("/readyz?verbose"))
    assert [503, 200, 200] == [answer.status_code for answer in answers]
    assert ["no-store"] * 3 == [answer.headers["cache-control"] for answer in answers]
