"""Geometry of the strips over time: figures in, rectangles and lines of an SVG out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH = 900
HEIGHT = 120
_GAP_SHARE = 0.18
_NICE = (1, 2, 2.5, 5, 10)


class Bar(NamedTuple):
    """A rectangle of a strip; `part` names its colour."""

    x: float
    y: float
    width: float
    height: float
    part: str


class Strip(NamedTuple):
    """One strip: `top` is the value at its upper edge, `slots` the places to point at, each with its words."""

    bars: list[Bar]
    slots: list[tuple[float, float, str]]
    top: float
    summary: str


def stacked(values: Sequence[tuple[str, Sequence[float]]], words: Sequence[str], summary: str) -> Strip:
    """Stack values of the same slots, each with the name of its part; `words` say what a slot holds."""
    count = len(words)
    heights = [sum(series[slot] for _, series in values) for slot in range(count)]
    top = nice_top(max(heights, default=0))
    step = WIDTH / max(1, count)
    width = step * (1 - _GAP_SHARE)
    bars = []
    for slot in range(count):
        below = 0.0
        for part, series in values:
            height = series[slot] / top * HEIGHT
            if height > 0:
                bars.append(
                    Bar(_round(slot * step), _round(HEIGHT - below - height), _round(width), _round(height), part)
                )
            below += height
    slots = [(_round(slot * step), _round(step), words[slot]) for slot in range(count)]
    return Strip(bars, slots, top, summary)


def nice_top(highest: float) -> float:
    """Return the next round number, so that an axis reads well and does not jump with every value."""
    if highest <= 0:
        return 1
    power = 1.0
    while power * 10 <= highest:
        power *= 10
    while power > highest:
        power /= 10
    return next(power * step for step in _NICE if power * step >= highest)


def shares(parts: Sequence[tuple[str, int]], width: float = 100.0) -> list[tuple[str, int, float, float]]:
    """Return name, count, x and width of each part of a bar; what is there at all is at least 0.6 % wide."""
    total = sum(count for _, count in parts)
    if total <= 0:
        return []
    widths = [max(count / total * width, 0.6) if count > 0 else 0.0 for _, count in parts]
    scale = width / sum(widths)
    placed, x = [], 0.0
    for (name, count), wide in zip(parts, widths, strict=True):
        if wide:
            placed.append((name, count, _round(x), _round(wide * scale)))
        x += wide * scale
    return placed


def _round(value: float) -> float:
    return round(value, 2)
