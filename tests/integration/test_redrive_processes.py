"""Redrives at several API processes on a real broker: at once, followed from elsewhere, killed on the way."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from api_process import ApiProcess, until
from mass_redrive import ended
from plain_names import OBJECTS, TASK_EVENTS, TASK_REQUESTS

from app.events import decode_task_request

PATH = "/api/dead-letters"
UNHURRIED = {"EBS_PUBLISH_TIMEOUT_S": "100"}
"""Two processes that take over from each other need as long as they need: what was not decided in time is a 503."""


def counts_of(api: ApiProcess) -> Counter[str]:
    """Return how many letters there are by state."""
    counts: Counter[str] = Counter()
    for group in api.client.get(f"{PATH}?group_by=fingerprint").json()["groups"]:
        counts.update(group["states"])
    return counts


def ids_of(api: ApiProcess) -> list[str]:
    """Return the ids of all letters."""
    return [letter["id"] for letter in api.client.get(f"{PATH}?limit=1000").json()["dead_letters"]]


def test_letter_redriven_at_two_processes_at_once_is_written_once(site):
    """One answer is 202, the others say that it is redriven: tasks, and bytes that nobody downstream knows again."""
    with site.api("a", **UNHURRIED) as first, site.api("b", **UNHURRIED) as second:
        site.bury(range(10))
        site.bury_bytes(OBJECTS, [b"\xff%d" % number for number in range(20)])
        until(lambda: counts_of(first)["DEAD"] == counts_of(second)["DEAD"] == 30, "both have read all letters")
        asked = [(api, letter_id) for letter_id in ids_of(first) for api in (first, second, first, second)]

        def redrive(one: tuple[ApiProcess, str]) -> tuple[str, int]:
            api, letter_id = one
            while (answer := api.client.post(f"{PATH}/{letter_id}/redrive")).status_code == 503:
                # On a slow machine the processes may take over from each other for longer than one request waits.
                assert answer.json()["safe_to_repeat"], answer.text
            return letter_id, answer.status_code

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(redrive, asked))
        for letter_id in ids_of(first):
            assert [202, 409, 409, 409] == sorted(status for one, status in answers if one == letter_id)
        assert {"REDRIVEN": 30} == counts_of(first) == counts_of(second)
    assert sorted(b"\xff%d" % number for number in range(20)) == sorted(record.value for record in site.read(OBJECTS))
    ids = [decode_task_request(record.value).id for record in site.read(TASK_REQUESTS)]
    assert sorted(f"c-o{number}-0-r1" for number in range(10)) == sorted(ids)
    assert 10 == len(site.read(TASK_EVENTS))


def test_two_processes_redrive_all_that_one_run_left(site):
    """A run and single redrives elsewhere get in each other's way, and every letter is written once all the same."""
    with site.api("a", **UNHURRIED) as first, site.api("b", **UNHURRIED) as second:
        site.bury(range(200))
        until(lambda: counts_of(first)["DEAD"] == counts_of(second)["DEAD"] == 200, "both have read all letters")
        oldest_first = ids_of(second)[::-1]
        started = first.client.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 25})
        # The run comes to these last; on a slow machine it may be there before some of the requests.
        statuses = [second.client.post(f"{PATH}/{letter_id}/redrive").status_code for letter_id in oldest_first[:5]]
        assert {202} <= set(statuses) <= {202, 409}
        run = until(lambda: ended(second, started.headers["location"]), "the end of the run")
        assert ("DONE", 200 - statuses.count(202)) == (run["state"], run["redriven_count"])
        assert {"REDRIVEN": 200} == counts_of(second)
    assert 200 == len(site.read(TASK_REQUESTS)) == len(site.read(TASK_EVENTS))


def test_run_can_be_followed_and_cancelled_at_another_process(site):
    """How far it is, that it is the only one, and that it is to end: all of it at a process that does not run it."""
    with site.api("a") as first, site.api("b") as second:
        site.bury(range(1_000))
        until(lambda: counts_of(first)["DEAD"] == counts_of(second)["DEAD"] == 1_000, "both have read all letters")
        started = first.client.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 10})
        path = started.headers["location"]
        until(lambda: second.client.get(path).json()["redriven_count"] >= 4, "the other one sees it go on")
        assert 409 == second.client.post(f"{PATH}/redrive", json={"all": True}).status_code
        assert "CANCELLED" == second.client.delete(path).json()["state"]
        run = until(lambda: ended(first, path), "its own process to hear of it")
        assert run == second.client.get(path).json()
        assert {"REDRIVEN": run["redriven_count"], "DEAD": 1_000 - run["redriven_count"]} == counts_of(first)
    assert run["redriven_count"] == len(site.read(TASK_REQUESTS))


def test_run_whose_process_is_killed_goes_on_at_another_one(site):
    """`kill -9` in the middle: the other one says so, the same request does the rest, none is written twice."""
    count, wanted = 1_000, {"error": "no user", "rate_per_s": 50}
    with site.api("a") as first, site.api("b") as second:
        site.bury(range(count))
        until(lambda: counts_of(first)["DEAD"] == counts_of(second)["DEAD"] == count, "both have read all letters")
        path = first.client.post(f"{PATH}/redrive", json=wanted).headers["location"]
        until(lambda: second.client.get(path).json()["redriven_count"] >= 100, "the run is under way")
        first.kill()
        again = until(lambda: _accepted(second, wanted), "the run to count as interrupted")
        interrupted = second.client.get(path).json()
        assert ("INTERRUPTED", True) == (interrupted["state"], 100 <= interrupted["redriven_count"] < count)
        run = until(lambda: ended(second, again), "the end of the second run")
        assert ("DONE", count, 0) == (
            run["state"],
            run["redriven_count"] + interrupted["redriven_count"],
            run["skipped_count"],
        )
        assert {"REDRIVEN": count} == counts_of(second)
    ids = Counter(decode_task_request(record.value).id for record in site.read(TASK_REQUESTS))
    assert ({f"c-o{number}-0-r1" for number in range(count)}, {1}) == (set(ids), set(ids.values()))
    assert count == len(site.read(TASK_EVENTS))


def _accepted(api: ApiProcess, wanted: dict[str, Any]) -> str | None:
    answer = api.client.post(f"{PATH}/redrive", json=wanted)
    assert answer.status_code in {202, 409}, answer.text
    return answer.headers.get("location")
