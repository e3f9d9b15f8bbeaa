"""What was run, as tables: a column a run."""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from densessl.pictures import page
from densessl.progress import duration
from densessl.report.recorded_run import RecordedRun

UNSAID = '–'
OLD = 'An older run: it wrote no record of itself, so only what its log holds is shown.'


def facts_table(runs: Sequence[RecordedRun]) -> str:
    """Config, data, cost and machine; lines in which runs differ are emphasized."""
    rows: list[tuple[str, Callable[[RecordedRun], Any]]] = [
        ('work folder', lambda run: run.folder.resolve()),
        ('config', lambda run: run.get('provenance', 'config')),
        ('method', lambda run: run.get('provenance', 'method')),
        ('backbone', lambda run: run.get('provenance', 'backbone', 'type')),
        ('start', _start), ('images', _data),
        ('masks', lambda run: _masks(run) if run.facts else None),
        ('epochs', lambda run: run.get('provenance', 'epochs')),
        ('images a step', lambda run: run.get('provenance', 'global_batch')),
        ('peak learning rate', lambda run: _number(run.get('lr'))),
        ('seed', lambda run: run.get('provenance', 'seed')), ('iterations', _iterations),
        ('cost: images seen', _images_seen),
        ('cost: training time', lambda run: duration(3600 * run.hours) if run.hours else None),
        ('cost: energy', _energy),
        ('drawing pictures', lambda run: duration(run.pictures['seconds'])
         if run.pictures and isinstance(run.pictures.get('seconds'), (int, float)) else None),
        ('device', _device), ('processor', lambda run: run.get('machine', 'processor')),
        ('densessl', lambda run: run.get('provenance', 'densessl')),
        ('PyTorch', lambda run: run.get('provenance', 'torch')),
        ('first begun', _begun)]
    lines = [(name, *(_said(value(run)) for run in runs)) for name, value in rows]
    lines = [line for line in lines if any(cell != UNSAID for cell in line[1:])]
    differing = [i for i, line in enumerate(lines) if len(set(line[1:])) > 1]
    notes = ''.join(page.paragraph(f'{run.name}: {OLD}', 'soft') for run in runs if not run.facts)
    return notes + page.table(('', *(run.name for run in runs)), lines, strong=differing)


def _energy(run: RecordedRun) -> str:
    counted = run.figures.get('energy_kwh')
    return f'{counted[-1][1]:.3g} kWh' if counted else 'not counted by this machine'


def mask_table(runs: Sequence[RecordedRun]) -> str:
    """How masks were made, and what of them came into the views."""
    lines = []
    for run in runs:
        regions, positives = ([value for _, value in run.figures.get(key, ())] for key in
                              ('regions_a_view', 'anchors_with_positive'))
        lines.append((run.name, _masks(run) if run.facts else UNSAID,
                      _number(np.mean(regions)) if regions else UNSAID,
                      f'{np.mean(positives):.0%}' if positives else UNSAID))
    return page.table(('run', 'masks', 'regions a view, mean', 'anchors with a positive, mean'),
                      lines, numbers=(2, 3))


def score_table(runs: Sequence[RecordedRun]) -> str:
    """Scores of fine-tuning runs that lie in the runs' folders."""
    lines = [(run.name, folder, name, 'none' if value is None else f'{value:.2f}')
             for run in runs for folder, scores in run.scores.items()
             for name, value in scores.items()]
    if not lines:
        return page.paragraph('None yet: no fine-tuning run lies in the work folder. densessl '
                              'finetune --work-dir inside it puts its scores here.', 'soft')
    return page.table(('run', 'fine-tuned in', 'score', 'value'), lines, numbers=(3,))


def details(run: RecordedRun) -> str:
    """Notes, versions and the config in full, folded."""
    notes = run.get('notes', default=[])
    parts = [page.paragraph('Differs from the recipe: ' + '; '.join(map(str, notes)))
             if notes else '']
    if run.get('versions'):
        parts.append(page.folded(f'{run.name}: versions', page.table((), run.get(
            'versions').items())))
    if run.config:
        parts.append(page.folded(f'{run.name}: config in full', page.verbatim(run.config)))
    return ''.join(parts)


def _begun(run: RecordedRun) -> str | None:
    try:
        begun = time.strptime(run.get('begun', default=''), '%Y%m%d_%H%M%S')
    except (TypeError, ValueError):
        return None
    return time.strftime('%Y-%m-%d %H:%M', begun)


def _start(run: RecordedRun) -> str | None:
    links = run.get('provenance', 'start')
    if isinstance(links, list) and links and isinstance(links[0], Mapping):
        return ' '.join(f'{links[0].get("file")} ({links[0].get("network", "?")})'.split())
    return 'random weights' if run.facts else None


def _data(run: RecordedRun) -> str | None:
    count = run.get('provenance', 'images')
    return None if count is None else f'{count} of {run.get("data", default="?")}'


def _masks(run: RecordedRun) -> str:
    info = run.get('masks')
    if not isinstance(info, Mapping):
        return 'none: the method takes no masks'
    values = ', '.join(f'{key} {value}' for key, value in (info.get('parameters') or {}).items())
    return f'{info.get("generator", "of unknown origin")}' + (f' ({values})' if values else '')


def _iterations(run: RecordedRun) -> str:
    return f'{run.last} of {run.iterations}' if run.iterations else f'{run.last}'


def _images_seen(run: RecordedRun) -> str | None:
    batch, accumulate = run.get('provenance', 'global_batch'), run.get('accumulate', default=1)
    return f'{run.last * batch // accumulate:,}' if isinstance(batch, int) and accumulate else None


def _device(run: RecordedRun) -> str | None:
    if not run.get('device'):
        return None
    gpus = run.get('machine', 'accelerator', default='none')
    return f'{run.get("device")}, {run.get("processes")} process' + (
        'es' if run.get('processes') != 1 else '') + (f', {gpus}' if gpus != 'none' else '')


def _number(value: Any) -> str | None:
    return f'{value:.4g}' if isinstance(value, (int, float)) else None


def _said(value: Any) -> str:
    return UNSAID if value is None else str(value)
