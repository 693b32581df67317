"""Redrives of many letters as all API processes know them: followed, refused, cancelled, interrupted; without Kafka."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from fakes import until
from grave import NOW_MS, PATH, Grave, listed_ids, refusal_of, run_to_end, wait_for_count
from plain_names import DEAD_LETTERS

from api.dead_letters import schemas
from api.redrive.bulk_redrive import BulkRedriver
from api.redrive.redrive_run import Patience
from app.rules.letter_filter import LetterFilter
from app.rules.redrive_runs import RunProgress, RunState, read_run_progress, run_progress_record


@pytest.fixture
def grave(api) -> Grave:
    """Return a grave for the API's topics."""
    return Grave(api.topics)


def run_elsewhere(**changes) -> RunProgress:
    """Return a run of another process, as it stands on the topic."""
    fields = {"by": "10.0.0.7", "rate_per_s": 2.0, "redriven_count": 3, **changes}
    return RunProgress("ab" * 16, 4, RunState.RUNNING, LetterFilter(kind="mail"), NOW_MS - 9, NOW_MS - 1, **fields)


def tell(api, progress: RunProgress) -> None:
    """Write how far a run of another process is."""
    record = run_progress_record(DEAD_LETTERS, progress)
    api.topics.write(DEAD_LETTERS, record.partition, record.key, record.value, headers=tuple(record.headers))


def test_run_of_another_process_can_be_followed(api):
    """Whichever process runs it: its counts, its filter, and who asked for it; it is no letter."""
    tell(api, run_elsewhere())
    run = msgspec.convert(api.get(f"{PATH}/redrives/{'ab' * 16}").json(), schemas.RunAnswer)
    assert ("RUNNING", 3, "mail", None, "10.0.0.7") == (
        run.state,
        run.redriven_count,
        run.filter.kind,
        run.filter.topic,
        run.by,
    )
    assert [run.id] == [one["id"] for one in api.get(f"{PATH}/redrives").json()["redrives"]]
    assert [] == listed_ids(api)


def test_run_of_another_process_is_a_conflict_and_can_be_cancelled(api, grave):
    """There is one run at a time in the whole system; a cancel is written, so that its process hears of it."""
    grave.bury_task(1)
    tell(api, run_elsewhere())
    assert (409, "redrive-under-way") == refusal_of(api.post(f"{PATH}/redrive", json={"all": True}))
    answer = api.request("DELETE", f"{PATH}/redrives/{'ab' * 16}")
    assert (202, "CANCELLED", 3) == (answer.status_code, answer.json()["state"], answer.json()["redriven_count"])
    assert run_elsewhere().ended(RunState.CANCELLED, NOW_MS) == read_run_progress(
        api.topics.records[DEAD_LETTERS, 0][-1].value
    )
    assert 1 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]


def test_run_that_another_process_ends_stops(api, grave):
    """It writes nothing more, not even its end, and shows what the other one made of it."""
    for number in range(10):
        grave.bury_task(number)
    started = api.post(f"{PATH}/redrive", json={"all": True, "rate_per_s": 4})
    wait_for_count(api, started, 1)
    now = read_run_progress(api.topics.records[DEAD_LETTERS, 0][-1].value)
    tell(api, now.ended(RunState.CANCELLED, NOW_MS + 5))
    run = run_to_end(api, started)
    assert ("CANCELLED", now.redriven_count, NOW_MS + 5) == (run["state"], run["redriven_count"], run["ended_at_ms"])
    assert now.redriven_count == len(listed_ids(api, "?state=REDRIVEN"))


def test_run_whose_process_is_gone_is_interrupted(api, grave):
    """After ten seconds of silence it is told so, the same request goes on, and the one that was silent must stop."""
    grave.bury_task(1)
    now_s = [100.0]
    api.view.dead_letters.runs._clock_s = lambda: now_s[0]
    tell(api, run_elsewhere())
    now_s[0] += 9
    refused = api.post(f"{PATH}/redrive", json={"all": True})
    assert (409, True) == (refused.status_code, "last heard of 9 s ago" in refused.json()["detail"])
    now_s[0] += 2
    run = api.get(f"{PATH}/redrives/{'ab' * 16}").json()
    assert (
        "INTERRUPTED",
        "its API process has not reported for 11 s; send the same request again to continue",
    ) == (
        run["state"],
        run["error"],
    )
    assert 1 == run_to_end(api, api.post(f"{PATH}/redrive", json={"all": True}))["redriven_count"]
    told = [read_run_progress(record.value) for record in api.topics.records[DEAD_LETTERS, 0]]
    assert ["RUNNING", "INTERRUPTED", "RUNNING", "RUNNING", "DONE"] == [one.state for one in told]


def test_waiting_run_says_that_it_lives(api, grave):
    """A run that waits long for its rate is heard of again and again, so nobody takes it for dead."""
    for number in range(2):
        grave.bury_task(number)
    redriver = api.app.state.collaborators.redriver
    bulk = BulkRedriver(redriver, api.view, lambda: NOW_MS, Patience(sign_every_s=0.01))

    def told():
        return [read_run_progress(record.value) for record in api.topics.records[DEAD_LETTERS, 0]]

    async def scenario():
        run = await bulk.start(LetterFilter(), 0.01, "me")
        await until(lambda: len([one for one in told() if one.redriven_count == 1]) > 4)
        await bulk.cancel(run.run_id)
        await asyncio.wait([bulk._task])

    api.run(scenario())
    assert [1, 2, 3, 4, 5, 6] == [one.number for one in told()][:6]
    assert (1, "CANCELLED") == (told()[-1].redriven_count, told()[-1].state)


def test_last_runs_are_kept_with_the_store(api):
    """Another life of the process knows the last twenty runs, in their order."""
    for number in range(22):
        tell(api, msgspec.structs.replace(run_elsewhere(), run_id=f"{number:032x}", started_at_ms=number))
    tell(api, run_elsewhere(redriven_count=-1))  # says nothing
    layout = api.view._opened().layout()
    api.view.detach()
    api.view.attach(api._slot.open(layout), api.topics.ends)
    runs = api.get(f"{PATH}/redrives").json()["redrives"]
    assert [f"{number:032x}" for number in range(21, 1, -1)] == [run["id"] for run in runs]
