"""Times as people type them."""

from __future__ import annotations

import pytest
import typer

from ebs.cli.instants import instant_ms, instant_text

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
    with pytest.raises(typer.BadParameter, match="is no time: give an age"):
        instant_ms(text, NOW_MS)
