"""Line charts for a page: SVG by matplotlib, in the colors of the page's theme."""
from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 480, 250                         # of the drawing; the page scales it
# Colors that stand for those of the page, which change with its theme
SOFT, LINE, SERIES = '#010101', '#010102', tuple(f'#01011{i}' for i in range(7))
THEME = {SOFT: 'var(--soft)', LINE: 'var(--line)',
         **{color: f'var(--series-{i})' for i, color in enumerate(SERIES)}}
STYLE = {
    'svg.fonttype': 'none', 'svg.hashsalt': 'densessl',     # text as text; the same bytes again
    'font.sans-serif': 'DejaVu Sans', 'font.size': 13, 'text.parse_math': False,
    'axes.labelcolor': SOFT, 'lines.solid_capstyle': 'round',
    'axes.autolimit_mode': 'round_numbers', 'axes.ymargin': 0, 'axes.grid': True,
    'axes.grid.axis': 'y', 'grid.color': LINE, 'axes.axisbelow': True,
    'xtick.labelcolor': SOFT, 'ytick.labelcolor': SOFT, 'xtick.bottom': False, 'ytick.left': False,
    **{f'axes.spines.{side}': False for side in ('left', 'right', 'top', 'bottom')}}


@dataclass(frozen=True)
class Series:
    """A line.

    Attributes:
        points: (x, y) in the order of x.
        color: number of the page's series color: 0 is the quiet one, 6 that of what is wrong.
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

    Returns:
        HTML: the title, a legend if there are several lines, and the drawing.
    """
    finite = [[(x, y) for x, y in line.points if math.isfinite(y)] for line in series]
    if not any(finite):
        return f'<div><div class="title">{escape(title)}</div><p class="soft">no data</p></div>'
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72), layout='constrained')
        axes, marked = figure.subplots(), []
        for line, points in zip(series, finite, strict=True):
            dots = line.markers or len(points) == 1
            axes.plot(*zip(*points, strict=True) if points else ([], []), clip_on=False,
                      color=SERIES[line.color], linewidth=1.2 if line.faint else 2.4,
                      alpha=0.4 if line.faint else 1, marker='o' if dots else '', markersize=7,
                      markeredgewidth=0)
            if dots:
                marked += [f'{line.name}: {y:.4g} at {x:g}' for x, y in points]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
            axis.set_major_formatter(lambda value, _: f'{value:.4g}'.replace('-', '−'))
        axes.set_xlabel(x_name)
        axes.set_xlim(0, max(x for points in finite for x, _ in points) or 1)
        if from_zero:
            axes.set_ylim(bottom=0)
        drawing = _svg(figure, marked)
    legend = _legend([line for line in series if not line.faint])
    return (f'<div><div class="title">{escape(title)}</div>{legend}'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
            f'{drawing}</div>')


def smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """The mean of each point and the ``window`` − 1 before it, where there are so many."""
    means = []
    for i, (x, _) in enumerate(points):
        recent = [y for _, y in points[max(0, i - window + 1):i + 1] if math.isfinite(y)]
        if recent:
            means.append((x, sum(recent) / len(recent)))
    return means


def _svg(figure: Figure, marked: Sequence[str]) -> str:
    """What the ``svg`` element of a figure holds, and its end, in the page's colors.

    Args:
        marked: words that appear over each marker, in the order in which they are drawn.
    """
    content = io.StringIO()
    figure.savefig(content, format='svg', transparent=True,
                   metadata=dict.fromkeys(('Creator', 'Date', 'Format', 'Type')))
    drawing = re.sub('^.*?<svg .*?>|<style.*?</style>', '', content.getvalue(), flags=re.DOTALL)
    drawing = re.sub('<g id=".*?">', '<g>', drawing)      # other charts of the page have the same
    for color, of_page in THEME.items():
        drawing = drawing.replace(color, of_page)
    words = iter(marked)
    return re.sub('<use (.*?)/>', lambda marker: f'<use {marker[1]}><title>{escape(next(words))}'
                                                 f'</title></use>', drawing)


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ''
    return '<ul class="legend" style="margin: 2px 0 4px">' + ''.join(
        f'<li><i class="chip" style="background: var(--series-{line.color}); border: 0"></i>'
        f'{escape(line.name)}</li>' for line in series) + '</ul>'
