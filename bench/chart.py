"""Line charts as SVG, as far as the benchmarks need them: a logarithmic x axis, a y axis from zero, a line a series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 60
FONT: Final = 'font-family="sans-serif" font-size="12"'
COLOURS: Final = ("#1f6f8b", "#c8553d", "#4f772d", "#6d597a")

#: A series: (x, y) pairs, x ascending and positive.
Series = Sequence[tuple[float, float]]


def draw(path: Path, title: str, x_label: str, y_label: str, series: Mapping[str, Series]) -> None:
    """Write the chart. Raises: ValueError, where no series has a point."""
    points = [point for line in series.values() for point in line]
    if not points:
        raise ValueError(f"nothing to draw in {title!r}")
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "\n".join([*_frame(title, x_label, y_label), *_axes(points), *_lines(series, points), "</svg>", ""])
    )


def _frame(title: str, x_label: str, y_label: str) -> list[str]:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {FONT}>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 20, title, 'font-size="14" font-weight="bold"'),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 22, x_label),
        f'<g transform="rotate(-90 16 {middle})">{_text(16, middle, y_label)}</g>',
    ]


def _text(x: float, y: float, text: str, more: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _axes(points: Series) -> list[str]:
    """Grid lines at round values of y, and a tick at each x that was measured."""
    top, drawn = _top(points), []
    for part in range(5):
        value = top * part / 4
        y = _y(value, top)
        drawn.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        drawn.append(_text(LEFT - 6, y + 4, f"{value:,.4g}", anchor="end"))
    drawn += [_text(_x(x, points), HEIGHT - BOTTOM + 18, f"{x:,.0f}") for x in sorted({x for x, _ in points})]
    return drawn


def _lines(series: Mapping[str, Series], points: Series) -> list[str]:
    top, drawn = _top(points), []
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(_x(x, points), _y(y, top)) for x, y in line]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        drawn.append(_text(LEFT + 10 + 180 * number, HEIGHT - 6, name, f'fill="{colour}"', anchor="start"))
    return drawn


def _top(points: Series) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that no y passes."""
    highest = max(y for _, y in points) or 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= highest)


def _x(x: float, points: Series) -> float:
    low, high = math.log(min(x for x, _ in points)), math.log(max(x for x, _ in points))
    share = (math.log(x) - low) / (high - low) if high > low else 0.5
    return LEFT + 20 + share * (WIDTH - LEFT - RIGHT - 40)


def _y(y: float, top: float) -> float:
    return HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)
