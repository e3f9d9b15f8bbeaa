"""The curves of a study: score against CPU time, against labels and against length."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from densessl.benchmark.report import COLORS, GRAY, MARKERS, plain_axes, save_figure
from densessl.study.tables import images_of, labels, summary_of

QUIET_MARKERS = 'sx+1d'     # several baselines share color and dashes
Point = tuple[float, float, float]      # x, mean, half of the interval


@dataclass(frozen=True)
class Line:
    """One curve; a ``quiet`` one is a baseline, gray and dashed."""

    name: str
    points: Sequence[Point]
    quiet: bool = False


def write_curves(results: Mapping[str, Any], folder: Path, stem: str = '') -> dict[str, Path]:
    """Draw what there is to draw: title → picture.

    Args:
        stem: what the names of the files begin with.
    """
    drawn: dict[str, Path] = {}
    for number, name in enumerate(dict.fromkeys(one['evaluation'] for one in results['columns'])):
        columns = [one for one in results['columns'] if one['evaluation'] == name]
        for kind, (title, lines, x_name) in _charts(results, columns).items():
            if sum(len(line.points) > 1 for line in lines):
                path = folder / f'{stem}{kind}-{number + 1}.png'
                draw(path, title, lines, x_name, columns[0]['scores'][0])
                drawn[title] = path
    return drawn


def draw(path: Path, title: str, lines: Sequence[Line], x_name: str, y_name: str) -> None:
    """One chart as a PNG: points with their intervals, a line through each curve's."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(8.4, 4.2), dpi=160, layout='constrained')
    axes = figure.subplots()
    for line in (one for one in lines if one.points):
        x, mean, half = zip(*sorted(line.points), strict=True)
        place = [one.name for one in lines if one.quiet == line.quiet].index(line.name)
        markers = QUIET_MARKERS if line.quiet else MARKERS
        axes.errorbar(x, mean, half, label=line.name, capsize=3, markersize=5, linewidth=1.6,
                      color=GRAY if line.quiet else COLORS[place % len(COLORS)],
                      marker=markers[place % len(markers)],
                      linestyle='--' if line.quiet else '-')
    plain_axes(axes)
    means = [mean for line in lines for _, mean, _ in line.points]
    room = max(1.0, max(means) - min(means))
    low, high = axes.get_ylim()     # bars of two seeds may be longer than all there is to see
    axes.set_ylim(max(low, min(means) - room), min(high, max(means) + room))
    ticks = sorted({x for line in lines for x, *_ in line.points})
    axes.set_xticks(ticks, [f'{x:.3g}' for x in ticks])
    axes.set_title(title, fontsize=10, loc='left')
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.legend(frameon=False, fontsize=8, loc='center left', bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)


def _charts(results: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]
            ) -> dict[str, tuple[str, list[Line], str]]:
    """Kind → title, curves and name of the x axis."""
    name, most = columns[0]['evaluation'], max(one['fraction'] for one in columns)
    usual = 1.0 if any(one['length'] == 1 for one in columns) else max(
        one['length'] for one in columns)
    full = [one for one in columns if one['fraction'] == most]
    count = {one['fraction']: images_of(results, one) for one in columns}
    return {
        'labels': (f'{name}: score by labels', _lines(
            results, [one for one in columns if one['length'] == usual],
            lambda column: count[column['fraction']]), 'labelled training images'),
        'length': (f'{name}, {labels(results, full[0])}: score by length', _lines(
            results, full, lambda column: column['length']), 'length of fine-tuning, × its own'),
        'compute': (f'{name}, {labels(results, full[0])}: score by pretraining', _by_compute(
            results, next(one for one in full if one['length'] == usual)),
            'CPU-minutes of pretraining, as measured')}


def _lines(results: Mapping[str, Any], columns: Sequence[Mapping[str, Any]],
           x_of: Callable[[Mapping[str, Any]], float | None]) -> list[Line]:
    lines = []
    for row in results['rows']:
        points = [(x_of(column), *found) for column in columns
                  if (found := _found(results, row['row'], column)) and x_of(column)]
        lines.append(Line(row['row'], points, row['cpu_minutes'] is None
                          and row['epochs'] is None))
    return lines


def _by_compute(results: Mapping[str, Any], column: Mapping[str, Any]) -> list[Line]:
    """Rows of one name and several CPU times are a curve."""
    lines = []
    for name in dict.fromkeys(row['name'] for row in results['rows'] if row['cpu_minutes']):
        points = []
        for row in (one for one in results['rows'] if one['name'] == name):
            cost = [line['cpu_seconds_of_training'] + line['cpu_seconds_of_masks']
                    for line in results['weights'] if line['row'] == row['row']]
            found = _found(results, row['row'], column)
            if cost and found:
                points.append((sum(cost) / len(cost) / 60, *found))
        lines.append(Line(name, points))
    return lines


def _found(results: Mapping[str, Any], row: str, column: Mapping[str, Any]
           ) -> tuple[float, float] | None:
    line = next((one for one in summary_of(results, column, column['scores'][0])
                 if one['row'] == row), None)
    return None if line is None else (line['mean'], line['half_width'] or 0.0)
