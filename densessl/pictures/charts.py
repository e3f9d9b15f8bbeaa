"""Line charts as inline SVG: sharp at every size, in the colors of the page's theme."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 250                         # of the drawing; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 44        # margins around the plot


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        points: (x, y) in the order of x.
        color: number of the page's series color: 0 is the quiet one.
        markers: whether every point is drawn.
        faint: drawn thin and pale, and left out of the legend.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: int = 1
    markers: bool = False
    faint: bool = False


def line_chart(title: str, series: Sequence[Series], *, x_name: str, from_zero: bool = False
               ) -> str:
    """Draw ``series`` over a common x axis; points that are not finite are left out.

    Args:
        from_zero: whether the y axis begins at 0.
    """
    finite = [[(x, y) for x, y in line.points if math.isfinite(y)] for line in series]
    everything = [point for points in finite for point in points]
    if not everything:
        return f'<div><div class="title">{escape(title)}</div><p class="soft">no data</p></div>'
    x_ticks = ticks(0.0, max(x for x, _ in everything))
    low, high = (pick(y for _, y in everything) for pick in (min, max))
    y_ticks = ticks(0.0 if from_zero else low, high)
    scale = _Scale(0.0, max(x for x, _ in everything), y_ticks[0], y_ticks[-1])
    parts = [_axes(scale, x_ticks, y_ticks, x_name)]
    parts += [_line(line, points, scale) for line, points in zip(series, finite, strict=True)]
    named = [line for line in series if not line.faint]
    return (f'<div><div class="title">{escape(title)}</div>{_legend(named)}'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
            + ''.join(parts) + '</svg></div>')


def smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """The mean of each point and the ``window`` − 1 before it, where there are so many."""
    means = []
    for i, (x, _) in enumerate(points):
        recent = [y for _, y in points[max(0, i - window + 1):i + 1] if math.isfinite(y)]
        if recent:
            means.append((x, sum(recent) / len(recent)))
    return means


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that span ``low`` … ``high``."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / about
    power = 10 ** math.floor(math.log10(raw))
    step = next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


@dataclass(frozen=True)
class _Scale:
    left: float
    right: float
    bottom: float
    top: float

    def x(self, value: float) -> float:
        share = (value - self.left) / ((self.right - self.left) or 1)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.bottom) / ((self.top - self.bottom) or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _axes(scale: _Scale, x_ticks: list[float], y_ticks: list[float], x_name: str) -> str:
    parts = []
    for value in y_ticks:
        y = scale.y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" '
                     f'stroke="var(--line)"/><text x="{LEFT - 8}" y="{y + 4:.1f}" '
                     f'text-anchor="end">{_number(value)}</text>')
    for value in x_ticks:
        if value <= scale.right * 1.001:
            parts.append(f'<text x="{scale.x(value):.1f}" y="{HEIGHT - BOTTOM + 18}" '
                         f'text-anchor="middle">{_number(value)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" '
                 f'text-anchor="middle">{escape(x_name)}</text>')
    return ''.join(parts)


def _line(line: Series, points: Sequence[tuple[float, float]], scale: _Scale) -> str:
    if not points:
        return ''
    color, width = f'var(--series-{line.color})', 1.2 if line.faint else 2.4
    path = ' '.join(f'{scale.x(x):.1f},{scale.y(y):.1f}' for x, y in points)
    opacity = 0.4 if line.faint else 1
    drawn = (f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}" '
             f'stroke-linejoin="round" stroke-linecap="round" opacity="{opacity}"/>')
    if line.markers or len(points) == 1:
        drawn += ''.join(
            f'<circle cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="3.6" fill="{color}">'
            f'<title>{escape(line.name)}: {y:.4g} at {x:g}</title></circle>' for x, y in points)
    return drawn


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ''
    return '<ul class="legend" style="margin: 2px 0 4px">' + ''.join(
        f'<li><i class="chip" style="background: var(--series-{line.color}); border: 0"></i>'
        f'{escape(line.name)}</li>' for line in series) + '</ul>'


def _number(value: float) -> str:
    return f'{value:.4g}'.replace('-', '−')
