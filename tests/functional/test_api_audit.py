"""The audit over HTTP: both sides of the law, and what it says when they differ."""

from __future__ import annotations

import msgspec

from api.statistics.schemas import AuditAnswer
from app.rules.counts import TOTAL_SIZE_MS, Counts, WindowKey

TOTAL = WindowKey(TOTAL_SIZE_MS, 0, "default")
MAIL = TOTAL._replace(kind="mail")
PATH = "/api/statistics/audit"


def test_nothing_adds_up_too(api):
    """Before the first object the law holds: 0 = 0."""
    told = msgspec.convert(api.get(PATH).json(), AuditAnswer)
    assert (True, 0, 0, {}) == (told.holds, told.imbalance, told.tasks_created, told.kinds)


def test_both_sides_are_reported_over_all_kinds_and_partitions(api):
    """Partitions add up, kinds too, and the answer says how far behind it is."""
    states = {"queued_now": 1, "in_progress_now": 2, "retrying_now": 3, "finished_now": 4, "dead_now": 5}
    api.topics.write_window(TOTAL, Counts(tasks_created=21, cancelled_now=6, **states), partition=0)
    api.topics.write_window(TOTAL, Counts(tasks_created=1, queued_now=1), partition=1)
    api.topics.write_window(MAIL, Counts(tasks_created=2, finished_now=2), partition=1)
    answer = api.get(PATH)
    assert 200 == answer.status_code
    told = msgspec.to_builtins(msgspec.convert(answer.json(), AuditAnswer))
    expected = {
        "holds": True,
        "imbalance": 0,
        "tasks_created": 24,
        "queued": 2,
        "in_progress": 2,
        "waiting_retry": 3,
        "finished": 6,
        "dead": 5,
        "cancelled": 6,
    }
    assert expected == {name: told[name] for name in expected}
    assert ({"default", "mail"}, 22, 2) == (
        set(told["kinds"]),
        told["kinds"]["default"]["tasks_created"],
        told["kinds"]["mail"]["finished"],
    )
    assert 0 == told["view"]["lag_records"]


def test_one_kinds_surplus_does_not_hide_anothers_loss(api):
    """The sum is right, and still the law does not hold: the imbalance counts both, and each kind says by how much."""
    api.topics.write_window(TOTAL, Counts(tasks_created=3, finished_now=2))
    api.topics.write_window(MAIL, Counts(tasks_created=2, finished_now=3))
    told = msgspec.convert(api.get(PATH).json(), AuditAnswer)
    assert (False, 2) == (told.holds, told.imbalance)
    assert 2 == api.get("/api/statistics").json()["imbalance"]
    assert {"default": (False, 1), "mail": (False, -1)} == {
        kind: (one.holds, one.imbalance) for kind, one in told.kinds.items()
    }


def test_view_without_a_store_is_503(make_api):
    """No figures are better than wrong ones; the answer says when to come back."""
    answer = make_api(attached=False).get(PATH)
    assert (503, "urn:ebs:problem:view-behind") == (answer.status_code, answer.json()["type"])
    assert "Retry-After" in answer.headers
