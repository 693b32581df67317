"""A thousand schedules of the whole system with everything going wrong: exact each time, and done at last."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulation.faults import OF_TRANSACTIONS
from simulation.schedule import Schedule
from simulation.seeds import chosen_seeds, run_many

REPLAY = Path(__file__).parent / "replay.py"
_REPLAYED = (3, 17, 31)
_SHOWN = 10


@pytest.mark.timeout(7_200)
def test_every_schedule_is_exact_and_comes_to_its_end() -> None:
    """Whatever is killed, frozen, late or lost: each fact stands once, the tables equal a recount, all is worked."""
    failed = [one for one in run_many(chosen_seeds()) if one.found]
    said = [f"seed {one.seed}: {one.found[0]} (and {len(one.found) - 1} more)" for one in failed[:_SHOWN]]
    again = f"replay one with: .venv/bin/python tests/model/replay.py {failed[0].seed}" if failed else ""
    assert not failed, "\n".join([f"{len(failed)} schedules failed", *said, again])


@pytest.mark.parametrize("seed", _REPLAYED)
def test_schedule_is_the_same_each_time(seed: int) -> None:
    """In this process and in another one, where Python's hashes, and so the order of its sets, are others."""
    here, again = Schedule(seed), Schedule(seed)
    here.run()
    again.run()
    elsewhere = subprocess.run(
        [sys.executable, REPLAY, str(seed)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert here.report() == again.report()
    assert here.report() == elsewhere.stdout.rstrip("\n")


def test_lost_and_late_requests_end_no_worker_with_transactions_of_version_2() -> None:
    """Everything may be repeated there, so that a broker that restarts costs no worker its life."""
    kinds = ("late", "lost request", "lost answer", "refused")
    for seed in range(20):
        schedule = Schedule(
            seed,
            transaction_version=2,
            transaction_timeout_s=5.0,
            deed_count=0,
            fault_rates=dict.fromkeys(kinds, 0.05),
            fault_apis=OF_TRANSACTIONS | {"FindCoordinator"},
        )
        assert ([], []) == (schedule.run(), schedule.deaths), f"seed {seed}"


def test_schedule_in_which_nothing_goes_wrong_ends_no_worker() -> None:
    """Nobody gives up without a reason, in either version of transactions."""
    for seed in range(20):
        schedule = Schedule(seed, fault_rates={}, deed_count=0)
        assert ([], []) == (schedule.run(), schedule.deaths), f"seed {seed}"
