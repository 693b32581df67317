"""Which kinds are worked, and what is said of a name that nobody knows."""

from __future__ import annotations

from app.rules.kinds import why_unhandled
from app.telemetry.near_names import did_you_mean, shown


def test_reason_names_the_kinds_and_what_to_write():
    """At most ten kinds are listed."""
    assert why_unhandled("any", None) is None
    assert why_unhandled("image", {"image"}) is None
    said = why_unhandled("kind-99", {f"kind-{number}" for number in range(30)})
    assert said is not None
    assert "and 20 more" in said
    assert '@project.task("kind-99")' in said
    assert '@project.task("*") for all other kinds' in said


def test_odd_names_are_shown_on_one_short_line():
    """Other producers call a kind what they like: escape codes and newlines do not reach a terminal or a log."""
    assert '"mail"' == shown("mail")
    assert "\\x1b" in shown("\x1b[2J\n")
    assert len(shown("x" * 1_000_000)) < 120
    assert "" == did_you_mean("x" * 1_000_000, ["mail"])
