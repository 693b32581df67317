"""Which kinds are worked, and what is said of a name that nobody knows."""

from __future__ import annotations

from app.settings.settings.settings import Settings

from app.rules.kinds import did_you_mean, handled_kinds, shown, why_unhandled


def test_kinds_are_known_only_where_each_has_a_handler_of_its_own():
    """Without any handler, and with one for all others, every kind is worked."""
    assert handled_kinds(Settings()) is None
    assert handled_kinds(Settings(handler="shop:any", handlers={"image": "shop:resize"})) is None
    assert {"image"} == handled_kinds(Settings(handlers={"image": "shop:resize"}))


def test_reason_names_the_kinds_and_the_settings():
    """At most ten kinds are listed."""
    assert why_unhandled("any", None) is None
    assert why_unhandled("image", {"image"}) is None
    said = why_unhandled("kind-99", {f"kind-{number}" for number in range(30)})
    assert said is not None
    assert "and 20 more" in said
    assert "EBS_HANDLERS" in said
    assert "EBS_HANDLER " in said


def test_odd_names_are_shown_on_one_short_line():
    """Other producers call a kind what they like: escape codes and newlines do not reach a terminal or a log."""
    assert '"mail"' == shown("mail")
    assert "\\x1b" in shown("\x1b[2J\n")
    assert len(shown("x" * 1_000_000)) < 120
    assert "" == did_you_mean("x" * 1_000_000, ["mail"])
