"""Prints what happens in the schedule of a seed: `.venv/bin/python tests/model/replay.py 4711 [switch]`."""

import sys
from contextlib import nullcontext
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]

from simulation.sabotage import SWITCHES  # noqa: E402  # after the path
from simulation.schedule import Schedule  # noqa: E402  # as above


def main(seed: int, switch: str = "") -> None:
    """Run and print; with the name of a switch, its mechanism is taken out and its circumstances are given."""
    taken_out, given = (SWITCHES[switch].take_out(), SWITCHES[switch].given) if switch else (nullcontext(), {})
    with taken_out:
        schedule = Schedule(seed, **given)
        schedule.run()
    print(schedule.report())


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
