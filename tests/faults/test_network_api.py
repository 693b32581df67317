"""The API behind a network that delays requests and loses answers: its producer, its transactions and its view."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec
import pytest
from api_process import until
from kafka_proxy import Harm, Rule
from plain_names import DEAD_LETTERS, OBJECTS, TASK_EVENTS, TASK_REQUESTS
from proxied_site import proxied_site

from app.events import decode_task_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from api_process import ApiProcess
    from proxied_site import ProxiedSite

PATIENT = {"EBS_PUBLISH_TIMEOUT_S": "5"}
"""Long enough for an answer, short enough that a producer that was let down is soon replaced."""
SUBMITS = 150
LETTERS = 150
SHARE = 0.15
"""Late, and as many lost: 30 % of the requests are harmed."""


@pytest.fixture(params=[2, 1], ids=["transactions-v2", "transactions-v1"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ProxiedSite]:
    """Return a site behind a proxy, on a cluster of each kind."""
    with proxied_site(tmp_path, request.param) as found:
        yield found


def harm(site: ProxiedSite, *apis: str) -> None:
    """Let requests of these apis be late, and lose as many answers."""
    site.proxy.rules = tuple(Rule(api, kind, SHARE) for api in apis for kind in (Harm.LATE, Harm.LOST_ANSWER))


def behind(site: ProxiedSite) -> ApiProcess:
    """Return an API that reaches the broker through the proxy only."""
    return site.api(EBS_BROKER=site.proxy.bootstrap, **PATIENT)


def test_submits_are_stored_and_read_back(site):
    """Each accepted object is on its topic and in the view, by one id for each key, however often it was repeated."""
    with behind(site) as api:
        harm(site, "Produce", "Metadata", "InitProducerId", "Fetch")

        def submit(number: int) -> str | None:
            answer = api.client.post("/api/objects", json={}, headers={"Idempotency-Key": str(number)})
            assert answer.status_code in {202, 503}, answer.text
            return str(answer.json()["id"]) if answer.status_code == 202 else None

        with ThreadPoolExecutor(8) as pool:
            submitted = list(pool.map(lambda number: until(lambda: submit(number), f"submit {number}"), range(SUBMITS)))
        site.proxy.rules = ()
        assert SUBMITS == len(set(submitted))
        assert site.proxy.harmed["Produce", Harm.LATE]
        for object_id in submitted:
            until(lambda one=object_id: api.status(f"/api/objects/{one}") == 200, f"{object_id} in the view")
    assert set(submitted) == {msgspec.json.decode(record.value)["object_id"] for record in site.read(OBJECTS)}


def test_redrives_are_written_once(site):
    """Request, fact and act of each letter are on their topics once and together, whatever became of the answers."""
    path = "/api/dead-letters"
    with behind(site) as api:
        site.bury(range(LETTERS))
        letters = until(
            lambda: len(found := api.client.get(f"{path}?limit=1000").json()["dead_letters"]) == LETTERS and found,
            "all letters in the view",
        )
        harm(site, "EndTxn", "Produce", "AddPartitionsToTxn", "InitProducerId")

        def redrive(letter_id: str) -> bool:
            answer = api.client.post(f"{path}/{letter_id}/redrive")
            assert answer.status_code in {202, 409, 503}, answer.text
            return answer.status_code != 503

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda one: until(lambda: redrive(one["id"]), f"redrive of {one['id']}"), letters))
        site.proxy.rules = ()
        assert site.proxy.harmed["EndTxn", Harm.LATE]
        until(lambda: not api.client.get(f"{path}?state=DEAD").json()["dead_letters"], "all to be redriven in the view")
    requests = Counter(decode_task_request(record.value).id for record in site.read(TASK_REQUESTS))
    acts = [record.key for record in site.read(DEAD_LETTERS) if dict(record.headers).get("ebs-act") == b"redriven"]
    assert {f"c-o{number}-0-r1": 1 for number in range(LETTERS)} == requests
    assert (LETTERS, LETTERS) == (len(acts), len(set(acts)))
    assert LETTERS == len(site.read(TASK_EVENTS))
