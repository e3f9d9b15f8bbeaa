"""The curves of runs side by side: what each figure is, and how it is read."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from densessl.pictures import page
from densessl.pictures.charts import Series, line_chart, smoothed
from densessl.report.curves import Points
from densessl.report.recorded_run import RecordedRun
from densessl.report.verdict import UNHEALTHY, Verdict, start_of

COLORS = 5      # of runs, from 1 on; more runs share them
WRONG = 6       # the color of what is wrong
MANY = 60       # points, from which a curve is drawn faint and its mean in full

# name of the figure → title of its chart, and what a reader should know of it
HEALTH: Mapping[str, tuple[str, str]] = {
    'rank_backbone': ('Effective rank of the features', 'How many directions the features use. A '
                      'fall that lasts is a collapse.'),
    'spread': ('Spread of the features', 'How far apart the images of a batch are, of 1. Near 0: '
               'collapsed.'),
    'rank_projections': ('Effective rank of the projections', 'The same for what the loss sees.'),
    'positive_similarity': ('Similarity of positives', 'Two views of the same thing: rises.'),
    'negative_similarity': ('Similarity of negatives', 'Different images: stays low. Near 1: '
                            'everything looks alike.'),
    'alignment': ('Alignment', 'Squared distance of two views of the same thing: falls.'),
    'uniformity': ('Uniformity', 'How evenly features are spread: the lower, the better. Near 0: '
                   'collapsed.'),
    'ema_distance': ('Distance to the target network', 'Of the length of the weights.'),
    'gradient': ('Length of the gradient', 'Peaks that grow: the learning rate is too high.'),
    'update': ('Length of an update', 'Of the length of the weights. Above 0.1: thrown about.'),
    'lr': ('Learning rate', 'Of the first group of weights.'),
    'waiting': ('Time spent waiting for data', 'Of 1. Above 0.05, more workers help.'),
    'images_per_s': ('Images a second', 'Over all processes.')}
MASKS: Mapping[str, tuple[str, str]] = {
    'regions_a_view': ('Regions a view', 'Near 1, whole images are compared, not regions.'),
    'anchors_with_positive': ('Anchors with a positive', 'Share of regions that the other view '
                              'has, too.')}


def learning_charts(runs: Sequence[RecordedRun], verdicts: Sequence[Verdict]) -> str:
    """The loss, and the probes beside the start."""
    charts = [_chart(runs, verdicts, lambda run: run.figures.get('loss', []), 'Loss',
                     'A falling loss alone does not make useful features.')]
    for key, title, words in (
            ('mIoU', 'Probe: mIoU in percent', 'Dots are probes; the thin line is the start.'),
            ('propagation', 'Label propagation: mIoU in percent',
             'The labels of the nearest cells of other images; nothing is trained for it.')):
        def points(run: RecordedRun, key: str = key) -> Points:
            return [(line['step'], line[key]) for line in run.probes or ()
                    if isinstance(line.get(key), (int, float))]
        if any(map(points, runs)):
            charts.append(_chart(runs, verdicts, points, title, words, markers=True,
                                 starts=key == 'mIoU'))
    return _grid(charts)


def figure_charts(runs: Sequence[RecordedRun], verdicts: Sequence[Verdict],
                  figures: Mapping[str, tuple[str, str]]) -> str:
    """A chart for each of ``figures`` that a run has; '' if none has any."""
    return _grid([_chart(runs, verdicts, lambda run, key=key: run.figures.get(key, []), *words)
                  for key, words in figures.items() if any(run.figures.get(key) for run in runs)])


def color_of(number: int) -> int:
    """The page's series color of run ``number``."""
    return 1 + number % COLORS


def _chart(runs: Sequence[RecordedRun], verdicts: Sequence[Verdict],
           points_of: Callable[[RecordedRun], Points], title: str, words: str, *,
           markers: bool = False, starts: bool = False) -> str:
    series = []
    for i, (run, verdict) in enumerate(zip(runs, verdicts, strict=True)):
        points, color = points_of(run), color_of(i)
        if not points:
            continue
        if len(points) > MANY:
            series.append(Series(run.name, points, color, faint=True))
            points = smoothed(points, len(points) // 20)
        series.append(Series(run.name, points, color, markers=markers))
        start = start_of(run.probes or ()) if starts else None
        if start is not None:
            ends = [(0, start), (points[-1][0], start)]
            series.append(Series(f'start of {run.name}', ends, color, faint=True))
        if verdict.state == UNHEALTHY and verdict.since is not None:
            nearest = min(points, key=lambda point: abs(point[0] - verdict.since))
            is_named = not any(line.color == WRONG for line in series)
            series.append(Series('first alarm', [nearest], WRONG, markers=True,
                                 faint=not is_named))
    return line_chart(title, series, x_name='step') + page.paragraph(words, 'soft note')


def _grid(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(f"<div>{c}</div>" for c in charts)}</div>' if charts \
        else ''
