"""Grouped bars as SVG text: no library, readable on a light and on a dark page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 340
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 64, 36
LEGEND_COLUMN = 230
COLOURS = ("#2a6fdb", "#7fb0f5", "#e07b39", "#b98a5e", "#4aa564", "#8b6cc1")
INK = "#777777"
GRID_LINES = 5


@dataclass(frozen=True)
class Series:
    """One contender's values, a group each; None where there is nothing to show."""

    name: str
    values: Sequence[float | None]


def bars(title: str, groups: Sequence[str], series: Sequence[Series]) -> str:
    """A chart whose axis begins at zero; every bar carries its value.

    Raises:
        ValueError: a series has not a value a group, or there is nothing to draw.
    """
    values = [value for one in series for value in one.values if value is not None]
    if not values or any(len(one.values) != len(groups) for one in series):
        raise ValueError(f"{title}: every series needs a value for each of {len(groups)} groups")
    top = ceiling(max(values))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' font-family="sans-serif" font-size="11" fill="{INK}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="18" font-size="14" font-weight="bold">{escape(title)}</text>',
        *_legend(series),
        *_grid(top),
    ]
    room = (WIDTH - LEFT - RIGHT) / len(groups)
    for number, group in enumerate(groups):
        begin = LEFT + number * room
        parts.append(
            f'<text x="{begin + room / 2:.1f}" y="{HEIGHT - BOTTOM + 18}"'
            f' text-anchor="middle">{escape(group)}</text>'
        )
        parts += _group(begin, room, [one.values[number] for one in series], top)
    return "\n".join([*parts, "</svg>"]) + "\n"


def ceiling(value: float) -> float:
    """The least of 1, 2, 2.5 or 5 times a power of ten that is not below `value`."""
    power = 10.0 ** math.floor(math.log10(value)) if value > 0 else 1.0
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value)


def _legend(series: Sequence[Series]) -> list[str]:
    parts = []
    columns = (WIDTH - LEFT) // LEGEND_COLUMN
    for number, one in enumerate(series):
        x = LEFT + number % columns * LEGEND_COLUMN
        y = 28 + number // columns * 15
        parts.append(f'<rect x="{x}" y="{y}" width="10" height="10" fill="{COLOURS[number]}"/>')
        parts.append(f'<text x="{x + 15}" y="{y + 9}">{escape(one.name)}</text>')
    return parts


def _grid(top: float) -> list[str]:
    parts = []
    for number in range(GRID_LINES + 1):
        value = top * number / GRID_LINES
        y = _height(value, top)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"'
            f' stroke="{INK}" stroke-opacity="0.25"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    return parts


def _group(begin: float, room: float, values: Sequence[float | None], top: float) -> list[str]:
    width = room * 0.84 / len(values)
    parts = []
    for number, value in enumerate(values):
        if value is None:
            continue
        x, y = begin + room * 0.08 + number * width, _height(value, top)
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width * 0.92:.1f}"'
            f' height="{HEIGHT - BOTTOM - y:.1f}" fill="{COLOURS[number]}"/>'
        )
        parts.append(
            f'<text x="{x + width * 0.46:.1f}" y="{y - 3:.1f}" font-size="9"'
            f' text-anchor="middle">{value:.3g}</text>'
        )
    return parts


def _height(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * value / top
