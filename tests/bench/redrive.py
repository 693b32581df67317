"""Ten thousand dead tasks redriven by one filter, with workers, and a recount: `make bench-redrive`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from broker_site import running_site
from mass_redrive import mass_redrive
from rich.console import Console
from shared_broker import SharedBroker

console = Console()


def main() -> None:
    """Run it and print what it took; exit code 1 if a count is not exact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=10_000, help="dead letters, in thousands (default 10000)")
    letters = parser.parse_args().letters
    with tempfile.TemporaryDirectory() as directory:
        shared = SharedBroker(Path(directory))
        try:
            with running_site(shared, Path(directory)) as site:
                outcome = mass_redrive(site, letters, patience_s=600)
        finally:
            shared.stop()
    run = outcome.run
    console.print(f"{letters:,} tasks dead after {outcome.dying_s:.1f} s")
    console.print(
        f"run {run['state']}: {run['redriven_count']:,} redriven, {run['refused_count']} refused, "
        f"{run['skipped_count']} skipped in {outcome.redriving_s:.1f} s"
    )
    console.print(f"all finished {outcome.finishing_s:.1f} s later")
    for line in outcome.wrong:
        console.print(line, style="red")
    if outcome.wrong or run["redriven_count"] != letters:
        sys.exit(1)
    console.print("none twice, every count exact")


if __name__ == "__main__":
    main()
