"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import typer

from ebs.cli.instants import duration_s, instant_ms, instant_text, zoned_instant

NOW_MS = 1_795_489_276_303


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("90s", NOW_MS - 90_000),
        ("10m", NOW_MS - 600_000),
        ("1.5h", NOW_MS - 5_400_000),
        ("3d", NOW_MS - 259_200_000),
        ("999999999d", 0),
        ("1795489276303", NOW_MS),
        ("2026-11-24T07:01:16.303Z", 1_795_503_676_303),
        ("2026-11-24T08:01:16+01:00", 1_795_503_676_000),
    ],
)
def test_ages_iso_times_and_epoch_ms_are_instants(text, expected):
    """An age counts back from now, and never to before the epoch."""
    assert expected == instant_ms(text, NOW_MS)


def test_time_without_zone_is_local():
    """What `instant_text` shows can be typed back."""
    assert NOW_MS // 1_000 * 1_000 == instant_ms(instant_text(NOW_MS))
    assert NOW_MS // 1_000 * 1_000 == instant_ms(instant_text(NOW_MS)[:19])


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5w", "-5m", "2026-13-01", "99999-01-01", "1e3s"])
def test_what_is_no_time_is_wrong_usage(text):
    """The message says what would be one."""
    with pytest.raises(typer.BadParameter, match="is not a time: give an age"):
        instant_ms(text, NOW_MS)


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("90", 90), ("1.5m", 90), ("2h", 7_200), ("1d", 86_400)])
def test_durations_are_seconds(text, expected):
    """With a unit or without."""
    assert expected == duration_s(text)


@pytest.mark.parametrize("text", ["", "soon", "-5", "5w", "1h30m"])
def test_what_is_no_duration_is_wrong_usage(text):
    """The message says what would be one."""
    with pytest.raises(typer.BadParameter, match="is not a duration: give 30s, 10m, 2h or 1d"):
        duration_s(text)


def test_instant_without_zone_is_local_and_says_so_then():
    """The API takes no instant without a zone."""
    local = datetime.fromisoformat(zoned_instant("2027-01-01T09:00"))
    assert (datetime(2027, 1, 1, 9).astimezone(), True) == (local, local.tzinfo is not None)  # local
    assert datetime(2027, 1, 1, 8, tzinfo=UTC) == datetime.fromisoformat(zoned_instant("2027-01-01T09:00+01:00"))
    with pytest.raises(typer.BadParameter, match="is not a time: give ISO 8601"):
        zoned_instant("10m")
