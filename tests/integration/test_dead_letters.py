"""Dead letters on a real broker: what API processes know of them, and what redrives make of them."""

from __future__ import annotations

import time
from typing import Any

from api_process import PATIENCE_S, ApiProcess, until
from fleet import PATIENT
from mass_redrive import ended, mass_redrive
from plain_names import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS

from app.events import decode_task_event, decode_task_request

PATH = "/api/dead-letters"


def letters_of(api: ApiProcess, query: str = "") -> list[dict[str, Any]]:
    """Return a page of letters."""
    return api.client.get(f"{PATH}?limit=1000{query}").json()["dead_letters"]


def groups_of(api: ApiProcess) -> list[dict[str, Any]]:
    """Return the groups of letters that are alike."""
    return api.client.get(f"{PATH}?group_by=fingerprint").json()["groups"]


def test_every_process_knows_what_one_did(site):
    """A discard and a redrive by one process are known to the other, and to one that starts anew after a crash."""
    with site.api("a") as first, site.api("b") as second:
        site.bury(range(4))
        until(lambda: len(letters_of(first)) == len(letters_of(second)) == 4, "both have read all letters")
        redriven, discarded, left, _ = [letter["id"] for letter in letters_of(first)]
        assert 202 == first.client.post(f"{PATH}/{redriven}/redrive").status_code
        assert 200 == first.client.delete(f"{PATH}/{discarded}", params={"reason": "old"}).status_code
        # No waiting: the second one reads first what the first one wrote.
        assert [409, 409] == [second.client.post(f"{PATH}/{one}/redrive").status_code for one in (redriven, discarded)]
        assert [404, 404] == [second.client.get(f"{PATH}/{one}").status_code for one in ("0-99", "77-0")]
        expected = {letter["id"]: letter["state"] for letter in letters_of(second)}
        assert ("REDRIVEN", "DISCARDED", "DEAD") == (expected[redriven], expected[discarded], expected[left])
        first.kill()
    with site.api("a") as again, site.api("c") as new:
        for api in (again, new):
            until(lambda api=api: len(letters_of(api)) == 4, "all letters are read")
            assert expected == {letter["id"]: letter["state"] for letter in letters_of(api)}
            (group,) = groups_of(api)
            assert {"DEAD": 2, "REDRIVEN": 1, "DISCARDED": 1} == group["states"]
    assert 1 == len(site.read(TASK_REQUESTS))
    assert 6 == len(site.read(DEAD_LETTERS))


def test_ten_thousand_are_redriven_fast_and_once(site):
    """One filter redrives 10,000 letters: each request and each fact once, in their partitions, many in a write.

    Quiet it does 7,000 a second (`make bench-redrive`), and a hundred if each letter were a write of its own: the limit
    lies where a slow machine does not come to it.
    """
    count = 10_000
    site.bury(range(count))
    with site.api() as api:
        until(lambda: [count] == [group["count"] for group in groups_of(api)], "all to be read")
        asked_at_s = time.monotonic()
        counted = api.client.post(f"{PATH}/redrive", json={"error": "no user", "dry_run": True}).json()
        counting_s = time.monotonic() - asked_at_s
        started = api.client.post(f"{PATH}/redrive", json={"error": "no user"})
        assert (count, 202) == (counted["count"], started.status_code)
        run = until(lambda: ended(api, started.headers["location"]), "the end of the run")
        (group,) = groups_of(api)
    spent_s = (run["ended_at_ms"] - run["started_at_ms"]) / 1_000
    print(f"{count} redriven in {spent_s:.2f} s, {count / spent_s:,.0f} a second; counted in {counting_s:.2f} s")
    assert ("DONE", count, 0, 0) == (run["state"], run["redriven_count"], run["refused_count"], run["skipped_count"])
    assert {"REDRIVEN": count} == group["states"]
    assert spent_s < count / 400
    requests, facts = site.read(TASK_REQUESTS), site.read(TASK_EVENTS)
    assert count == len(requests) == len(facts) == len({decode_task_request(record.value).id for record in requests})
    assert {decode_task_request(record.value).id for record in requests} == {
        decode_task_event(record.value).id for record in facts
    }
    assert all(decode_task_event(record.value).object_partition == record.partition for record in facts)


def test_dead_tasks_finish_after_a_redrive_and_every_count_is_exact(site):
    """A thousand tasks die and are redriven by one filter: all finish, none twice; topics, ledger and windows agree.

    `make bench-redrive` does the same with ten thousand.
    """
    outcome = mass_redrive(site, 1_000, patience_s=PATIENCE_S)
    assert ("DONE", 1_000, 0, 0) == tuple(
        outcome.run[name] for name in ("state", "redriven_count", "refused_count", "skipped_count")
    )
    assert [] == outcome.wrong


def test_object_that_could_not_be_read_is_mended_and_worked_off(site):
    """An undecodable object dies; edited and redriven it becomes an object like any other."""
    with site.workers(EBS_PROCESS_TIME="0", **PATIENT) as fleet, site.api() as api:
        site.write(OBJECTS, b'{"type":"OBJECT_CREATED"}')
        (bad,) = until(lambda: letters_of(api, "&topic=objects"), fleet.last_words)
        now_ms = time.time_ns() // 1_000_000
        event = {"type": "OBJECT_CREATED", "object_id": "mended", "name": "n", "content": "c", "at_ms": now_ms}
        assert 202 == api.client.post(f"{PATH}/{bad['id']}/redrive", json={"payload": event}).status_code
        until(lambda: api.client.get("/api/objects/mended").json().get("state") == "FINISHED", fleet.last_words)
    assert [b'{"type":"OBJECT_CREATED"}', b"mended"] == [
        record.value if record.key == b"key" else record.key for record in site.read(OBJECTS)
    ]
