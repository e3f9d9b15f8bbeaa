"""A benchmark's results to read: a Markdown table, plots, and a page with both."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2

from densessl.benchmark import tables
from densessl.benchmark.plan import SUPERVISED
from densessl.benchmark.verdict import verdict
from densessl.files.writing import atomic_path, write_text
from densessl.machine.facts import machine_facts, versions
from densessl.pictures import page
from densessl.weights.backbone_file import RANDOM
from densessl.weights.lineage import links_of

LABELS_PLOT, LENGTHS_PLOT = 'score_by_labels.png', 'score_by_length.png'
TABLE, PAGE = 'results.md', 'report.html'
GRAY, INK = '#7a828e', '#1a1d24'
COLORS = ('#1f66d1', '#c2571a', '#177245', '#8a3fb5', '#b3261e', '#00838f', '#a07800')   # backbones
MARKERS = 'oD^vP*X'


def write_report(results: dict[str, Any], folder: Path) -> None:
    """Write tables, plots and the page of ``results`` into ``folder``."""
    lead, notes, plots = verdict(results), tables.notes(results), {}
    if results['cells']:
        plots[LABELS_PLOT] = plot_by_labels(results, folder / LABELS_PLOT)
        if len(results['lengths']) > 1:
            plots[LENGTHS_PLOT] = plot_by_length(results, folder / LENGTHS_PLOT)
    table, body = _markdown(results, lead, notes, plots), _body(results, lead, notes, plots)
    page.write_page(folder / PAGE, f'densessl benchmark: {results["config"]}', body)
    write_text(folder / TABLE, table, errors='backslashreplace')


def _markdown(results: dict[str, Any], lead: Sequence[str], notes: Sequence[str],
              plots: Iterable[str]) -> str:
    parts = [f'# Benchmark of {results["config"]}',
             tables.bullets(lead), notes[0],
             tables.markdown(tables.score_rows(results, tables.main_length(results))),
             tables.bullets(notes[1:]),
             '## Differences from random weights', tables.markdown(tables.test_rows(results)),
             *(['## Differences from the start', tables.markdown(
                 tables.test_rows(results, 'from_start'))] if results['from_start'] else [])]
    if len(results['lengths']) > 1:
        parts.append('## Score against the length of fine-tuning')
        for fraction in results['fractions']:
            parts += [f'### {tables.labels(results, fraction)}',
                      tables.markdown(tables.length_rows(results, fraction))]
        parts.append(tables.bullets(tables.convergence(results)))
    parts += [f'![{name.removesuffix(".png").replace("_", " ")}]({name})' for name in plots]
    return '\n\n'.join(filter(None, parts)) + '\n'


def plot_by_labels(results: dict[str, Any], path: Path) -> Path:
    """Score against the number of labelled images (logarithmic); bars are ± one standard
    deviation over seeds, dots the seeds."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(7, 4.6), dpi=200, layout='constrained')
    axes = figure.subplots()
    length = tables.main_length(results)
    where = {fraction: tables.images_of(results, fraction) for fraction in results['fractions']}
    _draw(axes, results, lambda one: where[one['fraction']] if one['length'] == length else None,
          sorted({count for count in where.values() if count}))
    axes.set_xticks([count for count in where.values() if count],
                    [f'{count}\n{tables.percent(fraction)}' for fraction, count in where.items()
                     if count])
    axes.set_xlabel('labelled training images')
    axes.set_ylabel(results['score'])
    axes.set_title(_seeds(results), fontsize=9, color=GRAY, loc='left')
    axes.legend(frameon=False)
    return save_figure(figure, path)


def plot_by_length(results: dict[str, Any], path: Path) -> Path:
    """Score against the length of fine-tuning, a panel for each fraction."""
    from matplotlib.figure import Figure
    fractions = results['fractions']
    columns = min(3, len(fractions))
    lines = -(-len(fractions) // columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 0.6 + 3.4 * lines), dpi=200, layout='constrained')
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, fraction in zip(panels, fractions, strict=False):
        _draw(axes, results, lambda one, fraction=fraction:
              one['length'] if one['fraction'] == fraction else None, results['lengths'])
        axes.set_xticks(results['lengths'], [f'{length:g}×' for length in results['lengths']])
        axes.set_title(tables.labels(results, fraction), fontsize=10)
        axes.set_xlabel('length of fine-tuning')
    for axes in panels[len(fractions):]:
        axes.set_visible(False)
    panels[0].set_ylabel(results['score'])
    panels[0].legend(frameon=False, fontsize=9)
    figure.suptitle(_seeds(results), fontsize=9, color=GRAY)
    return save_figure(figure, path)


def _draw(axes: Any, results: dict[str, Any], x_of: Callable[[dict[str, Any]], float | None],
          ticks: Sequence[float]) -> None:
    """One line for each initialization over a logarithmic x axis, a little apart from each other
    so that their bars do not hide one another."""
    names, colors = list(results['initializations']), {RANDOM: GRAY, SUPERVISED: INK}
    others = [name for name in names if name not in colors]
    colors.update({name: COLORS[i % len(COLORS)] for i, name in enumerate(others)})
    span = max(ticks) / min(ticks) if len(ticks) > 1 else 10
    for i, name in enumerate(names):
        shift = span ** (0.012 * (i - (len(names) - 1) / 2))
        cells = sorted((x_of(one), one['mean'], one['std'] or 0) for one in results['cells']
                       if one['initialization'] == name and x_of(one) is not None)
        if cells:
            x, mean, std = zip(*cells, strict=True)
            axes.errorbar([value * shift for value in x], mean, std, label=name, capsize=3,
                          color=colors[name], marker=MARKERS[i % len(MARKERS)], markersize=5,
                          linestyle='--' if name == RANDOM else '-', linewidth=1.6)
        dots = [(x_of(run) * shift, run['scores'][results['score']]) for run in results['runs']
                if run['initialization'] == name and x_of(run) is not None]
        axes.plot(*zip(*dots, strict=True) if dots else ([], []), '.', color=colors[name],
                  alpha=0.35, markersize=5)
    plain_axes(axes)


def plain_axes(axes: Any) -> None:
    """Axes with little ink, x logarithmic."""
    axes.set_xscale('log')
    axes.minorticks_off()
    axes.grid(axis='y', color='#dfe3e8')
    axes.spines[['top', 'right']].set_visible(False)


def _seeds(results: dict[str, Any]) -> str:
    if results['seeds'] == 1:
        return 'one seed: its variation is not known'
    return f'mean ± standard deviation over {results["seeds"]} seeds; dots are seeds'


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure of matplotlib's as a PNG; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as unfinished:
        figure.savefig(unfinished, format='png', facecolor='white')
    return path


def _body(results: dict[str, Any], lead: Sequence[str], notes: Sequence[str],
          plots: dict[str, Path]) -> str:
    pictures = {name: page.picture(cv2.imread(str(path))[..., ::-1], alt=name)
                for name, path in plots.items()}
    parts = ['<header><h1>Does pretraining help, at my number of labels?</h1>'
             + ''.join(page.paragraph(line, 'lead') for line in lead)
             + f'{page.paragraph(notes[0], "soft" if lead else "lead")}</header>',
             page.section(f'{results["score"] or "Score"} by labels', pictures.get(LABELS_PLOT, ''),
                          table_of(tables.score_rows(results, tables.main_length(results))),
                          *(page.paragraph(note, 'soft') for note in notes[1:])),
             page.section('Differences from random weights', table_of(tables.test_rows(results)))]
    if results['from_start']:
        parts.append(page.section('Differences from the start',
                                  table_of(tables.test_rows(results, 'from_start'))))
    if len(results['lengths']) > 1:
        parts.append(page.section(
            'Only faster, or higher in the end?', pictures.get(LENGTHS_PLOT, ''),
            *(f'<h3>{tables.labels(results, fraction)}</h3>'
              + table_of(tables.length_rows(results, fraction))
              for fraction in results['fractions']),
            *map(page.paragraph, tables.convergence(results))))
    return '\n'.join([*parts, _run(results)])


def _run(results: dict[str, Any]) -> str:
    facts = [('config', results['config']), ('data', results['data_root'] or 'the config’s own'),
             ('overrides', ', '.join(f'{key}={value}' for key, value in results['options'].items())
              or 'none'),
             ('runs', f'{len(results["runs"])} finished, {len(results["missing"])} not'),
             ('time of all runs', f'{sum(run["seconds"] for run in results["runs"]) / 60:.0f} min'),
             *machine_facts().items()]
    made = [(name, meta['method'], meta['backbone']['type'], meta.get('epochs', '?'),
             meta.get('data', '?'), ' ← '.join(link['file'] for link in links_of(meta)) or '—',
             meta['sha256'][:12])
            for name, meta in results['initializations'].items() if meta]
    return page.section(
        'What was run', page.paragraph(f'Written {time.strftime("%Y-%m-%d %H:%M")}.', 'soft'),
        page.table((), facts), '<h3>Initializations</h3>',
        page.table(('name', 'method', 'backbone', 'epochs', 'pretrained on', 'started from',
                         'hash'), made),
        page.folded('Versions', page.table((), versions().items())))


def table_of(rows: tables.Rows) -> str:
    """Rows of :mod:`densessl.benchmark.tables` on a page."""
    return page.table(rows[0], rows[1:], numbers=range(1, len(rows[0])))
