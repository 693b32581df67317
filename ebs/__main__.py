"""The `ebs` command, also as `python -m ebs`."""

from __future__ import annotations

from ebs import start


def main() -> None:
    """Run the command line."""
    start.check_folder()
    start.claim()
    from ebs.cli import main as run  # noqa: PLC0415  # found since the line above

    run()


if __name__ == "__main__":
    main()
